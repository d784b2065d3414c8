"""radiomics: how PyRadiomics is asked (METHOD R22-R23 and section 5)."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from common.catalogue import FILTERS, FLAT_FILTERS, SEQUENCES, radiomics_names
from common.config.base import Settings

__all__ = ["PRESET_NAMES", "RadiomicsSettings"]

Preset = Literal["ibsi_like_32", "paper_default", "pyrad_mr", "thick_slice_2d"]
PRESET_NAMES: tuple[str, ...] = get_args(Preset)


class RadiomicsSettings(Settings):
    """PyRadiomics on the z-scored image inside the whole-tumour mask; its own normalisation stays off,
    because it counts the zero background as voxels.

    preset: `ibsi_like_32` discretises into 32 bins of equal width inside each ROI; `paper_default` is
        PyRadiomics' own bin width of 25, which leaves two grey levels of a z-scored image (F4);
        `pyrad_mr` scales by 100 and uses width 5; `thick_slice_2d` is `ibsi_like_32` in two dimensions.
    wavelet: PyWavelets name of the stationary wavelet.
    sequences: that are measured.
    features: the study's features by catalogue name; empty: the whole catalogue.
    fewest_grey_levels: below this a filtered ROI is reported.
    perturbations: how often each case is measured again, rotated, shifted, grown or shrunk and with noise, so that
        the stability of features can be told (METHOD section 4, rank 9); 0 measures once.
    """

    preset: Preset = "ibsi_like_32"
    wavelet: str = "coif1"
    sequences: Annotated[tuple[Literal["T1CE", "FLAIR"], ...], Field(min_length=1)] = ("T1CE", "FLAIR")
    features: tuple[str, ...] = ()
    fewest_grey_levels: Annotated[int, Field(ge=1)] = 8
    perturbations: Annotated[int, Field(ge=0, le=100)] = 0

    @property
    def filters(self) -> tuple[str, ...]:
        """Original and wavelet bands; four bands instead of eight in two dimensions."""
        return FLAT_FILTERS if self.preset == "thick_slice_2d" else FILTERS

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = sorted(set(self.features) - set(radiomics_names(self.sequences, self.filters)))
        if unknown:
            raise ValueError(f"{len(unknown)} feature(s) are not in the preset's catalogue, such as {unknown[0]}")
        return self

    def names(self, sequences: tuple[str, ...] = SEQUENCES) -> tuple[str, ...]:
        """The study's features in catalogue order: 1702 of two sequences, 958 in two dimensions, or those named."""
        catalogue = radiomics_names(tuple(s for s in sequences if s in self.sequences), self.filters)
        wanted = set(self.features)
        return tuple(name for name in catalogue if name in wanted) if wanted else catalogue
