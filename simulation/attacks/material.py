"""material: the cases that are attacked: drawn, or the prepared ones of a replay.

    radiomics   cases x the protocol's features
    visual      the big head's features: of a replay's map every so many-th, so that the attacks take minutes
    pooled      the small head's: the mean of each of the map's channels

Drawn maps are what a network's last rectified layer looks like: zero in half of the places, smooth within a channel,
the same anatomy in everyone and a person's own pattern on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from client.site import open_site
from client.store.cohort import TrainingCases
from client.tasks.load_cohort import load_cohort
from client.visual_maps import VisualMaps
from common.catalogue import PAPER_SIGNATURE
from common.config.modelling import SelectionSettings
from common.config.privacy import PrivacySettings, RecordLevelSettings
from common.config.protocol import Protocol
from common.config.training import TrainingSettings
from common.config.visual import VisualSettings
from common.errors import InputError
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.networks.fused_head import initial_weights
from common.seeds import stream
from common.tables import TrainingTable

__all__ = ["Material", "attacked_protocol", "draw_material", "material_of_replay", "start_model", "take"]

Array = np.ndarray[Any, Any]
CHANNELS = 256
PLACES = 16
LONGEST = CHANNELS * PLACES
ANATOMIES = 6
"""Directions in which persons' radiomics features vary together."""


@dataclass(frozen=True)
class Material:
    """One row per person in all three; source: for the report's reader."""

    radiomics: TrainingTable
    visual: Array
    pooled: Array
    source: str

    def __len__(self) -> int:
        return len(self.radiomics)


def attacked_protocol(
    *, epochs: int = 5, rounds: int = 10, rate: float = 0.1, epsilon: float | None = None
) -> Protocol:
    """The recommended head and optimiser with a signature that was chosen beforehand.

    epsilon: of record-level differential privacy, over all rounds; None for none.
    """
    training = {"rounds": rounds, "local_epochs": epochs, "learning_rate": rate, "encoding": "float32"}
    private = None if epsilon is None else RecordLevelSettings(target_epsilon=epsilon)
    return Protocol(
        name="attacked",
        visual=VisualSettings(variant="pooled"),
        selection=SelectionSettings(method="fixed_signature"),
        training=TrainingSettings.model_validate({**training, "broadcast": "float32"}),
        privacy=PrivacySettings(record_level=private),
    )


def draw_material(seed: int, *, cases: int = 254, places: int = PLACES, channels: int = CHANNELS) -> Material:
    """Persons of both classes alike, who differ by class in forty radiomics features and a little everywhere."""
    rng = stream(seed, "attacked cohort")
    altered = rng.permutation(np.arange(cases) % 2 == 0)
    sign = np.where(altered, 1.0, -1.0)[:, None]
    names = Protocol(name="attacked").radiomics.names()
    common = rng.standard_normal((cases, ANATOMIES)) @ rng.standard_normal((ANATOMIES, len(names)))
    values = 0.4 * common + rng.standard_normal((cases, len(names)))
    told = rng.permutation(len(names))[:40]
    told = np.union1d(told, [names.index(name) for name in PAPER_SIGNATURE[:6]])
    values[:, told] += 0.25 * sign
    smooth = rng.standard_normal((cases, channels, places + 2))
    smooth = (smooth[..., :-2] + smooth[..., 1:-1] + smooth[..., 2:]) / np.sqrt(3)
    anatomy = rng.standard_normal((1, channels, places))
    effect = rng.standard_normal((1, channels, 1))
    maps = np.maximum(anatomy + smooth + 0.03 * sign[..., None] * effect, 0).astype(np.float32)
    return Material(
        TrainingTable(names, values, altered),
        maps.reshape(cases, -1),
        maps.mean(axis=2),
        f"{cases} persons drawn at random (seed {seed}); no image",
    )


def material_of_replay(folder: Path) -> Material:
    """All prepared cases of a finished replay.  InputError `replay-missing`."""
    settings = folder / "single-centre" / "site.yaml"
    if not settings.exists():
        raise InputError(
            "replay-missing",
            field="from-replay",
            problem="The folder holds no replay with prepared cases.",
            fix="Name the folder of a finished `fedmidline-sim replay`, or leave the option out.",
            local=str(folder),
        )
    site = open_site(settings)
    cohort = load_cohort(site)
    views = (cohort.training, cohort.test)
    table = TrainingTable(
        cohort.training.table.names,
        np.concatenate([view.table.values for view in views]),
        np.concatenate([view.table.altered for view in views]),
    )
    channels = site.protocol.visual.map_channels
    rows = [np.asarray(row, np.float32) for view in views for row in view.visual]
    step = max(1, len(rows[0]) // LONGEST)
    return Material(
        table,
        np.stack([row[::step] for row in rows]),
        np.stack([row.reshape(channels, -1).mean(axis=1) for row in rows]),
        f"{len(table)} synthetic heads of a replay, every {step}th of {len(rows[0])} visual features",
    )


def take(material: Material, cases: Array, *, small: bool) -> TrainingCases:
    """These persons as a site's training cases; small: with the small head's features."""
    table = material.radiomics
    part = replace(table, values=table.values[cases], altered=table.altered[cases]).columns(PAPER_SIGNATURE)
    maps = (material.pooled if small else material.visual)[cases]
    return TrainingCases(part, VisualMaps.of(maps), tuple(f"person-{i}" for i in cases))


def start_model(cases: TrainingCases, protocol: Protocol) -> ModelState:
    """What a study trains from: the moments of these cases and the seed's first weights."""
    maps, values = cases.visual.to_array(), cases.table.values
    spread = maps.std(axis=0, dtype=np.float64).astype(np.float32)
    return ModelState(
        harmoniser=Harmoniser(),
        weights=initial_weights(maps.shape[1], len(cases.table.names), protocol.head, seed=protocol.seed),
        signature=cases.table.names,
        radiomics_mean=values.mean(axis=0),
        radiomics_deviation=values.std(axis=0),
        visual_mean=maps.mean(axis=0, dtype=np.float64).astype(np.float32),
        visual_deviation=np.where(spread > 0, spread, 1),
    )
