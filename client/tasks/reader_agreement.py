"""reader_agreement: how far two readers agree on the cases that both read (METHOD R18): Dice, surface distance, volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.review.compare import compare
from client.site import Site
from client.tasks.case_keys import open_queue
from common.stats import icc

__all__ = ["ReaderAgreement", "reader_agreement"]


@dataclass(frozen=True)
class ReaderAgreement:
    """cases: a row for each case with two readings; drawn: for a second reader, read twice or not yet."""

    cases: tuple[dict[str, Any], ...]
    drawn: int

    def as_dict(self) -> dict[str, Any]:
        """For `--json`.  The volume's coefficient is ICC(2,1), of at least two cases."""
        dice = [row["dice"] for row in self.cases]
        return {
            "drawn_for_two_readers": self.drawn,
            "read_twice": len(self.cases),
            "dice_mean": round(float(np.mean(dice)), 4) if dice else None,
            "dice_lowest": min(dice, default=None),
            "volume_icc": self._volume_icc(),
            "cases": list(self.cases),
        }

    def _volume_icc(self) -> float | None:
        if len(self.cases) < 2:
            return None
        volumes = np.array([row["volumes_ml"] for row in self.cases])[:, :, None]
        value = float(icc.finish(icc.summarise(volumes, volumes.mean(axis=(0, 1)))).two_way[0])
        return None if math.isnan(value) else round(value, 4)


def reader_agreement(site: Site) -> ReaderAgreement:
    """Of the masks as both readers left them; a case that only one has read is not shown."""
    queue, rows = open_queue(site), []
    cases = queue.cases()
    for name, case in sorted(cases.items()):
        if len(case.readings) < 2:
            continue
        found = compare(*(queue.masks.get(done.mask) for done in case.readings))
        rows.append(
            {
                "case": name,
                "readers": [done.reader for done in case.readings],
                "dice": round(found.dice, 4),
                "hd95_mm": None if math.isnan(found.hd95_mm) else round(found.hd95_mm, 2),
                "volumes_ml": [round(done.volume_ml, 3) for done in case.readings],
                "state": case.state,
            }
        )
    return ReaderAgreement(tuple(rows), sum(case.material.second_reader for case in cases.values()))
