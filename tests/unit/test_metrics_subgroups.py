"""Which subgroups may be shown, and the gap between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.metrics import roc_cells, subgroups
from common.metrics.confusion import Confusion, confusion_below
from common.metrics.score_cells import ScoreCells
from tests.scored_partitions import scored_partitions

LARGE = Confusion(tp=18, fn=2, tn=15, fp=5)


def test_a_small_level_takes_its_complement_with_it():
    """Two levels and a published total: hiding one alone hides nothing."""
    minors = Confusion(tp=4, fn=0, tn=0, fp=0)

    found = subgroups.by_subgroup({"under 18": minors, "adult": LARGE})

    assert {"under 18": "small-cell", "adult": "complement"} == found.withheld
    assert {} == found.shown
    assert found.equalised_odds_gap is None


def test_of_three_levels_the_smallest_of_the_others_is_withheld():
    levels = {"a": Confusion(9, 0, 20, 0), "b": Confusion(30, 0, 30, 0), "c": LARGE, "d": LARGE + LARGE}

    found = subgroups.by_subgroup(levels)

    assert {"a": "small-cell", "c": "complement"} == found.withheld
    assert ["b", "d"] == list(found.shown)


def test_zero_is_disclosive():
    """Nobody in the level is altered: showing it tells everybody's label."""
    found = subgroups.by_subgroup({"a": Confusion(0, 0, 40, 3), "b": LARGE, "c": LARGE + LARGE})

    assert "small-cell" == found.withheld["a"]


def test_several_small_levels_must_hide_enough_together():
    """Two tiny levels beside a published total still tell their sum."""
    tiny = Confusion(1, 1, 1, 1)

    found = subgroups.by_subgroup({"a": tiny, "b": tiny, "c": LARGE, "d": LARGE + LARGE})

    assert {"a", "b", "c"} == set(found.withheld)


def test_every_count_is_stricter():
    counts = {"female": LARGE, "male": LARGE + LARGE}

    assert set(counts) == set(subgroups.by_subgroup(counts).shown)
    assert {"female": "small-cell", "male": "small-cell"} == subgroups.by_subgroup(counts, every_count=True).withheld


def test_equalised_odds_gap():
    """Sensitivities 0.9 and 0.5, specificities 0.75 and 0.8."""
    found = subgroups.by_subgroup({"a": LARGE, "b": Confusion(10, 10, 16, 4)})

    assert pytest.approx(0.4) == found.equalised_odds_gap


counts = st.integers(0, 30)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(counts, counts), min_size=1), st.integers(1, 12))
def test_nothing_small_is_shown_or_can_be_worked_out(cells, min_cell):
    """Every shown level is large; what is withheld together is two levels at least and large, or all there is."""
    withheld = subgroups.withheld_levels(cells, min_cell=min_cell)

    shown = [cells[level] for level in cells if level not in withheld]
    hidden = np.sum([cells[level] for level in withheld], axis=0)
    assert all(min(pair) >= min_cell for pair in shown)
    assert all(min(cells[level]) < min_cell for level, why in withheld.items() if why == "small-cell")
    if withheld and shown:
        assert len(withheld) >= 2
        assert min(hidden) >= min_cell


@settings(deadline=None, max_examples=40)
@given(scored_partitions(), st.integers(0, 2**32 - 1))
def test_counts_of_sites_are_the_pooled_counts(scored, seed):
    known = ("siemens", "ge", "philips")
    levels = np.random.default_rng(seed).choice(known, len(scored.margins))
    parts = [
        subgroups.summarise(
            scored.margins[scored.owner == s], scored.altered[scored.owner == s], levels[scored.owner == s], known=known
        )
        for s in np.unique(scored.owner)
    ]

    found = subgroups.combine(parts[::-1])

    for level in known:
        here = levels == level
        assert confusion_below(scored.margins[here], scored.altered[here], 0.0) == found[level]


def test_unknown_levels_are_refused_not_dropped():
    with pytest.raises(InputError, match=r"subgroup-unknown \[1 case"):
        subgroups.summarise(np.zeros(2), np.array([True, False]), ["ge", ""], known=["ge"])


def test_auc_by_age_group():
    """Within a level; a level of one class is withheld together with the smallest other."""
    rng = np.random.default_rng(2)
    ages = {"under 18": np.ones(12, bool), "18 to 40": np.arange(40) < 20, "over 40": np.arange(60) < 20}
    cells = {level: ScoreCells.of_scores(rng.normal(size=len(a)) - a, a) for level, a in ages.items()}

    found = subgroups.auc_by_subgroup(cells)

    assert {"under 18": "small-cell", "18 to 40": "complement"} == found.withheld
    shown = found.shown["over 40"]
    assert roc_cells.auc(cells["over 40"]) == shown.auc
    assert shown.interval[0] < shown.auc.auc < shown.interval[1]
    assert (20, 40) == (shown.altered, shown.not_altered)
