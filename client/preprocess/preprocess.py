"""preprocess: from two native sequences to one atlas grid, in the protocol's order (METHOD R14).

`recommended`: reorient > N4 for the transforms > FLAIR to T1CE > T1CE to the atlas > one resampling of the
uncorrected images > brain mask > N4 in the brain > z-score; the network gets the branch without N4.
`paper_order`: skull strip > resample > register > N4 > z-score, as the paper prints it; one branch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import SimpleITK as sitk

from client.case import Case, StepRecord
from client.preprocess.atlas import Atlas, atlas_grid, load_atlas
from client.preprocess.quality import brain_volume_ml, edge_agreement, require_same_head
from client.preprocess.steps.align import coarse, estimate_transform
from client.preprocess.steps.bias import correct_bias, correct_image
from client.preprocess.steps.brain import find_brain, keep_given_brain
from client.preprocess.steps.reorient import reorient
from client.preprocess.steps.resample import resample
from client.preprocess.steps.zscore import normalise, zscore_image
from common.config.preprocessing import N4Settings, PreprocessingSettings
from common.errors import InputError

__all__ = ["preprocess"]

COARSE_N4 = N4Settings(shrink_factor=8, iterations=(20,))
"""For transforms only: a rough field is enough for mutual information."""


def preprocess(case: Case, settings: PreprocessingSettings) -> Case:
    """The case on the atlas grid, z-scored, with brain mask, history and quality."""
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
    done = (
        _paper_order(case, settings, atlas) if settings.order == "paper_order" else _recommended(case, settings, atlas)
    )
    if done.brain_mask is None:
        raise ValueError("no brain mask after preprocessing")
    agreement = edge_agreement(done.t1ce, done.flair, done.brain_mask)
    require_same_head(agreement, pseudonym=case.pseudonym)
    volume = brain_volume_ml(done.brain_mask)
    return done.evolve(StepRecord("quality", ""), quality=(("edge_agreement", agreement), ("brain_volume_ml", volume)))


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
    case = _with_brain(case, settings, atlas)
    network = (_scored(case.t1ce, case), _scored(case.flair, case))
    case = normalise(correct_bias(case, settings.n4))
    record = StepRecord("branches", "The network saw the images without bias correction.")
    return case.evolve(record, network_t1ce=network[0], network_flair=network[1])


def _paper_order(case: Case, settings: PreprocessingSettings, atlas: Atlas) -> Case:
    """The skull strip comes first, so its own rough alignment finds the brain in native space."""
    rough, rough_flair = _transforms(case, settings, "head", atlas.region)
    if settings.skull_strip == "template":
        native = sitk.Resample(atlas.mask, case.t1ce, _inverse(rough), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
        case = find_brain(case, native)
    else:
        case = keep_given_brain(case)
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
    return normalise(correct_bias(_record_registration(case, settings), settings.n4))


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
    if settings.skull_strip == "imported":
        return keep_given_brain(case)
    mask = sitk.Resample(atlas.mask, case.t1ce, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return find_brain(case, mask)


def _scored(image: sitk.Image, case: Case) -> sitk.Image:
    if case.brain_mask is None:
        raise ValueError("no brain mask")
    return zscore_image(image, case.brain_mask)


def _is_plausible(transform: sitk.Transform) -> bool:
    """Heads differ in size by a tenth or so; an affine that stretches by more has found something else."""
    here = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    stretch = np.stack([np.array(transform.TransformPoint(tuple(axis))) - here for axis in np.eye(3)], axis=1)
    sizes = np.linalg.svd(stretch, compute_uv=False)
    return bool(sizes.max() < 1.25 and sizes.min() > 0.8)


def _inverse(transform: sitk.Transform) -> sitk.Transform:
    return transform.GetInverse()
