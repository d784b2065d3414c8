"""The paper's own arithmetic (METHOD 1.8), from counts and constructed scores that no one here wrote."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from common.catalogue import PAPER_SIGNATURE, radiomics_names
from common.config.modelling import HeadSettings
from common.config.visual import VisualSettings
from common.metrics import roc_cells, score_search
from common.metrics.confusion import Confusion, confusion_at, confusion_below, exact_interval
from common.metrics.group_tests import combine_tables, compare_counts
from common.metrics.rank_sum import rank_sum, rank_sum_of_cells
from common.metrics.roc import auc, bootstrap_interval
from common.networks.fused_head import initial_weights
from simulation.split import stratified_split

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "paper"


def _fixture(name):
    path = GOLDEN / f"{name}_set_fixture.json"
    if not path.exists():
        pytest.skip("the golden files of ../shared are not beside this checkout")
    content = json.loads(path.read_text())
    altered = np.array(content["h3_dmg_scores"])
    other = np.array(next(v for k, v in content.items() if k.endswith("_scores") and k != "h3_dmg_scores"))
    scores = np.concatenate([altered, other])
    return scores, np.arange(len(scores)) < len(altered)


def _margins(scores):
    clipped = np.clip(scores, 1e-300, 1 - 1e-16)
    return np.log(clipped / (1 - clipped))


@pytest.mark.parametrize(
    ("table", "chi_square", "p", "fisher"),
    [
        ([[19, 185], [4, 46]], 0.08416, 0.771738, 1.0),
        ([[131, 73], [34, 16]], 0.252659, 0.615209, 0.7411),
        ([[102, 102], [25, 25]], 0.0, 1.0, 1.0),
    ],
)
def test_table_1(table, chi_square, p, fisher):
    """F9: chi-squares are Pearson's; the printed P of sex is Fisher's."""
    test = compare_counts(np.array(table))

    assert pytest.approx((chi_square, p, fisher), abs=1e-4) == (test.chi_square, test.p, test.fisher_p)


@pytest.mark.parametrize(
    ("counts", "printed"),
    [(Confusion(95, 7, 83, 19), (93.14, 81.37, 87.25)), (Confusion(22, 3, 20, 5), (88.0, 80.0, 84.0))],
)
def test_confusion_counts(counts, printed):
    """F7."""
    found = tuple(round(100 * s, 2) for s in (counts.sensitivity, counts.specificity, counts.accuracy))

    assert printed == found


def test_exact_intervals_the_paper_omits():
    assert exact_interval(22, 25) == pytest.approx((0.688, 0.975), abs=1e-3)


def test_z_of_the_test_set_needs_a_tie():
    """F8: U = 576 with four equal scores gives -5.1139."""
    scores, altered = _fixture("test")

    result = rank_sum(scores[altered], scores[~altered])

    assert result.u == 625 - 576
    assert pytest.approx(-5.1139, abs=2e-4) == result.z
    assert pytest.approx(0.9216, abs=1e-12) == auc(scores, altered)


def test_test_set_shares_and_interval():
    """F6, F7: 22/25 and 20/25; the percentile bootstrap fits the printed interval."""
    scores, altered = _fixture("test")

    low, high = bootstrap_interval(scores, altered, resamples=4000, rng=np.random.default_rng(0))

    assert Confusion(22, 3, 20, 5) == confusion_at(_margins(scores), altered)
    assert pytest.approx((0.829, 0.986), abs=0.012) == (low, high)


def test_training_set():
    scores, altered = _fixture("train")

    assert Confusion(95, 7, 83, 19) == confusion_at(_margins(scores), altered)
    assert pytest.approx(0.953, abs=1e-3) == auc(scores, altered)


def test_table_2_counts():
    """F1: 5 + 14, not 6 + 13; 12 first-order and 7 GLCM; all wavelet."""
    sequences = Counter(name.split("_")[0] for name in PAPER_SIGNATURE)
    families = Counter(name.split("_")[2] for name in PAPER_SIGNATURE)

    assert sequences == {"T1CE": 5, "FLAIR": 14}
    assert families == {"firstorder": 12, "glcm": 7}
    assert all("_wavelet-" in name for name in PAPER_SIGNATURE)
    assert set(PAPER_SIGNATURE) <= set(radiomics_names())


def test_sizes():
    """851 per sequence, 1702 in all; 2^20 visual features; 10,485,770 + 60 parameters."""
    names = radiomics_names()
    weights = initial_weights(VisualSettings().length, 19, HeadSettings(), seed=1)
    first = weights["visual.weight"].size + weights["visual.bias"].size
    second = weights["fusion.weight"].size + weights["fusion.bias"].size

    assert (len(set(names)), sum(n.startswith("T1CE") for n in names)) == (1702, 851)
    assert VisualSettings().length == 2**20
    assert (first, second) == (10_485_770, 60)


def test_split_is_204_and_50():
    """R5: 102/102 and 25/25, where scikit-learn's rounding gives 203/51."""
    altered = np.arange(254) % 2 == 0

    is_test = stratified_split(list(altered), 0.2, seed=3)

    assert (int(altered[is_test].sum()), int((~altered)[is_test].sum())) == (25, 25)
    assert (int(altered[~is_test].sum()), int((~altered)[~is_test].sum())) == (102, 102)


