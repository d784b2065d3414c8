"""report: one folder: report.html (self-contained), report.json, tables as CSV, figures, model card.

The folder is written beside and renamed, so that a reader finds all of it or the one before.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.reporting.content import StudyContent
from server.reporting.evaluation import evaluate_arm
from server.reporting.figures import draw_figures
from server.reporting.model_card import model_card
from server.reporting.paper import DISCREPANCIES, LIMITATIONS, PRINTED
from server.reporting.tables import bytes_table, participation_table, table_1, table_2

__all__ = ["PAGES", "write_report"]

SECTIONS: dict[str, Any] = {
    "ladder": [],
    "ablation": [],
    "thresholds": [],
    "stability": {},
    "judgement": {},
    "subgroups": {},
    "leave_one_site_out": {},
    "splits": {},
    "retraining": {},
    "privacy": {},
}
"""Sections that a report without cases leaves empty."""
PAGES = Path(__file__).parent
"""Of template.html, and of style.css, which the page of attacks wears, too (simulation/attacks)."""


def write_report(folder: Path, content: StudyContent, *, seed: int) -> dict[str, Any]:
    """Write everything and return what report.json holds.  `seed` names the bootstrap's stream."""
    metrics = {
        arm.name: {
            view: evaluate_arm(arm, view, threshold=content.threshold, resamples=content.bootstrap, seed=seed)
            for view in ("train", "test")
        }
        for arm in content.arms
    }
    tables: dict[str, list[dict[str, Any]]] = {
        "table1": table_1(content.cases) if content.cases else [],
        "table2": table_2(content.ranking),
        "participation": participation_table(content),
        "exchanges": bytes_table(content),
        "arms": _flat_metrics(metrics),
    }
    for name in ("ladder", "ablation", "thresholds"):
        tables[name] = _flat_rows(content.sections.get(name, []))
    report: dict[str, Any] = _plain(_report_json(content, metrics, tables))
    figures = draw_figures(content, metrics)
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "figures").mkdir(parents=True)
    (beside / "tables").mkdir()
    for name, png in figures.items():
        (beside / "figures" / f"{name}.png").write_bytes(png)
    for name, rows in tables.items():
        _write_csv(beside / "tables" / f"{name}.csv", rows)
    (beside / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
    (beside / "report.html").write_text(_html(content, report, figures), encoding="utf-8")
    (beside / "model_card.md").write_text(model_card(content, metrics), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return report


def _report_json(content: StudyContent, metrics: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": content.title,
        "status": content.status,
        "research_use_only": True,
        "synthetic": content.synthetic,
        "cohort": _cohort(content),
        "split": {
            view: {
                "altered": sum(c.altered for c in content.cases if c.set == view),
                "not_altered": sum(not c.altered for c in content.cases if c.set == view),
            }
            for view in ("train", "test")
        },
        "arms": {
            arm.name: {"description": arm.description, "losses": arm.losses, **metrics[arm.name]}
            for arm in content.arms
        },
        "federated_vs_pooled": [
            {
                "quantity": law.quantity,
                "largest_difference": law.difference,
                "tolerance": law.tolerance,
                "holds": law.holds,
                "note": law.note,
            }
            for law in content.laws
        ],
        "selection": {
            "method": content.selection_method,
            "signature": [name for name, _ in content.ranking],
            "ties_at_the_cut": content.ties,
        },
        "tables": tables,
        "server_view": content.server_view,
        **SECTIONS,
        **content.sections,
        "timings": content.timings,
        "preparation": content.preparation,
        "parameters": content.parameters,
        "paper": PRINTED,
        "discrepancies": DISCREPANCIES,
        "limitations": LIMITATIONS,
        "notes": content.notes,
        "methods": content.methods,
        "protocol": content.protocol,
        "provenance": content.provenance,
    }


def _cohort(content: StudyContent) -> dict[str, Any]:
    """Cases by site and class."""
    return {
        "cases": len(content.cases),
        "altered": sum(c.altered for c in content.cases),
        "not_altered": sum(not c.altered for c in content.cases),
        "sites": {
            site: {
                "altered": sum(c.altered for c in content.cases if c.site == site),
                "not_altered": sum(not c.altered for c in content.cases if c.site == site),
            }
            for site in sorted({c.site for c in content.cases})
        },
    }


def _flat_metrics(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per arm and set, for the CSV."""
    rows = []
    for arm, views in metrics.items():
        for view, m in views.items():
            rows.append(
                {
                    "arm": arm,
                    "set": view,
                    "cases": m["cases"],
                    "auc": m["auc"],
                    "auc_bootstrap_low": m["auc_bootstrap_95"][0],
                    "auc_bootstrap_high": m["auc_bootstrap_95"][1],
                    "auc_logit_delong_low": m["auc_logit_delong_95"][0],
                    "auc_logit_delong_high": m["auc_logit_delong_95"][1],
                    "within_site_auc": m["within_site_auc"],
                    "sensitivity": m["sensitivity"],
                    "specificity": m["specificity"],
                    "accuracy": m["accuracy"],
                    "rank_sum_z": m["rank_sum"]["z"],
                    "rank_sum_p": m["rank_sum"]["p"],
                }
            )
    return rows


def _flat_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lists and dictionaries in a cell become words."""
    return [
        {key: "; ".join(map(str, value)) if isinstance(value, list | dict) else value for key, value in row.items()}
        for row in rows
    ]


def _plain(value: Any) -> Any:
    """Strict JSON: no NaN, no infinity, no numpy."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["empty"])
        writer.writeheader()
        writer.writerows(rows)


def _html(content: StudyContent, report: dict[str, Any], figures: dict[str, bytes]) -> str:
    environment = Environment(
        loader=FileSystemLoader(PAGES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["p"] = lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}"
    environment.filters["pc"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["mb"] = lambda count: f"{count / 1e6:.2f} MB"
    images = {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in figures.items()}
    text: str = environment.get_template("template.html").render(
        r=report,
        images=images,
        sites=sorted({s for e in content.exchanges for s in e.roster}),
        exchanges=content.exchanges,
    )
    return text
