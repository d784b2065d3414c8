"""render: the scene of one case: T1CE and FLAIR signal of head and tumour, white matter about 1."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from simulation.cohort.anatomy import Head, Volume, noise_field
from simulation.cohort.tumour import Tumour

__all__ = ["render_scene"]


def render_scene(head: Head, tumour: Tumour, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """(T1CE, FLAIR) on the head's grid."""
    voxel = head.grid.GetSpacing()[0]
    shape = head.t1.shape
    t1ce = head.t1 + _vessels(head, rng)
    flair = 0.80 * head.white + 0.98 * head.grey + 0.18 * head.csf
    whole, core, necrosis, rim = (part > 0 for part in (tumour.whole, tumour.core, tumour.necrosis, tumour.rim))
    t1ce = np.where(whole, 0.86 * t1ce + 0.02, t1ce)
    t1ce = np.where(core, 0.70, t1ce)
    t1ce = np.where(rim, 0.72 + tumour.enhancement, t1ce)
    t1ce = np.where(necrosis, 0.42, t1ce)
    flair = np.where(whole, 1.35, flair)
    flair = np.where(core, 1.28, flair)
    flair = np.where(necrosis, 0.95, flair)
    soft = 0.7 / voxel
    t1ce, flair = ndimage.gaussian_filter(t1ce, soft), ndimage.gaussian_filter(flair, soft)
    fine = max(2.4 / voxel, 1.0)  # of the finest texture that survives acquisition and one resampling
    inside = ndimage.gaussian_filter(whole.astype(np.float32), soft)
    t1ce = t1ce + inside * (
        tumour.texture_t1ce * noise_field(rng, shape, fine) + 0.04 * noise_field(rng, shape, 8 / voxel)
    )
    flair = flair + inside * (
        tumour.texture_flair * noise_field(rng, shape, fine) + 0.04 * noise_field(rng, shape, 8 / voxel)
    )
    return _with_skull(head, t1ce, flair, rng)


def _vessels(head: Head, rng: np.random.Generator) -> Volume:
    """Small bright spots of contrast agent in the cortex."""
    spots = noise_field(rng, head.t1.shape, 2.5 / head.grid.GetSpacing()[0])
    return np.asarray(0.9 * np.clip(spots - 2.6, 0, 1) * head.grey, np.float32)


def _with_skull(head: Head, t1ce: Volume, flair: Volume, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """Liquor, bone and scalp around the brain; the scalp ends below, where a neck would be."""
    depth = head.depth_mm
    swing = 1 + 0.12 * noise_field(rng, depth.shape, 40 / head.grid.GetSpacing()[0])
    mottle = 0.08 * noise_field(rng, depth.shape, 6 / head.grid.GetSpacing()[0])
    liquor = (depth > 0) & (depth <= 2)
    bone = (depth > 2) & (depth <= 7.5 * swing)
    scalp = (depth > 7.5 * swing) & (depth <= 13 * swing) & (head.ras_mm[2] > -72)
    air = depth > 13 * swing
    for image, values in ((t1ce, (0.25, 0.08, 0.95)), (flair, (0.10, 0.07, 0.65))):
        image[air | (depth > 7.5 * swing)] = 0
        image[liquor], image[bone] = values[0], values[1]
        image[scalp] = values[2] + mottle[scalp]
    return t1ce, flair
