"""privacy_table: epsilon against AUC over several splits of one prepared cohort (METHOD R49), and in words what the number
of cases allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from common.config.privacy import RecordLevelSettings, StatisticsSettings
from common.config.protocol import Protocol
from common.privacy.accounting import epsilon_of
from server.reporting.privacy import told_without_noise
from simulation.compare import EPSILONS, PRIVATE, PRIVATE_TRAINING, ArmResult, statistics_noise
from simulation.comparison import comparison

__all__ = ["HEADS", "arms", "privacy_table"]

HEADS = {
    "channel means and radiomics": ("private", "channel_means"),
    "radiomics alone": ("private_radiomics", "radiomics_only"),
    "fixed signature and scale under noise, too": ("private_scale", "fixed_signature"),
    "voted signature and scale under noise, too": ("private_votes", "channel_means"),
}
"""Small heads, with the arms' prefix and the arm of the plain study."""

TARGETS = (*EPSILONS, 0.0)
"""0 is the head with its first weights, untrained: what statistics and selection, which are not private, already give."""


def arms() -> list[str]:
    """What `compare` has to run."""
    words = ["inf", *(f"{epsilon:g}" for epsilon in TARGETS)]
    found = (arm for prefix, plain in HEADS.values() for arm in (plain, *(f"{prefix}_{word}" for word in words)))
    return list(dict.fromkeys(found))


def privacy_table(results: Sequence[ArmResult], protocol: Protocol, cases: int) -> dict[str, Any]:
    """Rows by head, from no privacy to the strongest; minus_plain: paired over the splits; cases: tested in each."""
    seen = comparison(results)["arms"]
    rows = []
    for head, (prefix, plain) in HEADS.items():
        base = seen[plain]
        rows.append({"head": head, "target": None, "clipped": False, **_auc(seen, plain, plain)})
        for target in (None, *TARGETS):
            name = f"{prefix}_{'inf' if target is None else f'{target:g}'}"
            rows.append(
                {
                    "head": head,
                    "target": target,
                    "clipped": True,
                    **_spent(target, protocol, prefix),
                    **_auc(seen, name, plain),
                }
            )
    return {
        "delta": PRIVATE["delta"],
        "sampling_rate": PRIVATE["sampling_rate"],
        "max_grad_norm": PRIVATE["max_grad_norm"],
        "rounds": protocol.training.rounds,
        "splits": len(base["auc"]),
        "test_cases": cases,
        "rows": rows,
        "told_without_noise": told_without_noise(protocol, from_release=False),
        "says": _says(rows, cases),
    }


def _spent(target: float | None, protocol: Protocol, prefix: str) -> dict[str, Any]:
    """noise_multiplier: of the rounds; the arm's prefix says whether the statistics are in epsilon, too."""
    if not target:
        return {"noise_multiplier": 0.0 if target is None else None, "epsilon": target, "accountant": None}
    training = protocol.training.model_copy(update=PRIVATE_TRAINING)
    # Of the statistics only the noise counts here, not around which reference.
    beside = None
    if prefix in {"private_scale", "private_votes"}:
        noise = statistics_noise(target, vote=prefix == "private_votes")
        beside = StatisticsSettings(radiomics={}, visual=(), **noise)
    asked = RecordLevelSettings(**PRIVATE, target_epsilon=target, statistics=beside)
    rounds = asked.event(training, training.rounds)
    spent = epsilon_of([rounds, *(() if beside is None else beside.events())], asked.delta)
    # Choices are counted by rdp alone (common/privacy/accounting.py).
    accountant = "rdp" if beside is not None and beside.votes is not None else "prv"
    return {"noise_multiplier": rounds.noise_multiplier, "epsilon": spent, "accountant": accountant}


def _auc(seen: dict[str, Any], name: str, plain: str) -> dict[str, Any]:
    ours, base = seen[name]["auc"], seen[plain]["auc"]
    differences = [a - b for a, b in zip(ours, base, strict=True)]
    mean = sum(differences) / len(differences)
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / max(len(differences) - 1, 1))
    return {
        "auc": ours,
        "mean": seen[name]["mean"],
        "sd": seen[name]["sd"],
        "worst": min(ours),
        "minus_plain": mean,
        "se": spread / math.sqrt(len(differences)),
    }


def _says(rows: Sequence[dict[str, Any]], cases: int) -> list[str]:
    """Sentences by the figures."""
    found = []
    for head in HEADS:
        untrained = next(row["mean"] for row in rows if row["head"] == head and row["target"] == 0)
        private = [row for row in rows if row["head"] == head and row["target"]]
        near = [row["target"] for row in private if row["minus_plain"] > -max(0.02, 2 * row["se"])]
        kept = (
            f"no worse than without it, within chance or 0.02, down to epsilon {min(near):g}"
            if near
            else ("worse than without it at every epsilon tried")
        )
        last = min(private, key=lambda row: row["target"])
        found.append(
            f"{head}: the mean AUC with privacy is {kept}; at epsilon {last['target']:g} it is {last['mean']:.3f}, and "
            f"{last['worst']:.3f} in the worst split; the untrained head has {untrained:.3f}."
        )
    found.append(
        f"{cases} test cases resolve about 0.03 to 0.05 of an AUC in one split; the splits share cases, so their spread is too "
        "small. Learning rate and clip were not tuned under privacy; to tune them would spend, too."
    )
    found.append(
        "Scale and selection of the features are private under the fixed and the voted signature only; the other selections "
        "have seen the labels. A third of epsilon pays for the scale there, around a reference that is half a deviation off and "
        "twice as wide, and under the voted one another third for the votes, among all features. The features of a synthetic "
        "cohort probably say much the same, which noise hardly hides; expect a real cohort to lose more."
    )
    return found
