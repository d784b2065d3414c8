"""fedmidline-sim statistics: a table in, federated beside pooled out; every fault of a table is named."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from simulation.cli import main


def _table(path, cases=90, seed=0, **columns):
    rng = np.random.default_rng(seed)
    altered = np.arange(cases) % 2 == 0
    values = rng.normal(size=(cases, 25)) + np.arange(25) * 10
    values[:, :4] += 1.5 * altered[:, None]
    frame = pd.DataFrame(values, columns=[f"f{i:02d}" for i in range(25)])
    frame.insert(0, "case", [f"c{i}" for i in range(cases)])
    frame["site"] = np.where(np.arange(cases) % 3 == 0, "b", "a")
    frame["scanner"] = np.where(np.arange(cases) % 5 == 0, "y", "x")
    frame["age"] = rng.integers(8, 80, cases)
    frame["sex"] = rng.choice(["F", "M"], cases)
    frame["label"] = np.where(altered, "altered", "not_altered")
    frame["safety_score"] = 1 / (1 + np.exp(-(rng.normal(size=cases) - altered)))
    for name, cells in columns.items():
        frame[name] = cells
    frame.to_csv(path, index=False)
    return path


def _call(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["fedmidline-sim", "statistics", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def _result(monkeypatch, capsys, *words):
    code, out, err = _call(monkeypatch, capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


NOT_FEATURES = ("--ignore", "label", "--ignore", "safety_score")


def test_combat_writes_the_same_table_harmonised(tmp_path, monkeypatch, capsys):
    table, out = _table(tmp_path / "t.csv"), tmp_path / "h.csv"

    result = _result(
        monkeypatch,
        capsys,
        "combat",
        "--table",
        table,
        "--covariate",
        "age",
        "--covariate",
        "sex",
        "--out",
        out,
        *NOT_FEATURES,
    )

    before, after = pd.read_csv(table), pd.read_csv(out)
    assert list(before.columns) == list(after.columns)
    assert before[["case", "site", "age", "label"]].equals(after[["case", "site", "age", "label"]])
    assert result["largest_difference_to_pooled_in_sd"] < 1e-10
    assert ["age", "sex=M"] == result["covariates"]
    assert result["variance_explained_by_batch"]["after"] < result["variance_explained_by_batch"]["before"]


def test_select_finds_the_informative_features(tmp_path, monkeypatch, capsys):
    table = _table(tmp_path / "t.csv")
    words = ("select", "--table", table, "--k", 4, "--ignore", "age", "--ignore", "safety_score", "--resamples", 5)

    result = _result(monkeypatch, capsys, *words)

    assert {"f00", "f01", "f02", "f03"} == set(result["selected"])
    assert result["same_as_pooled"]
    assert result["largest_difference_to_scikit_learn"] < 1e-12
    assert ["case", "scanner", "sex"] == result["carried_text_columns"]
    assert 0 < result["stability"]["nogueira"] <= 1


def test_moments_are_numpys(tmp_path, monkeypatch, capsys):
    table = _table(tmp_path / "t.csv")

    result = _result(monkeypatch, capsys, "moments", "--table", table, "--out", tmp_path / "m.csv")

    assert max(result["differences_to_pooled"].values()) < 1e-10
    assert 27 == len(pd.read_csv(tmp_path / "m.csv"))


def test_evaluate_tells_what_pooled_scores_would(tmp_path, monkeypatch, capsys):
    table = _table(tmp_path / "t.csv")

    result = _result(monkeypatch, capsys, "evaluate", "--table", table)

    assert result["largest_difference_to_pooled"] < 1e-12
    assert result["histogram_difference_to_pooled"] <= result["auc_from_histogram"]["bound"]
    assert {"a", "b"} == set(result["by_site"]["sites"])
    assert 90 == sum(b["cases"] for b in result["calibration"]["bins"])


def test_evaluate_adjusts_for_age_and_sex(tmp_path, monkeypatch, capsys):
    table = _table(tmp_path / "t.csv")
    words = ("evaluate", "--table", table, "--adjust-for", "age", "--adjust-for", "sex")

    adjusted = _result(monkeypatch, capsys, *words)["adjusted"]

    assert ["age", "sex=M"] == adjusted["covariates"]
    assert adjusted["largest_difference_to_pooled"] < 1e-9
    assert adjusted["auc_logit_delong_95"][0] < adjusted["auc"] < adjusted["auc_logit_delong_95"][1]


def test_meta_pools_sites(tmp_path, monkeypatch, capsys):
    pd.DataFrame({"site": list("abc"), "auc": [0.9, 0.8, 0.85], "se": [0.03, 0.05, 0.04]}).to_csv(tmp_path / "m.csv")

    words = (
        "meta",
        "--table",
        tmp_path / "m.csv",
        "--estimate-column",
        "auc",
        "--error-column",
        "se",
        "--scale",
        "auc",
    )
    result = _result(monkeypatch, capsys, *words)

    low, high = result["interval_95"]
    assert low < result["estimate"] < high < 1
    assert result["prediction_95"][0] < low


@pytest.mark.parametrize(
    ("columns", "words", "told"),
    [
        ({"f03": ["nan"] + ["1"] * 89}, ("moments",), "row 2, f03: 'nan' is not a finite number"),
        ({"f03": [""] + ["1"] * 89}, ("moments",), "row 2, f03: '' is not a finite number"),
        ({"site": [""] + ["a"] * 89}, ("moments",), "row 2, site: the cell is empty"),
        ({"label": ["altered"] * 90}, ("select",), "label-not-two-classes"),
        ({}, ("select", "--site-column", "hospital"), "column 'hospital' is missing"),
        ({}, ("evaluate", "--score-column", "score"), "score-column-missing"),
        ({"safety_score": ["7"] * 90}, ("evaluate",), "score-not-a-probability"),
        ({"sex": ["M"] * 90}, ("combat", "--covariate", "sex", "--reference-batch", "z"), "reference-batch-absent"),
        ({"age": ["40"] * 90}, ("combat", "--covariate", "age"), "covariate-constant"),
    ],
)
def test_bad_tables_are_told_by_row_and_column(tmp_path, monkeypatch, capsys, columns, words, told):
    table = _table(tmp_path / "t.csv", **columns)
    extra = ("--out", tmp_path / "h.csv") if words[0] == "combat" else ()

    code, out, err = _call(monkeypatch, capsys, words[0], "--table", table, *words[1:], *extra)

    assert (out, code in {2, 3}) == ("", True)
    assert told in err.replace("\n", " ")
    assert not (tmp_path / "h.csv").exists()
