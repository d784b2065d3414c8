"""bias: N4 bias field correction (Tustison et al. 2010, doi 10.1109/TMI.2010.2046908)."""

from __future__ import annotations

import SimpleITK as sitk

from client.case import Case, StepRecord
from common.config.preprocessing import N4Settings

__all__ = ["correct_bias", "correct_image"]


def correct_bias(case: Case, settings: N4Settings) -> Case:
    """Correct both sequences inside the brain mask (or the whole head where there is none yet)."""
    return case.evolve(
        StepRecord(
            "bias",
            "Bias fields were corrected with N4 (SimpleITK) "
            + ("inside the brain mask." if case.brain_mask is not None else "in the whole head."),
            (("n4", settings.model_dump_json()),),
        ),
        t1ce=correct_image(case.t1ce, case.brain_mask, settings),
        flair=correct_image(case.flair, case.brain_mask, settings),
    )


def correct_image(image: sitk.Image, mask: sitk.Image | None, settings: N4Settings) -> sitk.Image:
    """The image divided by its bias field; the field is estimated on a coarse copy.

    The shrink factor is meant for 1 mm voxels: thicker ones are shrunk less, so that the field is always
    estimated on voxels of about `shrink_factor` mm.
    """
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    positive = sitk.Cast(image, sitk.sitkFloat32) - min(lowest, 0.0)
    region = mask if mask is not None else sitk.OtsuThreshold(positive, 0, 1, 128)
    factors = [max(1, round(settings.shrink_factor / spacing)) for spacing in image.GetSpacing()]
    # An axis of few slices keeps at least 8, which the spline of order 3 needs.
    factors = [max(1, min(factor, size // 8)) for factor, size in zip(factors, image.GetSize(), strict=True)]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(settings.iterations)
    corrector.Execute(sitk.Shrink(positive, factors), sitk.Shrink(sitk.Cast(region, sitk.sitkUInt8), factors))
    field = sitk.Exp(corrector.GetLogBiasFieldAsImage(positive))
    return sitk.Cast(positive / sitk.Cast(field, sitk.sitkFloat32), sitk.sitkFloat32)
