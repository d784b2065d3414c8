"""tumour: a whole tumour (oedema, core, necrosis, enhancement) in one of the eight midline locations.

The class speaks through one latent trait u ~ N(+-effect, 1) per case, which every sign expresses with noise
of its own: the strength of fine texture, the width of oedema, the share of enhancement, the roughness of
the outline.  So the best possible AUC is Phi(sqrt(2) x effect), however many features look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from simulation.cohort.anatomy import Head, Volume, noise_field

__all__ = ["LOCATIONS", "Tumour", "draw_location", "grow_tumour"]

# location -> centre in template mm (RAS), its spread, smallest and largest radius in mm
LOCATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float]]] = {
    "thalamus": ((12, -18, 8), (4, 3, 3), (11, 18)),
    "brainstem": ((0, -28, -32), (2, 2, 4), (10, 16)),
    "medulla": ((0, -40, -48), (1, 2, 2), (8, 11)),
    "corpus_callosum": ((0, 10, 22), (5, 12, 3), (11, 19)),
    "basal_ganglia": ((22, 4, 2), (4, 4, 3), (11, 18)),
    "third_ventricle": ((0, -12, 2), (1, 3, 2), (9, 14)),
    "fourth_ventricle": ((0, -48, -34), (2, 3, 3), (9, 15)),
    "pineal": ((0, -33, 4), (1, 2, 2), (8, 12)),
}
PREVALENCE = {
    True: (0.33, 0.37, 0.06, 0.03, 0.05, 0.06, 0.06, 0.04),
    False: (0.22, 0.10, 0.02, 0.34, 0.22, 0.05, 0.03, 0.02),
}
PAIRED = ("thalamus", "basal_ganglia")


@dataclass(frozen=True)
class Tumour:
    """Masks on the head's grid (bool), and how strongly each sign is expressed.

    texture_t1ce, texture_flair: standard deviation of fine texture, in units of white matter.
    enhancement: brightness of the enhancing rim on T1CE.
    """

    whole: Volume
    core: Volume
    necrosis: Volume
    rim: Volume
    texture_t1ce: float
    texture_flair: float
    enhancement: float


def draw_location(altered: bool, effect: float, rng: np.random.Generator) -> str:
    """By the literature's frequencies of each class; alike for both classes when effect is 0."""
    both = (np.array(PREVALENCE[True]) + np.array(PREVALENCE[False])) / 2
    weight = min(1.0, effect) * 0.5
    chances = (1 - weight) * both + weight * np.array(PREVALENCE[altered])
    return str(rng.choice(list(LOCATIONS), p=chances / chances.sum()))


def grow_tumour(head: Head, location: str, *, altered: bool, effect: float, rng: np.random.Generator) -> Tumour:
    """A connected lesion inside the brain; its signs follow the latent trait."""
    trait = rng.normal(effect if altered else -effect, 1.0)
    centre, spread, radii = LOCATIONS[location]
    middle = np.array(centre) + rng.normal(0, 1, 3) * spread
    if location in PAIRED and rng.random() < 0.5:
        middle[0] *= -1
    radius = rng.uniform(*radii)
    distance = _distance(head, middle, rng)
    voxel = head.grid.GetSpacing()[0]
    shape = distance.shape
    rough = 2.6 * np.exp(-0.18 * trait + rng.normal(0, 0.2))
    outline = noise_field(rng, shape, 11 / voxel)
    detail = noise_field(rng, shape, 5 / voxel)
    inside = head.depth_mm < -1.5
    core = _largest((distance + rough * outline + 0.5 * rough * detail < radius) & inside)
    oedema_mm = 6.0 * np.exp(-0.28 * trait + rng.normal(0, 0.35))
    reach = (distance + 3.5 * outline + 1.5 * detail < radius + oedema_mm) & inside & (head.csf < 0.6)
    whole = _largest(core | reach)
    depth = ndimage.distance_transform_edt(core, sampling=voxel)
    # How much of the core is dead and ringed: less in the altered class, as reported for H3-DMG.
    necrotic_part = 1 / (1 + np.exp(0.5 * trait + rng.normal(0.6, 0.8)))
    necrosis = (depth > (1 - necrotic_part) * 0.8 * depth.max()) & (depth > 3)
    rim = core & ~necrosis & (ndimage.binary_dilation(necrosis, iterations=max(1, round(3 / voxel))) | (outline > 1.3))
    return Tumour(
        whole=whole.astype(np.float32),
        core=core.astype(np.float32),
        necrosis=necrosis.astype(np.float32),
        rim=rim.astype(np.float32),
        texture_t1ce=float(0.085 * np.exp(-0.22 * trait + rng.normal(0, 0.12))),
        texture_flair=float(0.085 * np.exp(-0.22 * trait + rng.normal(0, 0.12))),
        enhancement=float(0.55 * np.exp(-0.15 * trait + rng.normal(0, 0.25))),
    )


def _distance(head: Head, middle: np.ndarray[Any, Any], rng: np.random.Generator) -> Volume:
    """Distance from the middle, in mm of an ellipsoid's own measure."""
    axes = rng.uniform(0.8, 1.25, 3)
    axes /= np.prod(axes) ** (1 / 3)
    squares = [((head.ras_mm[i] - np.float32(middle[i])) / np.float32(axes[i])) ** 2 for i in range(3)]
    return np.asarray(np.sqrt(squares[0] + squares[1] + squares[2]))


def _largest(mask: Volume) -> Volume:
    """The largest connected piece."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))
