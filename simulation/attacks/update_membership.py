"""update_membership: was this patient among those who made this update?

All rows of the big layer's change lie in the span of the cases' features, so the part of a candidate's vector that lies
in the rows' span is larger for those who took part.  Few numbers for many cases leave little of each, but a stranger's
vector has less.  After the gradient-alignment test of Li et al. 2023, "Effective passive membership inference attacks
in federated learning against overparameterized models" (ICLR), here for updates instead of gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from client.store.cohort import TrainingCases
from client.training.standardised import StandardisedMaps
from common.messages.model import ModelState
from common.messages.train_round import TrainRoundReply
from common.messages.weight_update import unpack
from simulation.attacks.hospitals import FIRST, Hospitals, three_hospitals
from simulation.attacks.material import Material, attacked_protocol
from simulation.attacks.membership import AUC_THRESHOLD, membership_figures
from simulation.attacks.outcome import Attack, Measured, Outcome

__all__ = ["attack_update_membership", "share_in_span"]

Array = np.ndarray[Any, Any]
BIG = "visual.weight"
NOISE = 1e-3


def share_in_span(reply: TrainRoundReply, cases: TrainingCases, model: ModelState) -> Array:
    """Of each case, how much of its standardised vector's length lies in the span of the update's rows: 0 to 1."""
    change = unpack(reply.update, model.weights)[BIG].astype(float)
    first = model.weights[BIG].ravel().astype(float)
    change -= (change.ravel() @ first / (first @ first) * first).reshape(change.shape)  # weight decay
    _, sizes, directions = np.linalg.svd(change, full_matrices=False)
    directions = directions[sizes > NOISE * sizes[0]]
    vectors = StandardisedMaps.under(model, cases.visual, device="cpu").whole().double().numpy()
    return np.asarray(np.linalg.norm(vectors @ directions.T, axis=1) / np.linalg.norm(vectors, axis=1))


def attack_update_membership(
    material: Material, *, seed: int, cases: int = 68, epochs: int = 5, epsilon: float = 8.0
) -> Attack:
    """One round's update of a hospital, and the sum of three; members against as many strangers as there are."""
    big, small = (three_hospitals(material, cases, epochs, seed, small=kind) for kind in (False, True))
    private = attacked_protocol(epochs=epochs, epsilon=epsilon)
    setting = f"one round, {cases} cases, {epochs} epochs"

    def auc(hospitals: Hospitals, reply: TrainRoundReply, names: tuple[str, ...]) -> Measured:
        inside = [share_in_span(reply, hospitals.sites[name], hospitals.model) for name in names]
        outside = share_in_span(reply, hospitals.others, hospitals.model)
        scores = np.concatenate([*inside, outside])
        member = np.arange(len(scores)) < len(scores) - len(outside)
        return membership_figures(scores[None], member[None], seed=seed)[0]

    plain = auc(big, big.reply(), (FIRST,))
    packed = auc(big, big.reply(encoding="low_rank_int8"), (FIRST,))
    summed = auc(big, big.summed(), tuple(big.sites))
    little = auc(small, small.reply(), (FIRST,))
    noisy = auc(small, small.reply(private=private), (FIRST,))
    how = f"epsilon {epsilon:g} over {private.training.rounds} rounds"
    rows = (
        (setting, plain, "low_rank_int8", packed, False, "one byte a number hides nothing"),
        (setting, plain, "the door", plain, False, "enough cases: the update leaves as it is"),
        (setting, plain, "secure sums", summed, False, "the sum of 3 such sites: hides where, not whether"),
        (f"small head, {setting}", little, "differential privacy", noisy, True, how),
    )
    return Attack(
        name="update-membership",
        title="Was this patient in this round?",
        question="Can the server, which holds a patient's features, tell from one update whether the patient was in it?",
        knows="the update (or the sum of three), the model's standardisation and the patient's visual features",
        source="Li et al. 2023",
        outcomes=tuple(
            Outcome(where, "AUC", clear, protection, found, 0.5, AUC_THRESHOLD, claimed=claimed, how=words)
            for where, clear, protection, found, claimed, words in rows
        ),
        remains=(
            "Whoever runs the server and is a hospital, too, may hold features of patients who went elsewhere. Over many "
            "rounds the evidence adds up; one was looked at."
        ),
    )
