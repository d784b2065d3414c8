"""preprocessing: from two raw sequences to one grid (METHOD R14-R16)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["N4Settings", "PreprocessingSettings", "RegistrationSettings"]

Millimetres = Annotated[float, Field(gt=0, le=10)]


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


class PreprocessingSettings(Settings):
    """One resampling from the native grids to the atlas grid at `spacing_mm`.

    order: `recommended` is reorient, N4 for the transforms, FLAIR to T1CE, T1CE to the atlas, one
        resampling of the uncorrected images, brain mask, N4 in the mask, z-score.  `paper_order` is
        the order the paper prints: skull strip, resample, register, N4, normalise.
    atlas: `mni152` (ships with nilearn) or a path at the site to a T1 atlas in NIfTI.
    skull_strip: `template` warps the atlas brain mask and refines it; `imported` takes the manifest's
        brain masks.
    """

    order: Literal["recommended", "paper_order"] = "recommended"
    spacing_mm: Millimetres = 1.0
    atlas: str = "mni152"
    interpolator: Literal["linear", "bspline"] = "linear"
    skull_strip: Literal["template", "imported"] = "template"
    n4: N4Settings = N4Settings()
    registration: RegistrationSettings = RegistrationSettings()
    normalisation: Literal["zscore"] = "zscore"
