"""segmentation: where the whole-tumour mask comes from, which network draws it and how that one learns (METHOD R17-R19)."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.config.base import Settings
from common.config.training import ServerSettings, TrainingSettings

__all__ = [
    "HALVINGS",
    "WEIGHTS_NAME",
    "NetworkSettings",
    "SegResNetSettings",
    "SegmentationSettings",
    "SegmenterTraining",
    "Sequence",
    "UNetSettings",
]

Sequence = Literal["t1", "t1ce", "t2", "flair"]
Inputs = tuple[Sequence, ...]

HALVINGS = 3
"""Down-samplings of every network of the family: edges divisible by 8, a deepest map of an eighth of each edge."""

WEIGHTS_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Of a file of weights, without its ending."""

Width = Annotated[int, Field(ge=2, le=1024)]


class _Network(Settings):
    inputs: Inputs

    @model_validator(mode="after")
    def _holds_both_sequences(self) -> Self:
        if len(set(self.inputs)) != len(self.inputs) or not {"t1ce", "flair"} <= set(self.inputs):
            raise ValueError("inputs names t1ce and flair, and each sequence at most once")
        return self


class UNetSettings(_Network):
    """MONAI's U-Net with instance normalisation and one output.

    inputs: channels in this order; the study's cases have T1CE and FLAIR, every other channel is zero.  For networks
        of the four BraTS sequences: [t1, t1ce, t2, flair].
    channels: of the four levels; the last is the depth of the visual map (256 for the paper's length, R21).
    residual_units: per level; 0 gives plain convolutions.
    """

    architecture: Literal["unet"] = "unet"
    inputs: Inputs = ("t1ce", "flair")
    channels: tuple[Width, Width, Width, Width] = (32, 64, 128, 256)
    residual_units: Annotated[int, Field(ge=0, le=4)] = 0

    @property
    def deepest(self) -> int:
        """Channels of the deepest map."""
        return self.channels[-1]


class SegResNetSettings(_Network):
    """MONAI's SegResNet (Myronenko 2018, arXiv 1810.11654) as the bundle brats_mri_segmentation holds it.

    inputs: in the order of the bundle's metadata; its own are [t1ce, t1, t2, flair].
    outputs, whole_tumour: how many maps it draws and which of them is the whole tumour.
    """

    architecture: Literal["segresnet"]
    inputs: Inputs = ("t1ce", "t1", "t2", "flair")
    init_filters: Annotated[int, Field(ge=8, le=128, multiple_of=8)] = 16
    blocks_down: Annotated[tuple[int, ...], Field(min_length=HALVINGS + 1, max_length=HALVINGS + 1)] = (1, 2, 2, 4)
    blocks_up: Annotated[tuple[int, ...], Field(min_length=HALVINGS, max_length=HALVINGS)] = (1, 1, 1)
    outputs: Annotated[int, Field(ge=1, le=16)] = 3
    whole_tumour: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _has_the_output(self) -> Self:
        if self.whole_tumour >= self.outputs:
            raise ValueError(f"whole_tumour is output {self.whole_tumour}, but the network has {self.outputs}")
        return self

    @property
    def deepest(self) -> int:
        """Channels of the deepest map."""
        return self.init_filters << HALVINGS


NetworkSettings = Annotated[UNetSettings | SegResNetSettings, Field(discriminator="architecture")]


class SegmenterTraining(Settings):
    """How the U-Net learns, at one site or federated: Dice and cross-entropy on random cubes of the training cases.

    strategy: `fedsgd` is the exact mode: one gradient step a round over one cube of every case, equal to pooled.
    rounds, local_epochs: an epoch takes one cube of every training case.  A site alone trains the same rounds.
    optimiser: its state starts afresh each round, so that a site keeps nothing between rounds.
    schedule: of the local rate over the rounds; `cosine` falls from it towards 0.
    momentum: of `sgd`.
    batch_size: cubes.  patch_voxels: their edge.
    encoding: of the change on its way to the server; `fedsgd` sends float32.
    largest_norm, largest_value, server: as in training.
    """

    rounds: Annotated[int, Field(ge=1, le=1000)] = 40
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    strategy: Literal["fedavg", "fedavgm", "fedsgd"] = "fedavg"
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    batch_size: Annotated[int, Field(ge=1, le=64)] = 2
    patch_voxels: Annotated[int, Field(ge=16, le=160, multiple_of=8)] = 64
    encoding: Literal["float32", "float16", "int8"] = "float16"
    largest_norm: Annotated[float, Field(gt=0)] = 1e3
    largest_value: Annotated[float, Field(gt=0)] = 1e2
    server: ServerSettings = ServerSettings()

    def rate(self, round_number: int) -> float:
        """The local learning rate of a round, counted from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (round_number - 1) / self.rounds))

    @property
    def wire_encoding(self) -> Literal["float32", "float16", "int8"]:
        """What travels."""
        return "float32" if self.strategy == "fedsgd" else self.encoding

    @property
    def merging(self) -> TrainingSettings:
        """What the server's strategies and the gate read."""
        return TrainingSettings(
            rounds=self.rounds,
            strategy=self.strategy,
            largest_norm=self.largest_norm,
            largest_value=self.largest_value,
            server=self.server,
        )


class SegmentationSettings(Settings):
    """source: `network` runs the network; `imported` takes the manifest's masks (reader-corrected, or the
    true masks of a synthetic cohort).

    weights: name of a weights file, the site's own (`fedmidline-site segment import`) or shipped under
        client/segment/weights, checked by `weights_sha256` when given.
    network: what the weights are of.
    review: `required` lets only masks that a reader accepted into features, a study and the network's training; with
        `not_required` automatic masks may enter a study (a replay on synthetic data) and the manifest's masks train.
    second_reader_fraction: share of the cases that two readers see (R18).
    working_mm: voxel size the network was trained at; the probability map, not the mask, is resampled.
    window_voxels: edge of a sliding window, overlapping by half, for a GPU too small for a brain; 0: the brain at once.
    flips: mean over the image and its mirror images along these axes.
    training: how `fedmidline-site segment train` and a study of the network learn; no part of a case's key.
    """

    source: Literal["network", "imported"] = "network"
    review: Literal["not_required", "required"] = "not_required"
    second_reader_fraction: Annotated[float, Field(ge=0, le=1)] = 0.15
    weights: Annotated[str, Field(pattern=WEIGHTS_NAME)] = "synthetic-v1"
    weights_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    network: NetworkSettings = UNetSettings()
    working_mm: Annotated[float, Field(gt=0, le=5)] = 2.0
    window_voxels: Annotated[int, Field(ge=0, le=512, multiple_of=8)] = 0
    flips: Literal["none", "left_right", "all"] = "none"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    smallest_component_ml: Annotated[float, Field(ge=0)] = 0.3
    training: SegmenterTraining = SegmenterTraining()
