"""size: the same protocol for a small cohort; the report prints what differs."""

from __future__ import annotations

from typing import Literal

from common.config.protocol import Protocol

__all__ = ["at_size"]


def at_size(protocol: Protocol, size: Literal["small", "full"]) -> tuple[Protocol, tuple[str, ...]]:
    """The protocol for images of this size, and what was changed, in words.

    `full` changes nothing.  `small` analyses at 2 mm: the cube around the tumour keeps its 128 mm, hence
    half the voxels per edge and 131,072 visual features instead of 1,048,576.
    """
    if size == "full":
        return protocol, ()
    preprocessing = protocol.preprocessing.model_copy(
        update={
            "spacing_mm": 2 * protocol.preprocessing.spacing_mm,
            "n4": protocol.preprocessing.n4.model_copy(
                update={"shrink_factor": min(8, 2 * protocol.preprocessing.n4.shrink_factor)}
            ),
            "registration": protocol.preprocessing.registration.model_copy(update={"working_mm": 4.0}),
        }
    )
    visual = protocol.visual.model_copy(update={"crop_voxels": protocol.visual.crop_voxels // 2})
    small = protocol.model_copy(update={"preprocessing": preprocessing, "visual": visual})
    changes = (
        f"analysed at {preprocessing.spacing_mm:g} mm instead of {protocol.preprocessing.spacing_mm:g} mm",
        f"{small.visual.length:,} visual features instead of {protocol.visual.length:,}",
        "registration and N4 estimated on coarser copies",
    )
    return small, changes
