"""protocol: what every site of a study must do alike, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.catalogue import PAPER_SIGNATURE, SEQUENCES
from common.config.base import Settings
from common.config.egress import EgressFloor
from common.config.federation import EvaluationSettings, FederationSettings
from common.config.harmonisation import HarmonisationSettings
from common.config.modelling import (
    HeadSettings,
    SelectionSettings,
    SplitSettings,
)
from common.config.preprocessing import PreprocessingSettings
from common.config.privacy import PrivacySettings, RecordLevelSettings, StatisticsSettings
from common.config.radiomics import RadiomicsSettings
from common.config.segmentation import SegmentationSettings
from common.config.training import TrainingSettings
from common.config.visual import VisualSettings
from common.privacy.secure_sum import FEWEST_SITES

__all__ = ["Protocol"]


MEANS = ("fedsgd", "fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox")
"""Strategies that look at the mean change only."""

FEATURES_VERSION = 3
"""Raised whenever the software may give a prepared case other values, so that no cache or study mixes two.

1: PyRadiomics on a cropped image, wrong in the wavelets of a tumour that touches the image's border; 2: our engine;
3: the cube's centre is rounded upwards, where halves went to the even voxel."""


LARGEST_PRIVATE_HEAD = 65_536
"""Weights of the big layer: 256 features and 256 hidden units; the default for `pooled` is 2,560."""

NOT_MADE_BY = {"segmentation": {"review", "second_reader_fraction", "training"}}


