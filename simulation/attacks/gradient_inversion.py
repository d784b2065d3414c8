"""gradient_inversion: features of single cases out of one update of the fully connected layer.

The change of the layer and of its bias are  dW = A' X  and  db = A' 1  with one row of A per case, after any number of
local steps, once the weight decay that everybody knows is taken off.  So

    one case       dW_k / db_k is the case, for every unit k that moved     Phong et al. 2018, 10.1109/TIFS.2017.2787987
    a unit that only one case moved     the same, in a batch of any size    Boenisch et al. 2021, arXiv 2112.02918
    few cases      the rows of dW span them; independent components of that span are single cases, since the patterns
                   of two persons are nearly independent                    Kariyappa et al. 2023, arXiv 2209.05578

Measured: the cosine between the best of all guesses and a case's vector of standardised features, highest over the
cases of the update; guessing: the same for cases that were not in it, since heads resemble each other.  The attack
counts as successful from halfway between guessing and the case itself on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from client.store.cohort import TrainingCases
from client.training.standardised import StandardisedMaps
from common.config.training import TrainingSettings
from common.messages.model import ModelState
from common.messages.train_round import TrainRoundReply
from common.messages.weight_update import unpack
from simulation.attacks.hospitals import FIRST, Hospitals, three_hospitals
from simulation.attacks.material import Material, attacked_protocol
from simulation.attacks.outcome import Attack, Measured, Outcome
from simulation.attacks.server_view import admitted

__all__ = ["attack_gradients", "guess_cases", "resemblance"]

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

NOISE = 1e-3
"""Singular values below this part of the first are rounding."""
REPEATS = 3
FEWEST = 10
"""Cases that a door wants behind an update."""


def guess_cases(reply: TrainRoundReply, model: ModelState, training: TrainingSettings, *, steps: int) -> Array:
    """Guesses x features: what a server that reads this update takes for single cases.

    steps: local ones, which follow from the number of cases that the reply states; without local momentum.
    """
    return _guesses(unpack(reply.update, model.weights), model.weights, training, reply.cases, steps)


def resemblance(guesses: Array, cases: TrainingCases, model: ModelState) -> Array:
    """Of each case, the largest |cosine| between a guess and its standardised features; zero without a guess."""
    true = StandardisedMaps.under(model, cases.visual, device="cpu").whole().double().numpy()
    if not len(guesses):
        return np.zeros(len(true))
    both = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30) for rows in (guesses, true)]
    return np.asarray(np.abs(both[0] @ both[1].T).max(axis=0))


def _guesses(changes: Arrays, before: Arrays, training: TrainingSettings, cases: int, steps: int) -> Array:
    kept = (1 - training.learning_rate * training.weight_decay) ** steps - 1
    weight = changes["visual.weight"].astype(float) - kept * before["visual.weight"]
    bias = changes["visual.bias"].astype(float) - kept * before["visual.bias"]
    moved = np.abs(bias) > NOISE * np.abs(bias).max(initial=0)
    return np.concatenate([weight[moved] / bias[moved, None], weight, _components(weight, cases)])


def _components(weight: Array, cases: int) -> Array:
    """As many independent components as the rows' span has directions, at most one for each case."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    _, sizes, directions = np.linalg.svd(weight, full_matrices=False)
    rank = min(int((sizes > NOISE * sizes[0]).sum()), cases)
    if rank < 2 or sizes[0] == 0:
        return directions[:rank]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixed = FastICA(rank, whiten="unit-variance", random_state=0, max_iter=400)
        return np.asarray(mixed.fit_transform(directions[:rank].T)).T


def attack_gradients(
    material: Material,
    *,
    seed: int,
    sizes: tuple[int, ...] = (1, 2, 16, 68),
    epochs: tuple[int, ...] = (1, 5),
    epsilon: float = 8.0,
) -> Attack:
    """Every size of a hospital, by every protection; the worst of a few draws of cases.

    Differential privacy is for small heads only (R49), so its rows are of the small head.
    """
    outcomes: list[Outcome] = []
    for cases in sizes:
        for passes in epochs:
            scenes = [three_hospitals(material, cases, passes, seed + i) for i in range(REPEATS)]
            outcomes += _outcomes(scenes, _named(cases, passes))
    for cases in (n for n in sizes if n >= FEWEST):
        scenes = [three_hospitals(material, cases, max(epochs), seed + i, small=True) for i in range(REPEATS)]
        outcomes.append(_private_outcome(scenes, f"small head, {_named(cases, max(epochs))}", epsilon))
    return Attack(
        name="gradient-inversion",
        title="Features of single patients out of a site's update",
        question="How much of one patient's visual features can the server read out of the update that a hospital sends?",
        knows="the model of the round, the protocol, and the hospital's update (or the sum of three hospitals' updates)",
        source="Phong et al. 2018; Boenisch et al. 2021; Kariyappa et al. 2023",
        outcomes=tuple(outcomes),
        remains=(
            "Enough cases and secure sums hide whose vector it is, not that one is in the sum: a hidden unit that few cases "
            "move tells them, however many others there are. Only differential privacy stops that, and only small heads "
            "learn under it. A server is assumed that follows the protocol; one that sends weights made for the purpose "
            "isolates more cases (Boenisch et al. 2021). From features back to an image was not tried."
        ),
    )


