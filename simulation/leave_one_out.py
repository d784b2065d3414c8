"""leave_one_out: the federated study without each site in turn, judged on all cases of the site left out
(METHOD section 4, rank 1): what a hospital that joins tomorrow may expect.

The site left out takes the finished model: with ComBat it fits its own scanners from its training cases, labels
unseen, and touches nobody else's.  Its training cases, which the model has not seen, also tell how its risks are to be
corrected (`recalibrated`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.site import open_site
from client.tasks.load_cohort import load_cohort
from client.training.score import safety_margins
from common.metrics.recalibration import TrainingScores
from common.metrics.score_cells import ScoreCells
from server.reporting.site_pooling import Part, sites_pooled
from simulation.recalibrated import compare_recalibrations
from simulation.replay import ReplayFolder, ReplaySettings, federate

__all__ = ["leave_one_site_out"]

FEWEST_PER_CLASS = 5


def leave_one_site_out(
    folder: ReplayFolder,
    sites: Mapping[str, Path],
    settings: ReplaySettings,
    *,
    tell: Callable[[str], None] = lambda _site: None,
) -> dict[str, Any]:
    """Each site's AUC as a stranger, and their random-effects summary with its prediction interval; `recalibration`:
    of its test cases, before and after.

    Empty where fewer than three sites leave too few for the protocol's quorum.
    """
    if len(sites) - 1 < folder.protocol.federation.min_sites:
        return {}
    found: dict[str, ScoreCells] = {}
    fitted: dict[str, TrainingScores] = {}
    judged: dict[str, Part] = {}
    for name in sorted(sites):
        tell(name)
        home = folder.root / "leave-one-out" / name
        study = ReplayFolder(home, folder.protocol, folder.cache, study_name=f"without-{name}")
        others = {site: path for site, path in sites.items() if site != name}
        model = federate(study, others, ReplaySettings("local", settings.partition, settings.sites)).model()
        cohort = load_cohort(open_site(sites[name]), model.harmoniser)
        views = (cohort.training, cohort.test)
        margins = [
            safety_margins(view.table, view.visual, model, head=folder.protocol.head, device="cpu") for view in views
        ]
        altered = np.concatenate([view.table.altered for view in views])
        found[name] = ScoreCells.of_scores(np.concatenate(margins), altered)
        fitted[name] = TrainingScores(margins[0], cohort.training.table.altered)
        judged[name] = (margins[1], cohort.test.table.altered)
    return {
        **sites_pooled(found, min_cell=FEWEST_PER_CLASS),
        "recalibration": compare_recalibrations(fitted, judged, min_cell=FEWEST_PER_CLASS),
    }