class Protocol(Settings):
    """The study protocol: shared by all sites, fingerprinted, versioned."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    seed: Annotated[int, Field(ge=0)] = 20240604
    preprocessing: PreprocessingSettings = PreprocessingSettings()
    segmentation: SegmentationSettings = SegmentationSettings()
    radiomics: RadiomicsSettings = RadiomicsSettings()
    visual: VisualSettings = VisualSettings()
    split: SplitSettings = SplitSettings()
    harmonisation: HarmonisationSettings = HarmonisationSettings()
    selection: SelectionSettings = SelectionSettings()
    head: HeadSettings = HeadSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    federation: FederationSettings = FederationSettings()
    egress: EgressFloor = EgressFloor()
    privacy: PrivacySettings = PrivacySettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        absent = set(PAPER_SIGNATURE) - set(self.radiomics.names())
        if self.selection.method == "fixed_signature" and absent:
            raise ValueError(
                f"selection.method is fixed_signature, but radiomics leaves out {len(absent)} of its features, such as "
                f"{min(absent)}; name them in radiomics.features or choose a preset with three-dimensional wavelets"
            )
        if self.selection.smallest_icc is not None and self.radiomics.perturbations < 2:
            raise ValueError("selection.smallest_icc needs radiomics.perturbations of at least 2")
        if self.training.encoder_rate and self.visual.variant not in {"bottleneck", "pooled"}:
            raise ValueError("training.encoder_rate needs visual.variant bottleneck or pooled: maps to learn through")
        if self.selection.k > len(self.radiomics.names()):
            raise ValueError(f"selection.k is {self.selection.k}, more than radiomics measures")
        own_map = self.visual.variant not in {"none", "unet2d"}
        if own_map and self.visual.channels != self.segmentation.network.deepest:
            raise ValueError(
                f"visual.channels is {self.visual.channels}, but the deepest map of segmentation.network has "
                f"{self.segmentation.network.deepest}; write that number"
            )
        if self.federation.secure_aggregation:
            self._require_sums_only()
        asked = self.privacy.record_level
        if self.selection.method == "votes" and self.privacy.statistics is None:
            raise ValueError("selection.method votes needs privacy.record_level.statistics, whose noise it is")
        if asked is not None:
            self._require_bounded_cases(asked)
        if self.privacy.site_level is not None:
            self._require_bounded_sites()
        return self

    def _require_bounded_cases(self, asked: RecordLevelSettings) -> None:
        """Under record-level privacy nothing of the training may tell of a case but by its clipped gradient."""
        training, weights = self.training, self.visual.length * self.head.hidden
        needs = {
            f"a small head: noise over {weights:,} weights is {math.sqrt(weights):,.0f} times as long as over one, and a "
            "case's gradient is no longer than max_grad_norm; take visual.variant pooled, random_projection or none": (
                weights <= LARGEST_PRIVATE_HEAD
            ),
            "training.encoder_rate 0: its million weights drown in noise likewise": not training.encoder_rate,
            "another training.strategy than scaffold and feddyn, whose variates carry a round's noise into every step of "
            "all later rounds": not training.keeps_variate,
            "training.class_weights false: they are counts of labels without noise": not training.class_weights,
            "training.weighting cases or equal: a variance of gradients is told without noise": (
                training.weighting != "inverse_variance"
            ),
            "training.validation_fraction 0: the loss of the held-out cases is told without noise": (
                not training.validation_fraction
            ),
            "training.personal none: a site's own part depends on its cases without a bound": training.personal
            == "none",
            "harmonisation.method none: a site's own fit moves every case's features with each other's, so that clipping "
            "one case's gradient does not bound its influence": self.harmonisation.method == "none",
        }
        if asked.statistics is not None:
            statistics = asked.statistics
            scaled = 0 if self.visual.variant == "none" else self.visual.length
            needs |= {
                "selection.method fixed_signature or votes beside statistics: sums over 1,702 features would drown in "
                "noise": self.selection.method in {"fixed_signature", "votes"},
                "statistics.votes for selection.method votes, and for no other": (
                    (statistics.votes is None) == (self.selection.method != "votes")
                ),
                "selection.smallest_icc null beside statistics: repeated measurements are summed without noise": (
                    self.selection.smallest_icc is None
                ),
                **self._candidates_fit(statistics),
                f"statistics.visual of {scaled} visual features, not {len(statistics.visual)}": (
                    len(statistics.visual) == scaled
                ),
            }
        missing = [need for need, met in needs.items() if not met]
        if missing:
            raise ValueError(f"privacy.record_level needs {'; '.join(missing)}")

    def _candidates_fit(self, statistics: StatisticsSettings) -> dict[str, bool]:
        """The features that have a reference are those that the classifier can read."""
        named = set(statistics.radiomics)
        if statistics.votes is None:
            told = "statistics.radiomics of the fixed signature's features, all of them and no other"
            return {told: named == set(PAPER_SIGNATURE)}
        return {
            "statistics.radiomics of features that radiomics measures": named <= set(self.radiomics.names()),
            f"statistics.radiomics of at least as many features as statistics.votes.picks, {statistics.votes.picks}": (
                len(named) >= statistics.votes.picks
            ),
        }

    def _require_bounded_sites(self) -> None:
        needs = {
            f"training.strategy among {', '.join(MEANS)}: only a mean of clipped updates is bounded": (
                self.training.strategy in MEANS
            ),
            "training.weighting equal: the number of a site's cases would scale its share": (
                self.training.weighting == "equal"
            ),
            "federation.secure_aggregation false: the server must clip each site's update": (
                not self.federation.secure_aggregation
            ),
        }
        missing = [need for need, met in needs.items() if not met]
        if missing:
            raise ValueError(f"privacy.site_level needs {'; '.join(missing)}")

    def _require_sums_only(self) -> None:
        """Under secure aggregation the server has sums, so nothing may need a single site's numbers."""
        federation, training = self.federation, self.training
        needs = {
            "federation.min_sites of at least 3": federation.min_sites >= FEWEST_SITES,
            "federation.site_keys of at least 3 sites": len(federation.site_keys) >= FEWEST_SITES,
            "harmonisation.method none or site_zscore": self.harmonisation.method != "combat",
            f"training.strategy among {', '.join(MEANS)}": training.strategy in MEANS,
            "training.weighting cases": training.weighting == "cases",
            "training.encoding float32": training.encoding == "float32",
        }
        missing = [need for need, met in needs.items() if not met]
        if missing:
            raise ValueError(f"federation.secure_aggregation needs {'; '.join(missing)}")

    def fingerprint(self) -> str:
        """SHA-256 over the canonical JSON of every setting but the name, and the version of the features."""
        return _digest({**self.model_dump(mode="json", exclude={"name"}), "features_version": FEATURES_VERSION})

    def preparation_fingerprint(self) -> str:
        """SHA-256 over the settings that make a case's images and its automatic mask; review is not among them."""
        return _digest(self._made_by("schema_version", "preprocessing", "segmentation"))

    def landmarks_fingerprint(self) -> str:
        """SHA-256 over what changes a brain's percentiles: all of the preprocessing but its last step."""
        return _digest(self.preprocessing.model_dump(mode="json", exclude={"normalisation", "standard_scale"}))

    def image_fingerprint(self) -> str:
        """SHA-256 over the settings that make a case's images, whatever network looks at them."""
        return _digest(self._made_by("schema_version", "preprocessing"))

    def feature_fingerprint(self) -> str:
        """SHA-256 over what changes a case's features: the key of the sites' caches.

        Two protocols that differ only in training share their prepared cases.
        """
        made_by = self._made_by("schema_version", "preprocessing", "segmentation", "radiomics", "visual")
        return _digest({**made_by, "features_version": FEATURES_VERSION})

    def _made_by(self, *parts: str) -> dict[str, object]:
        """These settings without those that change no case: of the review (the accepted mask itself is part of a case's
        key) and of the network's training (its weights are).

        Which sequences are measured counts only where it is not both, so that caches outlive the setting's arrival.
        """
        found = self.model_dump(mode="json", include=set(parts), exclude=NOT_MADE_BY)
        for part in ("radiomics", "visual"):
            if part in found and found[part]["sequences"] == list(SEQUENCES):
                del found[part]["sequences"]
        return found


def _digest(settings: dict[str, object]) -> str:
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
