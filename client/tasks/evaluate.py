"""evaluate: score this site's cases; histograms leave, the scores stay in the site's cache."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from client.device import choose_device
from client.site import Site
from client.store.cohort import ScoredCases, SiteCohort
from client.store.run_ledger import RunLedger
from client.tasks.learning_encoder import with_learned_maps
from client.tasks.load_cohort import load_cohort
from client.training.personal import personalised
from client.training.score import safety_margins
from common.arrays import CaseScores
from common.errors import Refused
from common.messages.evaluate import EvaluateReply, EvaluateRequest
from common.messages.model import ModelState
from common.metrics import score_histogram

__all__ = ["answer", "scores_file"]


def answer(request: EvaluateRequest, site: Site) -> EvaluateReply:
    """Margins of all cases with this model, or with the site's own form of it; counts per cell and class leave."""
    torch.set_num_threads(1)
    cohort = load_cohort(site, request.model.harmoniser)
    ledger = RunLedger(site.settings.cache)
    _require_unseen(cohort.test.pseudonyms, request.origin_study, ledger, site.settings.name)
    ledger.note(
        site.settings.name,
        request.study,
        request.fingerprint,
        "test",
        dict.fromkeys(cohort.test.pseudonyms, ""),
        when=datetime.now(UTC),
    )
    cohort = SiteCohort(
        with_learned_maps(cohort.training, request.model, site), with_learned_maps(cohort.test, request.model, site)
    )
    protocol, fitted = site.protocol, cohort.training
    model = personalised(request.model, fitted.table, fitted.visual, head=protocol.head, training=protocol.training)
    cells = site.protocol.evaluation.score_cells
    rows, histograms = [], {}
    for view, cases in (("train", cohort.training), ("test", cohort.test)):
        margins = _margins(cases, model, site)
        altered = cases.table.altered
        histograms[view] = score_histogram.summarise(margins, altered, cells=cells)
        rows += [
            (name, view, label, repr(float(margin)))
            for name, label, margin in zip(cases.pseudonyms, altered.astype(int), margins, strict=True)
        ]
    if protocol.privacy.record_level is not None:
        histograms["train"] = np.zeros_like(histograms["train"])  # exact counts would tell what the noise hides
    _write_scores(scores_file(site, f"{request.study}-before" if request.before else request.study), rows)
    return EvaluateReply(site=site.settings.name, training=histograms["train"], test=histograms["test"])


def _require_unseen(tested: tuple[str, ...], origin: str, ledger: RunLedger, site: str) -> None:
    """Refused `test-case-was-trained-on`: the released model that the study goes on from has learned from it."""
    learned = {name for run in ledger.runs() if run.site == site and run.study == origin for name in run.training}
    if learned & set(tested):
        raise Refused(
            "test-case-was-trained-on",
            site=site,
            field="split",
            problem="Test cases of this study are training cases of the one it goes on from.",
            fix="Give them the split of the earlier study in the manifest; the site's log names them.",
            local=", ".join(sorted(learned & set(tested))),
        )


def scores_file(site: Site, study: str) -> Path:
    """Where the hospital finds the safety scores of its own cases."""
    return site.settings.cache / "scores" / f"{site.settings.name}-{study}.csv"


def _margins(cases: ScoredCases, model: ModelState, site: Site) -> CaseScores:
    return safety_margins(
        cases.table,
        cases.visual,
        model,
        head=site.protocol.head,
        device=choose_device(site.settings.device),
    )


def _write_scores(path: Path, rows: list[tuple[str, str, int, str]]) -> None:
    """CSV, beside first and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("pseudonym", "set", "altered", "safety_margin"))
        writer.writerows(rows)
    beside.replace(path)
