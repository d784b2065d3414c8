"""score_cells: this site's test cases by the next bits of their scores; the scores stay."""

from __future__ import annotations

import csv

import numpy as np

from client.site import Site
from client.tasks.evaluate import scores_file
from common.errors import Refused
from common.messages.score_cells import ScoreCellsReply, ScoreCellsRequest
from common.metrics.score_search import CellRequest, summarise

__all__ = ["answer"]


def answer(request: ScoreCellsRequest, site: Site) -> ScoreCellsReply:
    """Refused `exact-auc-not-agreed` where the site's protocol does not ask for it; `scores-missing` before evaluate."""
    if site.protocol.evaluation.auc != "exact":
        raise Refused(
            "exact-auc-not-agreed",
            site=site.settings.name,
            field="evaluation.auc",
            problem="The protocol lets histograms of scores leave the site, not their exact order.",
            fix="Agree on evaluation.auc: exact in the protocol, or do without.",
        )
    path = scores_file(site, request.study)
    if not path.exists():
        raise Refused(
            "scores-missing",
            site=site.settings.name,
            field="scores",
            problem="The site has no scores of this study.",
            fix="Evaluate first; the coordinator's next run does.",
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "test"]
    margins = np.array([float(row["safety_margin"]) for row in rows])
    altered = np.array([row["altered"] == "1" for row in rows], dtype=bool)
    counts = summarise(margins, altered, CellRequest(request.prefixes, request.depth, request.bits))
    return ScoreCellsReply(site=site.settings.name, counts=counts)
