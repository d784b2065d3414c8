"""Structural checks before a release: each passes on a safe study and fails on one that is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from common.errors import InputError, Refused
from common.messages.harmoniser import Harmoniser
from common.messages.qualify import QualifyReply
from common.networks.first_weights import first_weights
from server.release_checks import CHECKS, check_release
from server.releases import add_release, read_release
from server.state import FeatureMoments, Selection, StudyState
from tests.builders import small_protocol

WHEN = datetime(2026, 3, 1, tzinfo=UTC)
CELLS = 64


def histogram(cases: int, shift: int = 6) -> np.ndarray:
    """(not altered, altered) x cells: both classes spread over the middle, altered lower by `shift` cells."""
    counts = np.zeros((2, CELLS), np.int64)
    for row, centre in ((0, CELLS // 2 + shift), (1, CELLS // 2 - shift)):
        places = np.round(np.linspace(centre - 16, centre + 15, cases)).astype(int)
        np.add.at(counts[row], places, 1)
    return counts


def safe_study(cases: int = 400) -> StudyState:
    """Radiomics alone, many cases: nothing to find."""
    protocol = small_protocol(visual={"variant": "none"}, head={"hidden": 1})
    names = protocol.radiomics.names()
    weights = {name: weight + np.float32(0.1) for name, weight in first_weights(protocol, 19).items()}
    count = len(names)
    selection = Selection(
        signature=names[:19],
        scores=np.zeros(count),
        edges=np.zeros((count, 4)),
        ties=(),
        smallest_bin=79,
        one_class_bins=0,
    )
    return StudyState(
        study="trial",
        protocol=protocol,
        sites=("aachen", "bern"),
        qualified={
            name: QualifyReply(site=name, training_cases=(cases // 2, cases // 2), test_cases=(60, 60), versions={})
            for name in ("aachen", "bern")
        },
        harmoniser=Harmoniser(),
        moments=FeatureMoments(
            cases=2 * cases,
            radiomics_mean=np.zeros(count),
            radiomics_deviation=np.ones(count),
            visual_mean=np.zeros(1, np.float32),
            visual_deviation=np.ones(1, np.float32),
        ),
        selection=selection,
        weights=weights,
        histograms={"training": histogram(cases), "test": histogram(120)},
        finished=True,
    )


def verdicts(state: StudyState) -> dict[str, bool]:
    return {check.name: check.passed for check in check_release(state)}


def changed_selection(state: StudyState, **changes: object) -> StudyState:
    return state.evolve(selection=state.selection.model_copy(update=changes))


def fewer_cases(state: StudyState, cases: int) -> StudyState:
    replies = {
        name: reply.model_copy(update={"training_cases": (cases, cases)}) for name, reply in state.qualified.items()
    }
    return state.evolve(qualified=replies)


def all_alike(counts: np.ndarray) -> np.ndarray:
    """Every altered case in one cell."""
    changed = counts.copy()
    changed[1] = 0
    changed[1, 20] = counts[1].sum()
    return changed


def at_the_end(counts: np.ndarray) -> np.ndarray:
    """Some altered cases score 0 to seven digits."""
    changed = counts.copy()
    changed[1, 0] = 4
    return changed


def test_a_safe_study_passes_everything():
    assert verdicts(safe_study()) == dict.fromkeys(CHECKS, True)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("degrees-of-freedom", lambda s: fewer_cases(s, 10)),
        ("small-groups", lambda s: fewer_cases(s, 4)),
        ("small-groups", lambda s: s.evolve(histograms={**s.histograms, "test": histogram(30, shift=12)})),
        ("case-values", lambda s: s.evolve(weights={**s.weights, "scores": np.zeros(3, np.float32)})),
        ("case-values", lambda s: s.evolve(harmoniser=Harmoniser(shared=("scanner",), cases=(3,)))),
        ("case-values", lambda s: s.evolve(moments=s.moments.model_copy(update={"cases": 9}))),
        ("class-disclosure", lambda s: changed_selection(s, one_class_bins=2)),
        ("class-disclosure", lambda s: s.evolve(histograms={k: all_alike(h) for k, h in s.histograms.items()})),
        (
            "class-disclosure",
            lambda s: s.evolve(histograms={**s.histograms, "training": at_the_end(s.histograms["training"])}),
        ),
        ("k-anonymity", lambda s: changed_selection(s, smallest_bin=9)),
        ("k-anonymity", lambda s: changed_selection(s, smallest_bin=None)),
        ("generalisation-gap", lambda s: s.evolve(histograms={**s.histograms, "test": histogram(120, shift=0)})),
    ],
)
def test_what_each_check_finds(name, spoil):
    assert not verdicts(spoil(safe_study()))[name]


def test_a_layer_wider_than_the_cohort_holds_cases():
    protocol = small_protocol()
    state = safe_study().evolve(protocol=protocol, weights=dict(first_weights(protocol, 19)))
    rng = np.random.default_rng(1)
    moved = state.weights["visual.weight"] * np.float32(0.9)
    moved = moved + rng.standard_normal((10, 3)).astype(np.float32) @ rng.standard_normal((3, 2048)).astype(np.float32)
    check = {c.name: c for c in check_release(state.evolve(weights={**state.weights, "visual.weight": moved}))}

    assert not check["memorised-cases"].passed
    assert "mixtures of 800 training cases' 2,048 visual features: 3 of them" in check["memorised-cases"].found


def test_a_release_that_fails_is_refused_until_each_check_is_accepted(tmp_path):
    state = changed_selection(safe_study(), smallest_bin=3)
    with pytest.raises(Refused, match="release-checks-failed") as refused:
        add_release(tmp_path, state, reason="first", when=WHEN)
    assert refused.value.exit_code == 3
    assert refused.value.field == "k-anonymity"
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="check-unknown"):
        add_release(tmp_path, state, reason="first", when=WHEN, accept=("k-anonimity",))

    add_release(tmp_path, state, reason="stays with us", when=WHEN, accept=("k-anonymity", "small-groups"))

    made = read_release(tmp_path, 1)
    assert made.accepted == {"k-anonymity": "stays with us"}
    assert [check.name for check in made.checks if not check.passed] == ["k-anonymity"]
    assert [check.name for check in made.checks] == list(CHECKS)


def test_a_version_from_before_the_checks_can_still_be_read(tmp_path):
    add_release(tmp_path, safe_study(), reason="first", when=WHEN)
    path = tmp_path / "v0001" / "release.json"
    made = read_release(tmp_path, 1).model_dump(mode="json", exclude={"checks", "accepted"})
    path.write_text(json.dumps(made))

    assert read_release(tmp_path, 1).checks == ()


def test_record_level_privacy_tells_no_training_score_and_hides_cases_in_noise():
    state = safe_study()
    bare = state.evolve(histograms={"test": state.histograms["test"]})
    assert not verdicts(bare)["generalisation-gap"]

    settings = bare.protocol.model_dump(mode="json")
    settings["privacy"]["record_level"] = {"target_epsilon": 8.0}
    private = type(bare.protocol).model_validate(settings)
    assert verdicts(bare.evolve(protocol=private))["generalisation-gap"]
