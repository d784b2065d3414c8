"""preprocess: from two native sequences to one atlas grid, in the protocol's order (METHOD R14).

`recommended`: reorient > N4 for the transforms > FLAIR to T1CE > T1CE to the atlas > one resampling of the
uncorrected images > brain mask > N4 in the brain > normalise; the network gets the branch without N4.
`paper_order`: skull strip > resample > register > N4 > normalise, as the paper prints it; one branch.
A brain mask that is not the atlas' own is found or brought in native space, before everything else.
The network sees z-scores, whatever the radiomics are measured on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from client.case import Case, StepRecord
from client.preprocess.atlas import Atlas, atlas_grid, load_atlas, require_atlas
from client.preprocess.normalise import normalise, zscore_image
from client.preprocess.quality import measure_native, measure_prepared, require_same_head
from client.preprocess.steps.align import coarse, estimate_transform
from client.preprocess.steps.bias import correct_bias, correct_image
from client.preprocess.steps.brain import find_brain, keep_given_brain
from client.preprocess.steps.reorient import reorient
from client.preprocess.steps.resample import resample
from client.preprocess.steps.strip_command import strip_by_command
from common.config.preprocessing import N4Settings, PreprocessingSettings
from common.errors import InputError

__all__ = ["bring_to_atlas", "preprocess"]

COARSE_N4 = N4Settings(shrink_factor=8, iterations=(20,))
"""For transforms only: a rough field is enough for mutual information."""


def preprocess(case: Case, settings: PreprocessingSettings, scratch: Path | None = None) -> Case:
    """The case on the atlas grid, normalised, with brain mask, history and quality.

    scratch: folder for what an installed skull-strip program reads.
    """
    done = normalise(bring_to_atlas(case, settings, scratch), settings)
    quality = measure_prepared(done, load_atlas(settings.atlas))
    require_same_head(dict(quality)["edge_agreement"], pseudonym=case.pseudonym)
    return done.evolve(StepRecord("quality", ""), quality=(*done.quality, *quality))


def bring_to_atlas(case: Case, settings: PreprocessingSettings, scratch: Path | None = None) -> Case:
    """All but the last step: bias-corrected intensities, not yet normalised; the network's branch is complete."""
    require_atlas(settings.atlas, settings.atlas_sha256)
    atlas = load_atlas(settings.atlas)
    if settings.skull_strip == "imported" and case.brain_mask is None:
        raise InputError(
            "brain-mask-missing",
            case=case.pseudonym,
            field="brain_mask_path",
            problem="The protocol takes imported brain masks and this case has none.",
            fix="Name it in the manifest.",
        )
    case = reorient(case)
    case = replace(case, quality=measure_native(case))
    if settings.skull_strip in ("hd_bet", "synthstrip"):
        case = strip_by_command(case, settings.skull_strip, scratch)
    return (
        _paper_order(case, settings, atlas) if settings.order == "paper_order" else _recommended(case, settings, atlas)
    )


def _recommended(case: Case, settings: PreprocessingSettings, atlas: Atlas) -> Case:
    to_t1ce, t1ce_to_flair = _transforms(case, settings, "head", atlas.region)
    case = _record_registration(case, settings)
    grid = atlas_grid(atlas, settings.spacing_mm)
    case = resample(
        case,
        grid,
        to_t1ce=to_t1ce,
        to_flair=sitk.CompositeTransform([t1ce_to_flair, to_t1ce]),
        interpolator=settings.interpolator,
    )
    case = _with_brain(replace(case, head_t1ce=_in_greys(case.t1ce)), settings, atlas)
    case = _for_network(case, "The network saw z-scored images without bias correction.")
    return correct_bias(case, settings.n4)


