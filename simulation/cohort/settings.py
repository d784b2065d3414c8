"""settings: what a synthetic cohort is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["CohortSettings"]


@dataclass(frozen=True)
class CohortSettings:
    """effect: how far the classes lie apart, in standard deviations of the latent trait that texture,
        shape and enhancement express; 0 is the null cohort, without any class signal in the images.  The
        best possible AUC from images is Phi(sqrt(2) x effect).
    scanner_shortcut: scanners unequally used between the classes (60/25/15 against 15/25/60).
    size: `small` is acquired at 2 mm, `full` at 1 mm on 240 x 240 x 155 mm.
    """

    seed: int = 1
    size: Literal["small", "full"] = "small"
    altered: int = 127
    not_altered: int = 127
    effect: float = 1.35
    scanner_shortcut: bool = False
    dicom: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For the cohort's own description."""
        return asdict(self)
