"""protocol: what every site of a study must do alike, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings
from common.config.federation import EvaluationSettings, FederationSettings
from common.config.harmonisation import HarmonisationSettings
from common.config.modelling import (
    HeadSettings,
    SelectionSettings,
    SplitSettings,
    TrainingSettings,
)
from common.config.preprocessing import PreprocessingSettings
from common.config.radiomics import RadiomicsSettings
from common.config.segmentation import SegmentationSettings
from common.config.visual import VisualSettings

__all__ = ["Protocol"]


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

    def fingerprint(self) -> str:
        """SHA-256 over the canonical JSON of every setting but the name."""
        return _digest(self.model_dump(mode="json", exclude={"name"}))

    def preparation_fingerprint(self) -> str:
        """SHA-256 over the settings that make a case's images and its automatic mask; review is not among them."""
        return _digest(self._made_by("schema_version", "preprocessing", "segmentation"))

    def feature_fingerprint(self) -> str:
        """SHA-256 over the settings that change a case's features: the key of the sites' caches.

        Two protocols that differ only in training share their prepared cases.
        """
        return _digest(self._made_by("schema_version", "preprocessing", "segmentation", "radiomics", "visual"))

    def _made_by(self, *parts: str) -> dict[str, object]:
        """These settings without those of the review: the accepted mask itself is part of a case's key."""
        review = {"segmentation": {"review", "second_reader_fraction"}}
        return self.model_dump(mode="json", include=set(parts), exclude=review)


def _digest(settings: dict[str, object]) -> str:
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