def _paper_order(case: Case, settings: PreprocessingSettings, atlas: Atlas) -> Case:
    """The skull strip comes first, so its own rough alignment finds the brain in native space."""
    rough, rough_flair = _transforms(case, settings, "head", atlas.region)
    if settings.skull_strip == "template":
        native = sitk.Resample(atlas.mask, case.t1ce, _inverse(rough), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
        case = find_brain(case, native)
    elif settings.skull_strip == "imported":
        case = keep_given_brain(case)
    head = case.t1ce
    in_flair = sitk.Resample(case.brain_mask, case.flair, _inverse(rough_flair), sitk.sitkNearestNeighbor, 0)
    case = case.evolve(
        StepRecord("strip", "Everything outside the brain was removed."),
        t1ce=sitk.Mask(case.t1ce, case.brain_mask),
        flair=sitk.Mask(case.flair, in_flair),
    )
    to_t1ce, t1ce_to_flair = _transforms(case, settings, "brain", None, start=(rough, rough_flair))
    case = resample(
        case,
        atlas_grid(atlas, settings.spacing_mm),
        to_t1ce=to_t1ce,
        to_flair=sitk.CompositeTransform([t1ce_to_flair, to_t1ce]),
        interpolator=settings.interpolator,
    )
    head = sitk.Resample(head, case.t1ce, to_t1ce, sitk.sitkLinear, 0.0)
    case = _record_registration(replace(case, head_t1ce=_in_greys(head)), settings)
    case = correct_bias(case, settings.n4)
    if settings.normalisation == "zscore":
        return case
    return _for_network(case, "The network saw z-scored images.")


def _transforms(
    case: Case,
    settings: PreprocessingSettings,
    picture: Literal["head", "brain"],
    region: sitk.Image | None,
    start: tuple[sitk.Transform | None, sitk.Transform | None] = (None, None),
) -> tuple[sitk.Transform, sitk.Transform]:
    """(atlas point -> T1CE point, T1CE point -> FLAIR point); picture: of the atlas that T1CE is registered to."""
    t1ce, flair = correct_image(case.t1ce, None, COARSE_N4), correct_image(case.flair, None, COARSE_N4)
    working = settings.registration.working_mm
    to_flair = estimate_transform(t1ce, flair, kind="rigid", working_mm=working, start=start[1])

    def to_atlas(kind: Literal["rigid", "affine"], first: sitk.Transform | None, factor: int = 1) -> sitk.Transform:
        voxel_mm = factor * working
        fixed = _coarse_atlas(settings.atlas, picture, voxel_mm)
        return estimate_transform(fixed, t1ce, kind=kind, working_mm=voxel_mm, fixed_mask=region, start=first)

    first = start[0] or to_atlas("rigid", None, factor=2)
    if settings.registration.atlas_transform == "rigid":
        return to_atlas("rigid", first), to_flair
    to_t1ce = to_atlas("affine", first)
    return (to_t1ce if _is_plausible(to_t1ce) else to_atlas("rigid", first)), to_flair


@lru_cache(8)
def _coarse_atlas(name: str, picture: Literal["head", "brain"], voxel_mm: float) -> sitk.Image:
    """The same for every case, and a fifth of a registration's time to make."""
    return coarse(getattr(load_atlas(name), picture), voxel_mm)


def _record_registration(case: Case, settings: PreprocessingSettings) -> Case:
    kind = settings.registration.atlas_transform
    return case.evolve(
        StepRecord(
            "register",
            f"FLAIR was registered to T1CE (rigid) and T1CE to the atlas ({kind}) with ANTs, "
            "by Mattes mutual information on N4-corrected copies.",
            (("settings", settings.registration.model_dump_json()), ("atlas", settings.atlas)),
        )
    )


def _with_brain(case: Case, settings: PreprocessingSettings, atlas: Atlas) -> Case:
    if settings.skull_strip != "template":
        return keep_given_brain(case) if settings.skull_strip == "imported" else case
    mask = sitk.Resample(atlas.mask, case.t1ce, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return find_brain(case, mask)


def _for_network(case: Case, prose: str) -> Case:
    return case.evolve(
        StepRecord("branches", prose),
        network_t1ce=zscore_image(case, "T1CE"),
        network_flair=zscore_image(case, "FLAIR"),
    )


def _in_greys(head: sitk.Image) -> sitk.Image:
    """A sixth of the disk that the voxels themselves would take (real head at 1 mm: 3.8 MB for 23.5)."""
    brightest = float(np.percentile(sitk.GetArrayViewFromImage(head), 99.5))
    return sitk.Cast(sitk.IntensityWindowing(head, 0.0, max(brightest, 1e-6), 0.0, 255.0), sitk.sitkUInt8)


def _is_plausible(transform: sitk.Transform) -> bool:
    """Heads differ in size by a tenth or so; an affine that stretches by more has found something else."""
    here = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    stretch = np.stack([np.array(transform.TransformPoint(tuple(axis))) - here for axis in np.eye(3)], axis=1)
    sizes = np.linalg.svd(stretch, compute_uv=False)
    return bool(sizes.max() < 1.25 and sizes.min() > 0.8)


def _inverse(transform: sitk.Transform) -> sitk.Transform:
    return transform.GetInverse()
