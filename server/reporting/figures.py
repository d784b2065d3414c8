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
