"""The report: one folder, strict JSON, a page that loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from common.catalogue import PAPER_SIGNATURE
from server.reporting.content import ArmScores, CaseLine, LawCheck, StudyContent
from server.reporting.paper import DISCREPANCIES
from server.reporting.report import write_report
from server.state import Exchange

ROOT = Path(__file__).parents[2]


def _content(with_cases: bool = True) -> StudyContent:
    rng = np.random.default_rng(0)
    altered = np.arange(40) % 2 == 0
    margins = rng.normal(0, 2, 40) - 2 * altered
    views = {"train": margins, "test": margins[:20]}
    labels = {"train": altered, "test": altered[:20]}
    sites = {view: tuple("ab"[i % 2 if i < 4 else i // 10 % 2] for i in range(len(v))) for view, v in views.items()}
    arms = tuple(ArmScores(name, "", views, labels, sites, (0.7, 0.5)) for name in ("federated", "pooled"))
    cases = tuple(
        CaseLine("a", "test" if i < 20 else "train", bool(altered[i % 40]), 10.0 + i, "male", "ge", "pineal")
        for i in range(60)
    )
    exchange = Exchange(
        phase="train",
        action="train_round",
        round=1,
        seconds=1.0,
        roster={"a": "contributed", "b": "late"},
        bytes_down={"a": 4_250_000, "b": 4_250_000},
        bytes_up={"a": 1_130_000},
        loss=0.6,
    )
    return StudyContent(
        title="t <script>",
        status="completed",
        synthetic=True,
        cases=cases if with_cases else (),
        arms=arms if with_cases else (),
        ranking=tuple((name, 0.1) for name in PAPER_SIGNATURE),
        ties=(),
        selection_method="mutual_information",
        exchanges=(exchange,),
        laws=(LawCheck("x", float("nan"), 1e-9), LawCheck("y", 0.0, 0.0)),
        server_view={"test": {"auc": 0.9, "half_width": 0.01, "sensitivity": 0.8, "specificity": 0.9}},
        threshold=0.5,
        bootstrap=100,
        protocol={},
        provenance={"seed": "1"},
        preparation={"prepared": 60},
        methods="m",
        timings={"train": 1.0},
        parameters={"visual": 8},
    )


@pytest.mark.parametrize("with_cases", [True, False])
def test_a_report_is_whole(tmp_path, with_cases):
    result = write_report(tmp_path / "report", _content(with_cases), seed=1)

    text = (tmp_path / "report" / "report.json").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    stored = json.loads(text, parse_constant=pytest.fail)
    wanted = {"cohort", "split", "arms", "federated_vs_pooled", "selection", "tables", "timings", "discrepancies"}
    assert wanted <= set(stored)
    assert stored == json.loads(json.dumps(result))
    assert stored["federated_vs_pooled"][0]["holds"] is False
    assert "not a medical device" in page
    assert "<script>" not in page
    assert not re.search(r'(src|href)="http', page)
    assert "late" in page
    assert {"bytes_down": 8_500_000, "bytes_up": 1_130_000}.items() <= stored["tables"]["exchanges"][0].items()
    assert {"bytes_down": 4_250_000, "bytes_up": 0} == stored["tables"]["exchanges"][0]["sites"]["b"]
    assert "4.25 MB / 1.13 MB" in page
    assert {"F1", "F11"} <= set(stored["discrepancies"])
    if with_cases:
        assert f"{stored['arms']['federated']['test']['auc']:.3f}" in page
        assert (tmp_path / "report" / "figures" / "roc_test.png").stat().st_size > 1000
    assert [] == [p for p in tmp_path.iterdir() if p.name != "report"]


def test_the_documentation_lists_the_same_discrepancies():
    text = (ROOT / "docs" / "known-discrepancies.md").read_text()

    assert [f"| {key} | {line} |" for key, line in DISCREPANCIES.items() if f"| {key} | {line} |" not in text] == []