def _hospitals(scores, altered):
    """The fixture's cases dealt to three hospitals, one of which has one case."""
    owner = np.where(np.arange(len(scores)) == 7, 2, np.arange(len(scores)) % 2)
    return [(_margins(scores[owner == s]), altered[owner == s]) for s in range(3)]


def _searched(parts):
    return score_search.finish(score_search.search_scores(parts, ties="all"))


def test_z_and_auc_of_the_test_set_from_three_hospitals():
    """F8 without pooling: AUC .9216, z -5.1139 with the tie, DeLong's error, 22/25 and 20/25 (F7)."""
    scores, altered = _fixture("test")
    expected = json.loads((GOLDEN / "test_set_fixture.json").read_text())["expected"]

    cells = _searched(_hospitals(scores, altered))

    assert pytest.approx(expected["auc"], abs=1e-12) == roc_cells.auc(cells).auc
    assert pytest.approx(expected["z_tie_corrected_no_cc"], abs=2e-4) == rank_sum_of_cells(cells).z
    assert pytest.approx(expected["delong_se"], abs=1e-12) == roc_cells.delong_error(cells)
    # the file multiplies by 1.96, we by the quantile itself
    assert pytest.approx(expected["logit_delong_ci"], abs=1e-5) == roc_cells.logit_delong_interval(cells)
    assert Confusion(22, 3, 20, 5) == sum(
        (confusion_below(m, a, 0.0) for m, a in _hospitals(scores, altered)), Confusion(0, 0, 0, 0)
    )


def test_bootstrap_of_cells_fits_the_printed_interval():
    """F6 from counts alone: .829 to .986."""
    scores, altered = _fixture("test")
    cells = _searched(_hospitals(scores, altered))

    found = roc_cells.bootstrap_interval(cells, resamples=4000, rng=np.random.default_rng(0))

    assert pytest.approx((0.829, 0.986), abs=0.012) == found


def test_training_set_from_three_hospitals():
    """93.14, 81.37 and 87.25 %, AUC .953 (F7)."""
    scores, altered = _fixture("train")
    parts = _hospitals(scores, altered)

    counts = sum((confusion_below(m, a, 0.0) for m, a in parts), Confusion(0, 0, 0, 0))

    shares = (counts.sensitivity, counts.specificity, counts.accuracy)
    assert (93.14, 81.37, 87.25) == tuple(round(100 * s, 2) for s in shares)
    assert pytest.approx(0.953, abs=1e-3) == roc_cells.auc(_searched(parts)).auc


def test_table_1_from_the_tables_of_hospitals():
    """F9: tables add up, whatever their parts."""
    path = GOLDEN / "table1.json"
    if not path.exists():
        pytest.skip("the golden files of ../shared are not beside this checkout")
    rng = np.random.default_rng(1)
    for row in json.loads(path.read_text())["table1"].values():
        whole = np.array(row["counts"])
        part = rng.integers(0, whole + 1)

        test = compare_counts(combine_tables([part, whole - part, np.zeros((2, 2), int)]))

        assert pytest.approx((*row["pearson"], row["fisher_p"]), abs=1e-4) == (test.chi_square, test.p, test.fisher_p)
