"""score_cases: a released model on this site's prepared cases, with what moved each score and how far off the case is.

No message is sent and nothing is fitted: signature validation without training or selection traffic.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.site import Site
from client.store.cohort import SiteCohort
from client.tasks.learning_encoder import with_learned_maps
from client.tasks.load_cohort import load_cohort
from client.training.personal import personalised
from client.training.released import Explained, explain, read_released
from client.visual_maps import VisualMaps
from common.errors import ProtocolMismatch
from common.metrics.roc import auc
from common.tables import FeatureTable

__all__ = ["ScoredSite", "score_cases"]

FAR = 3.0
"""Standard deviations from the training mean beyond which a feature is named."""


@dataclass(frozen=True, eq=False)
class ScoredSite:
    """Stays at the site; summary holds no case, rows one dictionary per case."""

    summary: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    file: Path


def score_cases(site: Site, model_folder: Path) -> ScoredSite:
    """Score all prepared cases; ProtocolMismatch `protocol-differs` where their features are not the model's.

    What the protocol leaves to each site (training.personal) is fitted on the site's training cases, if it has any.
    With ComBat the site fits its own scanners' shifts on its training cases, without their labels.
    """
    model = read_released(model_folder)
    if model.about.get("protocol_fingerprint") != site.protocol.fingerprint():
        raise ProtocolMismatch(
            "protocol-differs",
            site=site.settings.name,
            field="protocol",
            problem="The site's protocol is not the one the model was trained under.",
            fix="Install the study's protocol file at the site and prepare the cases with it.",
        )
    state = model.state
    cohort = load_cohort(site, state.harmoniser)
    cohort = SiteCohort(with_learned_maps(cohort.training, state, site), with_learned_maps(cohort.test, state, site))
    views, protocol, fitted = (cohort.training, cohort.test), site.protocol, cohort.training
    if len(fitted.table):
        state = personalised(state, fitted.table, fitted.visual, head=protocol.head, training=protocol.training)
    table = FeatureTable(
        cohort.training.table.names,
        np.concatenate([view.table.values for view in views]),
        np.concatenate([view.table.altered for view in views]),
    )
    visual = VisualMaps(tuple(row for view in views for row in view.visual), site.protocol.visual.length)
    found = explain(table, visual, state, site.protocol.head)
    pseudonyms = [name for view in views for name in view.pseudonyms]
    threshold = site.protocol.evaluation.threshold
    scored = tuple(_row(found, i, name, bool(table.altered[i]), threshold) for i, name in enumerate(pseudonyms))
    both = table.altered.any() and not table.altered.all()
    summary = {
        "model_sha256": model.sha256,
        "study": model.about.get("study", ""),
        "cases": len(scored),
        "altered": int(table.altered.sum()),
        "auc": float(auc(found.margins, table.altered)) if both else None,
        "cases_far_from_training": sum(bool(row["far"]) for row in scored),
        "research_use_only": True,
    }
    file = site.settings.cache / "scores" / f"{site.settings.name}-released-{model.sha256[:8]}.csv"
    _write(file, scored, found.inputs)
    return ScoredSite(summary, scored, file)


def _row(found: Explained, i: int, pseudonym: str, altered: bool, threshold: float) -> dict[str, Any]:
    z = found.radiomics_z[i]
    names = found.inputs[len(found.inputs) - len(z) :]
    safety = float(1 / (1 + np.exp(-found.margins[i])))
    return {
        "pseudonym": pseudonym,
        "altered": altered,
        "safety_margin": float(found.margins[i]),
        "safety_score": safety,
        "called_altered": safety < threshold,
        "constant": found.constant,
        "contributions": dict(zip(found.inputs, map(float, found.contributions[i]), strict=True)),
        "radiomics_distance": float(np.sqrt(np.mean(z**2))),
        "visual_distance": float(found.visual_z[i]),
        "far": [f"{name} {value:+.1f} SD" for name, value in zip(names, z, strict=True) if abs(value) > FAR],
    }


def _write(path: Path, rows: tuple[dict[str, Any], ...], inputs: tuple[str, ...]) -> None:
    """CSV, one column per contribution; beside first and then renamed."""
    plain = [key for key in rows[0] if key not in {"contributions", "far"}]
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*plain, "far", *inputs))
        for row in rows:
            writer.writerow((*(row[key] for key in plain), "; ".join(row["far"]), *row["contributions"].values()))
    beside.replace(path)
