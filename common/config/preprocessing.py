"""preprocessing: from two raw sequences to one grid (METHOD R14-R16)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.config.base import Settings

__all__ = ["LANDMARK_PERCENTILES", "N4Settings", "PreprocessingSettings", "RegistrationSettings", "StandardScale"]

Millimetres = Annotated[float, Field(gt=0, le=10)]
LANDMARK_PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
Scale = Annotated[tuple[float, ...], Field(min_length=len(LANDMARK_PERCENTILES), max_length=len(LANDMARK_PERCENTILES))]


class N4Settings(Settings):
    """N4 bias field correction (Tustison 2010)."""

    shrink_factor: Annotated[int, Field(ge=1, le=8)] = 4
    iterations: Annotated[tuple[int, ...], Field(min_length=1, max_length=6)] = (50, 50, 50, 50)


class RegistrationSettings(Settings):
    """Mattes mutual information, multi-resolution.

    working_mm: voxel size of the copies that the metric is computed on; the result is applied once to
    the images at full resolution.
    """

    atlas_transform: Literal["rigid", "affine"] = "affine"
    working_mm: Millimetres = 2.0


class StandardScale(Settings):
    """Where the percentiles 1, 10, 20 ... 90, 99 of a brain come to lie (Nyul and Udupa 1999, Shah 2011).

    `fedmidline-study landmarks` makes it of the sites' training cases; 1 lies at 0 and 99 at 100.
    """

    t1ce: Scale
    flair: Scale

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for name in ("t1ce", "flair"):
            scale = getattr(self, name)
            if any(low >= high for low, high in pairwise(scale)):
                raise ValueError(f"{name}: a standard scale must rise from percentile to percentile")
        return self


class PreprocessingSettings(Settings):
    """One resampling from the native grids to the atlas grid at `spacing_mm`.

    order: `recommended` is reorient, N4 for the transforms, FLAIR to T1CE, T1CE to the atlas, one
        resampling of the uncorrected images, brain mask, N4 in the mask, z-score.  `paper_order` is
        the order the paper prints: skull strip, resample, register, N4, normalise.
    atlas: `mni152` (ships with nilearn) or a path at the site to a T1 atlas in NIfTI, absolute or from where the
        command runs; atlas_sha256: of that file, so that every site has the same one.
    skull_strip: `template` warps the atlas brain mask and refines it; `hd_bet` and `synthstrip` call the
        program that the hospital has installed; `imported` takes the manifest's brain masks.
    normalisation: inside the brain mask. `zscore`; `whitestripe` (Shinohara 2014: mean and deviation of the
        normal-appearing white matter); `nyul` (percentiles to the `standard_scale`).
    """

    order: Literal["recommended", "paper_order"] = "recommended"
    spacing_mm: Millimetres = 1.0
    atlas: str = "mni152"
    atlas_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    interpolator: Literal["linear", "bspline"] = "linear"
    skull_strip: Literal["template", "hd_bet", "synthstrip", "imported"] = "template"
    n4: N4Settings = N4Settings()
    registration: RegistrationSettings = RegistrationSettings()
    normalisation: Literal["zscore", "whitestripe", "nyul"] = "zscore"
    standard_scale: StandardScale | None = None

    @model_validator(mode="after")
    def _own_atlas_is_known(self) -> Self:
        if (self.atlas == "mni152") == bool(self.atlas_sha256):
            raise ValueError("an atlas of your own needs its atlas_sha256 (`sha256sum FILE`), and mni152 has none")
        return self

    @model_validator(mode="after")
    def _scale_where_it_is_used(self) -> Self:
        if self.normalisation == "nyul" and self.standard_scale is None:
            raise ValueError(
                "normalisation nyul needs a standard_scale, learnt from every site's training cases: "
                "`fedmidline-site landmarks` at each site, then `fedmidline-study landmarks`"
            )
        if self.normalisation != "nyul" and self.standard_scale is not None:
            raise ValueError("a standard_scale is used by normalisation nyul only; take it out")
        return self
