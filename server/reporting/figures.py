"""figures: safety scores (the paper's Fig 3), ROC (Fig 4), arms side by side, convergence; as PNG bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.metrics.roc import auc, roc_points
from server.reporting.content import ArmScores, StudyContent
from server.reporting.evaluation import safety

__all__ = ["draw_figures"]

ALTERED, NOT_ALTERED = "#c2410c", "#1d4ed8"
ARMS = ("#0f766e", "#111827", "#a16207", "#7c3aed", "#be123c", "#0369a1", "#4d7c0f")


def draw_figures(content: StudyContent, metrics: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    """File stem -> PNG; nothing where the report has no scores."""
    figures: dict[str, bytes] = {}
    if content.arms:
        figures["safety_scores"] = _safety_scores(content.arms[0], content.threshold)
        for view in ("train", "test"):
            figures[f"roc_{view}"] = _roc(content.arms, view)
        figures["arms"] = _arms(metrics)
    sections = content.sections
    if "judgement" in sections:
        figures["calibration"] = _calibration(sections["judgement"]["calibration"]["bins"])
        figures["net_benefit"] = _net_benefit(sections["judgement"]["net_benefit"])
    if sections.get("leave_one_site_out"):
        figures["leave_one_site_out"] = _forest(sections["leave_one_site_out"])
    if any(e.loss is not None for e in content.exchanges):
        figures["convergence"] = _convergence(content)
    return figures


@contextmanager
def _canvas(width: float, height: float, into: list[bytes]) -> Iterator[Axes]:
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    into.append(buffer.getvalue())


def _safety_scores(arm: ArmScores, threshold: float) -> bytes:
    out: list[bytes] = []
    with _canvas(7, 3.4, out) as axes:
        scores, altered = safety(arm.margins["test"]), arm.altered["test"]
        order = np.lexsort((scores, ~altered))
        colours = np.where(altered[order], ALTERED, NOT_ALTERED)
        axes.bar(np.arange(len(order)), scores[order] - threshold, bottom=threshold, color=list(colours), width=0.8)
        axes.axhline(threshold, color="#111827", linewidth=1)
        axes.set(ylim=(0, 1), xlabel="test case, by class and score", ylabel="safety score", xticks=[])
        axes.plot([], [], "s", color=ALTERED, label="H3 K27-altered")
        axes.plot([], [], "s", color=NOT_ALTERED, label="not altered")
        axes.legend(frameon=False, loc="upper left", fontsize=8)
    return out[0]


def _roc(arms: tuple[ArmScores, ...], view: str) -> bytes:
    out: list[bytes] = []
    with _canvas(4.6, 4.4, out) as axes:
        for arm, colour in zip(arms, ARMS * len(arms), strict=False):
            false, true = roc_points(arm.margins[view], arm.altered[view])
            value = auc(arm.margins[view], arm.altered[view])
            main = arm.name in {"federated", "pooled"}
            width = 2.2 if main else 1.1
            axes.plot(false, true, color=colour, label=f"{arm.name}  {value:.3f}", linewidth=width)
        axes.plot([0, 1], [0, 1], color="#9ca3af", linewidth=0.8, linestyle=":")
        label = {"train": "training", "test": "test"}[view]
        axes.set(
            xlabel="1 - specificity", ylabel="sensitivity", title=f"ROC, {label} set (AUC in legend)", aspect="equal"
        )
        axes.legend(frameon=False, fontsize=7, loc="lower right")
    return out[0]


def _arms(metrics: dict[str, dict[str, Any]]) -> bytes:
    out: list[bytes] = []
    names = list(metrics)
    with _canvas(7, 0.5 * len(names) + 1.1, out) as axes:
        for place, name in enumerate(reversed(names)):
            test = metrics[name]["test"]
            low, high = test["auc_bootstrap_95"]
            axes.plot([low, high], [place, place], color="#0f766e", linewidth=2)
            axes.plot(test["auc"], place, "o", color="#0f766e")
        axes.set(
            yticks=range(len(names)), yticklabels=list(reversed(names)), xlabel="test AUC, 95 % bootstrap interval"
        )
        axes.axvline(0.5, color="#9ca3af", linewidth=0.8, linestyle=":")
        axes.set_xlim(right=1.01)
    return out[0]


def _calibration(bins: list[dict[str, Any]]) -> bytes:
    out: list[bytes] = []
    filled = [b for b in bins if b["cases"]]
    with _canvas(4.6, 4.2, out) as axes:
        axes.plot([0, 1], [0, 1], color="#9ca3af", linewidth=0.8, linestyle=":")
        axes.scatter(
            [b["mean_risk"] for b in filled],
            [b["altered"] / b["cases"] for b in filled],
            s=[12 * b["cases"] for b in filled],
            color=ARMS[0],
            alpha=0.75,
        )
        axes.set(xlim=(0, 1), ylim=(-0.03, 1.03), xlabel="mean risk of alteration in the bin", ylabel="observed share")
        axes.set_title("Calibration (area: cases)", fontsize=10)
    return out[0]


def _net_benefit(curve: dict[str, Any]) -> bytes:
    out: list[bytes] = []
    with _canvas(4.6, 4.2, out) as axes:
        if "refused" not in curve:
            axes.plot(curve["risk"], curve["score"], color=ARMS[0], linewidth=2, label="fused classifier")
            axes.plot(curve["risk"], curve["act_on_all"], color="#9ca3af", label="act on all")
            axes.axhline(0, color="#111827", linewidth=0.8, label="act on none")
            axes.set_ylim(-0.1, curve["prevalence"] * 1.05)
            axes.legend(frameon=False, fontsize=8)
        axes.set(xlabel="threshold of risk", ylabel="net benefit per case")
        axes.set_title("Decision curve", fontsize=10)
    return out[0]


def _forest(found: dict[str, Any]) -> bytes:
    """Sites with their intervals; below them the summary and where a new site may lie."""
    out: list[bytes] = []
    pooled = found["pooled"]
    rows = [(name, s.get("auc"), s.get("interval_95")) for name, s in found["sites"].items()]
    if "estimate" in pooled:
        rows.append(("pooled", pooled["estimate"], pooled["interval_95"]))
        if pooled["prediction_95"]:
            rows.append(("a new site", None, pooled["prediction_95"]))
    with _canvas(6.4, 0.45 * len(rows) + 1.1, out) as axes:
        for place, (name, value, interval) in enumerate(reversed(rows)):
            colour = ARMS[1] if name in {"pooled", "a new site"} else ARMS[0]
            if interval is None:
                axes.text(0.5, place, "withheld", fontsize=8, va="center")
                continue
            axes.plot(interval, [place, place], color=colour, linewidth=2, linestyle=":" if value is None else "-")
            if value is not None:
                axes.plot(value, place, "D" if name == "pooled" else "s", color=colour)
        axes.set(yticks=range(len(rows)), yticklabels=[name for name, _, _ in reversed(rows)], xlabel="AUC, 95 %")
        axes.axvline(0.5, color="#9ca3af", linewidth=0.8, linestyle=":")
        axes.set_xlim(right=1.01)
    return out[0]


def _convergence(content: StudyContent) -> bytes:
    out: list[bytes] = []
    rounds = [(e.round, e.loss) for e in content.exchanges if e.loss is not None]
    with _canvas(5.5, 3, out) as axes:
        axes.plot([r for r, _ in rounds], [loss for _, loss in rounds], "o-", color=ARMS[0], label="federated")
        for arm in content.arms:
            if arm.name == "pooled" and arm.losses:
                axes.plot(range(1, len(arm.losses) + 1), arm.losses, "s--", color=ARMS[1], label="pooled", markersize=4)
        axes.set(xlabel="round", ylabel="training loss of the round's first model", ylim=(0, None))
        axes.legend(frameon=False, fontsize=8)
    return out[0]