def _named(cases: int, epochs: int) -> str:
    return f"{cases} case{'s' * (cases > 1)}, {epochs} epoch{'s' * (epochs > 1)}"


def _outcomes(scenes: list[Hospitals], setting: str) -> list[Outcome]:
    """Of one size and number of epochs, the big head."""
    replies = [scene.reply() for scene in scenes]
    plain = [_found(scene, reply) for scene, reply in zip(scenes, replies, strict=True)]
    guesses = [_guessed(scene, reply) for scene, reply in zip(scenes, replies, strict=True)]
    row = partial(_row, setting, plain, guesses)
    packed = [_found(scene, scene.reply(encoding="low_rank_int8")) for scene in scenes]
    rows = [row("low_rank_int8", packed, how="one byte a number hides nothing")]
    door = admitted("train_round", replies[0])
    if isinstance(door, str):
        rows.append(row("the door", guesses, claimed=True, how=f"refused: {door}"))
    else:
        rows.append(row("the door", plain, how="enough cases: the update leaves as it is"))
    if scenes[0].cases < scenes[0].protocol.federation.min_cases:
        rows.append(row("secure sums", guesses, claimed=True, how="the site may not take part: too-few-cases"))
    else:
        names = tuple(scenes[0].sites)
        summed = [_found(scene, scene.summed(), names) for scene in scenes]
        rows.append(row("secure sums", summed, how=f"the sum of {len(names)} such sites"))
    return rows


def _private_outcome(scenes: list[Hospitals], setting: str, epsilon: float) -> Outcome:
    private = attacked_protocol(epochs=scenes[0].protocol.training.local_epochs, epsilon=epsilon)
    asked = private.privacy.record_level
    steps = 0 if asked is None else asked.steps(private.training)
    replies = [scene.reply() for scene in scenes]
    plain = [_found(scene, reply) for scene, reply in zip(scenes, replies, strict=True)]
    guesses = [_guessed(scene, reply) for scene, reply in zip(scenes, replies, strict=True)]
    noisy = [_found(scene, scene.reply(private=private), steps=steps) for scene in scenes]
    how = f"epsilon {epsilon:g} over {private.training.rounds} rounds"
    return _row(setting, plain, guesses, "differential privacy", noisy, claimed=True, how=how)


def _found(scene: Hospitals, reply: TrainRoundReply, names: tuple[str, ...] = (FIRST,), steps: int = 0) -> Array:
    """Resemblance to each case of these sites."""
    guesses = _guesses_of(scene, reply, steps)
    return np.concatenate([resemblance(guesses, scene.sites[name], scene.model) for name in names])


def _guessed(scene: Hospitals, reply: TrainRoundReply) -> Array:
    """Resemblance to as many cases that had no part in it."""
    return resemblance(_guesses_of(scene, reply, 0), scene.others, scene.model)[: reply.cases]


def _guesses_of(scene: Hospitals, reply: TrainRoundReply, steps: int) -> Array:
    training = scene.protocol.training
    return guess_cases(reply, scene.model, training, steps=steps or training.steps(scene.cases))


def _row(
    setting: str,
    plain: list[Array],
    guesses: list[Array],
    protection: str,
    found: list[Array],
    *,
    claimed: bool = False,
    how: str = "",
) -> Outcome:
    """Highest resemblance in any draw of cases, and how many cases are above the threshold."""
    guessing = _worst(guesses).value
    threshold = (1 + guessing) / 2
    read, of = sum(int((part >= threshold).sum()) for part in found), sum(map(len, found))
    return Outcome(
        setting,
        "cosine of the best guess",
        _worst(plain),
        protection,
        _worst(found),
        guessing,
        threshold,
        claimed=claimed,
        how=f"{how}; {read} of {of} cases read" if read else how,
    )


def _worst(found: list[Array]) -> Measured:
    """The highest of all draws, with the range over them."""
    best = [float(part.max()) for part in found]
    return Measured(max(best), min(best), max(best))
