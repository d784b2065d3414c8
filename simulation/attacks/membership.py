"""membership: was this patient among those a model learned from?

    loss threshold      members' losses are lower                               Yeom et al. 2018, arXiv 1709.01604
    likelihood ratio    the model's confidence in a case, beside the confidences of shadow models that learned from it
                        and of others that did not, both taken for normal       Carlini et al. 2022, arXiv 2112.03570

The attacker holds the candidate's features and label.  Half of all persons, drawn anew for each model, are its
members; every model is the target once and the others are its shadows.  AUC and the share of members found where one
in a hundred others is accused wrongly, each with an interval by resampling persons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata

from client.training.score import safety_margins
from common.config.protocol import Protocol
from common.seeds import stream
from simulation.attacks.material import Material, attacked_protocol, start_model, take
from simulation.attacks.outcome import Attack, Measured, Outcome
from simulation.federated_training import federated_training

__all__ = [
    "AUC_THRESHOLD",
    "Shadows",
    "attack_membership",
    "likelihood_ratio",
    "loss_threshold",
    "membership_figures",
    "train_shadows",
]

Array = np.ndarray[Any, Any]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

AUC_THRESHOLD = 0.65
FOUND_THRESHOLD = 0.05
ACCUSED = 0.01
SITES = 3
RESAMPLES = 200
LEAST_SPREAD = 1e-3
"""Of a shadow distribution, in logits."""


@dataclass(frozen=True)
class Shadows:
    """confidence: models x persons, the margin in favour of the true class; member: who was learned from."""

    confidence: Array
    member: Flags


def train_shadows(material: Material, protocol: Protocol, *, models: int, seed: int) -> Shadows:
    """So many whole studies of three hospitals, an even number of at least four, each from half of all persons."""
    everyone = take(material, np.arange(len(material)), small=True)
    start = start_model(everyone, protocol)
    rng = stream(seed, "shadow models")
    sign = np.where(material.radiomics.altered, -1.0, 1.0)
    confidence, member = [], []
    halves: list[Array] = []
    for number in range(models):
        # A half and then the other one, so that everybody is in as many models as not (Carlini et al.).
        halves = halves or np.array_split(rng.permutation(len(material)), 2)
        chosen = halves.pop()
        own = protocol.model_copy(update={"seed": protocol.seed + number})
        sites = {f"site-{i}": take(material, part, small=True) for i, part in enumerate(np.array_split(chosen, SITES))}
        found = federated_training(sites, start, own).model
        confidence.append(
            sign * safety_margins(everyone.table, everyone.visual, found, head=protocol.head, device="cpu")
        )
        member.append(np.isin(np.arange(len(material)), chosen))
    return Shadows(np.array(confidence), np.array(member))


def loss_threshold(shadows: Shadows) -> Array:
    """Models x persons, higher for members: minus the loss, in the order of the confidence."""
    return shadows.confidence


def likelihood_ratio(shadows: Shadows) -> Array:
    """Models x persons: log likelihood of the target's confidence under models with the person over those without.

    Every model needs a shadow of both kinds for each person; spreads are shared by all persons, as the paper advises
    for few shadows.
    """
    models = len(shadows.confidence)
    scores = np.zeros(shadows.confidence.shape)
    for target in range(models):
        others = np.arange(models) != target
        seen, member = shadows.confidence[others], shadows.member[others]
        with_it, without = (np.where(kind, seen, np.nan) for kind in (member, ~member))
        means = [np.nanmean(part, axis=0) for part in (with_it, without)]
        spreads = [
            max(float(np.sqrt(np.nanmean((part - mean) ** 2))), LEAST_SPREAD)
            for part, mean in zip((with_it, without), means, strict=True)
        ]
        here = shadows.confidence[target]
        scores[target] = norm.logpdf(here, means[0], spreads[0]) - norm.logpdf(here, means[1], spreads[1])
    return scores


def membership_figures(scores: Array, member: Flags, *, seed: int) -> tuple[Measured, Measured]:
    """AUC, and the share of members found at one wrong accusation in a hundred; over all models together."""
    rng = stream(seed, "membership intervals")
    persons = scores.shape[1]
    draws = [np.arange(persons), *(rng.integers(persons, size=persons) for _ in range(RESAMPLES))]
    found = np.array([_figures(scores[:, who].ravel(), member[:, who].ravel()) for who in draws])
    low, high = np.quantile(found[1:], (0.025, 0.975), axis=0)
    auc, share = (Measured(float(found[0, i]), float(low[i]), float(high[i])) for i in range(2))
    return auc, share


def _figures(scores: Array, member: Flags) -> tuple[float, float]:
    inside, outside = int(member.sum()), int((~member).sum())
    auc = (rankdata(scores)[member].sum() - inside * (inside + 1) / 2) / (inside * outside)
    limit = np.quantile(scores[~member], 1 - ACCUSED, method="higher")
    return float(auc), float((scores[member] > limit).mean())


def _worth(shadows: Shadows) -> str:
    """What the models are good for: strangers classified rightly."""
    return f"{np.mean(shadows.confidence[~shadows.member] > 0):.0%} of strangers are classified rightly"


def attack_membership(material: Material, *, seed: int, models: int = 16, epsilon: float = 8.0) -> Attack:
    """Against the released small head; epsilon: of each case over the whole training."""
    plain, private = (attacked_protocol(rounds=20, rate=0.3, epsilon=spent) for spent in (None, epsilon))
    clear_models = train_shadows(material, plain, models=models, seed=seed)
    noisy = train_shadows(material, private, models=models, seed=seed)
    arms = (
        (
            "secure sums",
            clear_models,
            False,
            f"the model is the same: sums hide who, not whether; {_worth(clear_models)}",
        ),
        ("differential privacy", noisy, True, f"epsilon {epsilon:g} over all rounds; {_worth(noisy)}"),
    )
    outcomes = []
    for name, attack in (("loss threshold", loss_threshold), ("likelihood ratio", likelihood_ratio)):
        clear = membership_figures(attack(clear_models), clear_models.member, seed=seed)
        for protection, shadows, claimed, how in arms:
            found = membership_figures(attack(shadows), shadows.member, seed=seed)
            for i, (metric, guessing, threshold) in enumerate(
                (("AUC", 0.5, AUC_THRESHOLD), ("members found at 1 % wrongly accused", ACCUSED, FOUND_THRESHOLD))
            ):
                outcomes.append(
                    Outcome(name, metric, clear[i], protection, found[i], guessing, threshold, claimed=claimed, how=how)
                )
    return Attack(
        name="membership",
        title="Was this patient in the study?",
        question="Can somebody who has the released model and a patient's features tell whether the model learned from that patient?",
        knows=f"the released model, the patient's features and label, and {models - 1} shadow models of the same study on other halves of the population",
        source="Yeom et al. 2018; Carlini et al. 2022",
        outcomes=tuple(outcomes),
        remains=(
            "Shadow models need cases of the same population, which a hospital of the study has. Membership tells that a "
            "person had a midline glioma and was treated at one of the hospitals. The large head was not attacked here; it "
            "memorises more than the small one."
        ),
    )
