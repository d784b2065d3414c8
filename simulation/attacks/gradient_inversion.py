"""gradient_inversion: features of single cases out of one update of the fully connected layer.

The change of the layer and of its bias are  dW = A' X  and  db = A' 1  with one row of A per case, after any number of
local steps, once the weight decay that everybody knows is taken off.  So

    one case       dW_k / db_k is the case, for every unit k that moved     Phong et al. 2018, 10.1109/TIFS.2017.2787987
    a unit that only one case moved     the same, in a batch of any size    Boenisch et al. 2021, arXiv 2112.02918
    few cases      the rows of dW span them; independent components of that span are single cases, since the patterns
                   of two persons are nearly independent                    Kariyappa et al. 2023, arXiv 2209.05578

Measured: the cosine between the best of all guesses and a case's vector of standardised features, highest over the
cases of the update; guessing: the same for cases that were not in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from client.store.cohort import TrainingCases
from client.training.standardised import StandardisedMaps
from common.config.protocol import Protocol
from common.config.training import TrainingSettings
from common.messages.model import ModelState
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.visual_moments import moments_digest
from common.messages.weight_update import unpack
from common.seeds import stream
from simulation.attacks.material import Material, attacked_protocol, start_model, take
from simulation.attacks.outcome import Attack, Measured, Outcome
from simulation.attacks.server_view import admitted, site_update, sum_securely

__all__ = ["attack_gradients", "guess_cases", "resemblance"]

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]

THRESHOLD = 0.5
"""Of the cosine: a quarter of the vector's energy."""
NOISE = 1e-3
"""Singular values below this part of the first are rounding."""
SITES = 3
REPEATS = 3


def guess_cases(reply: TrainRoundReply, model: ModelState, training: TrainingSettings, *, steps: int) -> Array:
    """Guesses x features: what a server that reads this update takes for single cases.

    steps: local ones, which follow from the number of cases that the reply states.
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
    _, sizes, directions = np.linalg.svd(weight, full_matrices=False)
    rank = min(int((sizes > NOISE * sizes[0]).sum()), cases)
    if rank < 2 or sizes[0] == 0:
        return directions[:rank]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixed = FastICA(rank, whiten="unit-variance", random_state=0, max_iter=400)
        return np.asarray(mixed.fit_transform(directions[:rank].T)).T


@dataclass(frozen=True)
class _Scene:
    """Three hospitals of `cases` each, and everybody else."""

    sites: dict[str, TrainingCases]
    others: TrainingCases
    model: ModelState
    protocol: Protocol

    def steps(self) -> int:
        return self.protocol.training.steps(len(next(iter(self.sites.values())).table))

    def reply(self, name: str, encoding: str = "float32") -> TrainRoundReply:
        training = self.protocol.training.model_copy(update={"encoding": encoding})
        return site_update(
            self.sites[name], self.model, self.protocol.model_copy(update={"training": training}), site=name
        )

    def found(self, reply: TrainRoundReply, names: tuple[str, ...]) -> float:
        """Highest resemblance to a case of these sites."""
        guesses = guess_cases(reply, self.model, self.protocol.training, steps=self.steps())
        return max(float(resemblance(guesses, self.sites[name], self.model).max()) for name in names)

    def guessed(self, reply: TrainRoundReply) -> float:
        """Highest resemblance to as many cases that had no part in it."""
        guesses = guess_cases(reply, self.model, self.protocol.training, steps=self.steps())
        return float(resemblance(guesses, self.others, self.model)[: reply.cases].max())


def _scene(material: Material, cases: int, epochs: int, seed: int) -> _Scene:
    protocol = attacked_protocol(epochs=epochs)
    order = stream(seed, "inversion", cases, epochs).permutation(len(material))
    everyone = take(material, order, small=False)
    parts = {f"site-{i}": take(material, order[cases * i : cases * (i + 1)], small=False) for i in range(SITES)}
    others = take(material, order[cases * SITES :], small=False)
    return _Scene(parts, others, start_model(everyone, protocol), protocol)


def _summed(scene: _Scene) -> TrainRoundReply:
    request = TrainRoundRequest(
        fingerprint=scene.protocol.fingerprint(),
        study="attacked",
        round=1,
        model=scene.model,
        moments=moments_digest(scene.model),
    )
    total = sum_securely({name: scene.reply(name) for name in scene.sites}, request).total
    if not isinstance(total, TrainRoundReply):
        raise TypeError("the sum of training rounds")
    return total


def attack_gradients(
    material: Material, *, seed: int, sizes: tuple[int, ...] = (1, 2, 16, 68), epochs: tuple[int, ...] = (1, 5)
) -> Attack:
    """Every size of a hospital, by every protection; medians over a few draws of cases."""
    outcomes: list[Outcome] = []
    for cases in sizes:
        for passes in epochs:
            scenes = [_scene(material, cases, passes, seed + i) for i in range(REPEATS)]
            outcomes += _outcomes(scenes, f"{cases} case{'s' * (cases > 1)}, {passes} epoch{'s' * (passes > 1)}")
    return Attack(
        name="gradient-inversion",
        title="Features of single patients out of a site's update",
        question="How much of one patient's visual features can the server read out of the update that a hospital sends?",
        knows="the model of the round, the protocol, and the hospital's update (or the sum of three hospitals' updates)",
        source="Phong et al. 2018; Boenisch et al. 2021; Kariyappa et al. 2023",
        outcomes=tuple(outcomes),
        remains=(
            "A server that follows the protocol is assumed. One that sends weights made for the purpose can isolate single "
            "cases in larger batches (Boenisch et al. 2021); the sites compare neither the model's weights with the sums of "
            "the round before nor the server's arithmetic. From features back to an image was not tried."
        ),
    )


def _outcomes(scenes: list[_Scene], setting: str) -> list[Outcome]:
    """Of one size and number of epochs."""

    def row(protection: str, found: list[float], *, claimed: bool, how: str = "") -> Outcome:
        value = Measured(float(np.median(found)), min(found), max(found))
        return Outcome(setting, "cosine", clear, protection, value, guessing, THRESHOLD, claimed=claimed, how=how)

    cases = len(next(iter(scenes[0].sites.values())).table)
    replies = [scene.reply("site-0") for scene in scenes]
    plain = [scene.found(reply, ("site-0",)) for scene, reply in zip(scenes, replies, strict=True)]
    clear = Measured(float(np.median(plain)), min(plain), max(plain))
    guesses = [scene.guessed(reply) for scene, reply in zip(scenes, replies, strict=True)]
    guessing = float(np.median(guesses))
    small = [scene.found(scene.reply("site-0", "low_rank_int8"), ("site-0",)) for scene in scenes]
    rows = [row("low_rank_int8", small, claimed=False, how="one byte a number hides nothing")]
    through = admitted("train_round", replies[0])
    if isinstance(through, str):
        rows.append(row("the door", guesses, claimed=True, how=f"the update is refused: {through}"))
    else:
        rows.append(row("the door", plain, claimed=False, how="enough cases: the update leaves as it is"))
    if cases < scenes[0].protocol.federation.min_cases:
        rows.append(row("secure sums", guesses, claimed=True, how="the site may not take part: too-few-cases"))
    else:
        names = tuple(scenes[0].sites)
        summed = [scene.found(_summed(scene), names) for scene in scenes]
        rows.append(row("secure sums", summed, claimed=True, how=f"the sum of {len(names)} sites, {cases} cases each"))
    return rows
