"""training: how the fused classifier learns, at the sites and on the server (METHOD R34, R35)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.config.base import Settings

__all__ = ["Encoding", "ServerSettings", "StrategyName", "TrainingSettings"]

StrategyName = Literal[
    "fedsgd",
    "fedavg",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedprox",
    "scaffold",
    "feddyn",
    "norm_clip",
    "coordinate_median",
    "trimmed_mean",
    "krum",
    "geometric_median",
]

Encoding = Literal["float32", "float16", "int8", "low_rank", "low_rank_int8"]


class ServerSettings(Settings):
    """What the server does with the sites' changes; each strategy reads only what its paper has.

    rate: factor on the merged change (all but FedAdam, FedYogi and FedDyn).
    momentum: of FedAvgM (docs/decisions/0007-optimiser.md).
    adaptive_rate, first_moment, second_moment, adaptivity: of FedAdam and FedYogi (eta, beta 1, beta 2 and tau of
        their paper).
    hostile_sites: how many broken or hostile sites trimmed mean and Krum must bear.
    """

    rate: Annotated[float, Field(gt=0, le=100)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    adaptive_rate: Annotated[float, Field(gt=0, le=1)] = 3e-3
    first_moment: Annotated[float, Field(ge=0, lt=1)] = 0.9
    second_moment: Annotated[float, Field(ge=0, lt=1)] = 0.99
    adaptivity: Annotated[float, Field(gt=0)] = 1e-3
    hostile_sites: Annotated[int, Field(ge=0)] = 1


class TrainingSettings(Settings):
    """Cross-entropy on the fused head; the U-Net is frozen unless `encoder_rate` says otherwise (R34, R35).

    strategy: how sites' changes are merged, one paper per file in server/strategy.  `fedsgd` is the exact
        mode: one full-batch gradient step per round, equal to pooled gradient descent.
    optimiser: local; its state starts afresh each round, so that sites stay stateless.  `sgd` runs on the
        cases' Gram matrix, exactly; `adamw` in plain torch (docs/decisions/0007-optimiser.md).
    learning_rate: local; with `adamw` take 1e-4 (docs/decisions/0002-learning-rate.md).
    schedule: of the local rate over the rounds; `cosine` falls from it towards 0.
    encoder_rate: factor on the local rate for the U-Net's encoder, which then learns with the head, end to end
        (client/training/backbone.py); 0 leaves it frozen.  Needs the prepared images and, in earnest, a GPU.
    momentum, weight_decay: local.  proximal: weight of |w - w_incoming|^2 / 2, for `fedprox` and `feddyn` only.
    batch_size: cases; 0 takes all of a site's training cases at once.
    class_weights: weigh each class by cases / (2 x cases of the class), counted over all sites.
    weighting: of a site in the merged change: its cases, all alike, or `inverse_variance`: cases over the variance
        of one case's gradient (server/strategy/weighting.py).  Only `cases` equals pooled training.
    personal: what is each site's own and never leaves it (client/training/personal.py): nothing; its
        `normalisation`; or its `last_layer`, fitted to its own training cases before scoring with the pull
        `personal_pull` towards the study's.
    site_fraction: share of the sites asked in each round, drawn by the seed; never fewer than the quorum.
    validation_fraction: share of a site's training cases, by class, on which nothing is fitted but
        standardisation and selection; they give the validation loss.
    patience: rounds without a better pooled validation loss after which training stops and goes back to the
        best weights; 0: never.
    encoding: of the change on its way to the server (common/messages/weight_update.py); `auto` is
        `float32` in the exact mode and else the smallest that moves no score by 1e-3
        (docs/decisions/0008-encoding.md), which is `int8` where the encoder learns.
    broadcast: encoding of the model on its way to the sites: its change since the first weights, which every site
        draws from the seed; the server keeps the exact weights, so nothing piles up.  `auto` is `float32` (the
        weights themselves) in the exact mode and else `int8`.
    rank_tolerance: for the low-rank encodings: largest relative error (Frobenius norm) of the change.
    largest_norm, largest_value: a change beyond is refused by the site and by the server.
    """

    rounds: Annotated[int, Field(ge=1, le=1000)] = 10
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    strategy: StrategyName = "fedavgm"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    schedule: Literal["constant", "cosine"] = "constant"
    encoder_rate: Annotated[float, Field(ge=0, le=100)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    proximal: Annotated[float, Field(ge=0)] = 0.1
    batch_size: Annotated[int, Field(ge=0)] = 16
    class_weights: bool = False
    weighting: Literal["cases", "equal", "inverse_variance"] = "cases"
    personal: Literal["none", "normalisation", "last_layer"] = "none"
    personal_pull: Annotated[float, Field(gt=0)] = 1.0
    site_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    patience: Annotated[int, Field(ge=0)] = 0
    encoding: Literal["auto"] | Encoding = "auto"
    broadcast: Literal["auto", "float32", "float16", "int8"] = "auto"
    rank_tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    largest_norm: Annotated[float, Field(gt=0)] = 1e3
    largest_value: Annotated[float, Field(gt=0)] = 1e2
    server: ServerSettings = ServerSettings()

    @model_validator(mode="after")
    def _possible(self) -> TrainingSettings:
        if self.patience and not self.validation_fraction:
            raise ValueError("patience needs a validation_fraction above 0 to look at")
        if self.strategy == "scaffold" and (self.optimiser != "sgd" or self.momentum):
            raise ValueError("scaffold reads gradients off the change: take optimiser sgd and momentum 0")
        if self.keeps_variate and self.weighting == "inverse_variance":
            raise ValueError(f"{self.strategy} needs every site's share beforehand: take weighting cases or equal")
        if self.encoder_rate and self.personal == "normalisation":
            raise ValueError("personal normalisation is of frozen features: take encoder_rate 0")
        if self.encoder_rate and self.encoding.startswith("low_rank"):
            raise ValueError("an encoder's change has no low rank: take encoding float32, float16 or int8")
        return self

    def rate(self, round_number: int) -> float:
        """The local learning rate of a round, counted from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (round_number - 1) / self.rounds))

    def steps(self, cases: int) -> int:
        """Local optimiser steps of a site with so many cases to fit."""
        if self.strategy == "fedsgd":
            return 1
        return self.local_epochs * math.ceil(cases / (self.batch_size or cases))

    @property
    def linear(self) -> bool:
        """Whether every local step is linear in the weights, so that the Gram matrix serves (client/training/gram.py)."""
        return not self.encoder_rate and (self.optimiser == "sgd" or self.strategy == "fedsgd")

    @property
    def pull(self) -> float:
        """The proximal weight in force."""
        return self.proximal if self.strategy in {"fedprox", "feddyn"} else 0.0

    @property
    def keeps_variate(self) -> bool:
        """Whether a site keeps something as large as the model between rounds (client/training/variate.py)."""
        return self.strategy in {"scaffold", "feddyn"}

    @property
    def wire_broadcast(self) -> Literal["float32", "float16", "int8"]:
        """What `auto` stands for here."""
        if self.broadcast != "auto":
            return self.broadcast
        return "float32" if self.strategy == "fedsgd" else "int8"

    @property
    def wire_encoding(self) -> Encoding:
        """What `auto` stands for here."""
        if self.encoding != "auto":
            return self.encoding
        if self.strategy == "fedsgd":
            return "float32"
        return "int8" if self.encoder_rate else "low_rank_int8"
