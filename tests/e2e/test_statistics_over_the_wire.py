"""Harmonisation and selection over Flower's messages equal one computer with all the data, whatever the method."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from flwr.app import Message

from client.site import open_site
from client.tasks import score_cells
from client.tasks.evaluate import scores_file
from common.errors import ConfigError, Refused
from common.messages.score_cells import ScoreCellsRequest
from common.metrics.roc import auc
from server.reporting.evaluation import server_view
from server.state import StudyState
from simulation.engines import run_local
from simulation.oracle import harmonise_pooled, pooled_oracle
from tests.builders import Federation, pooled_site, small_protocol, write_federation

SIZES = {"aachen": 16, "bern": 24, "cork": 12}
SCANNERS = {"aachen": ("verio", "prisma"), "bern": ("prisma", "mr750"), "cork": ("skyra",)}
SELECTIONS = [
    {"method": "mutual_information", "binning": "mean_deviation"},
    {"method": "mutual_information", "binning": "equal_width"},
    {"method": "decorrelated", "candidates": 60, "largest_correlation": 0.8},
    {"method": "mrmr", "candidates": 60},
    {"method": "anova_f"},
]
HARMONISATIONS = [
    {"method": "site_zscore"},
    {"method": "combat"},
    {"method": "combat", "batch": "site", "covariates": ["age"]},
    {"method": "combat", "batch": "site_and_scanner", "covariates": [], "mean_only": True},
    {"method": "combat", "reference_batch": "prisma", "empirical_bayes": False},
]


def _short(**changes: object):
    return small_protocol(training={"rounds": 1, "local_epochs": 1, "learning_rate": 0.01}, **changes)


def _run(federation: Federation) -> StudyState:
    return run_local(federation.study, list(federation.sites.values()))


@pytest.mark.parametrize("harmonisation", HARMONISATIONS, ids=lambda h: "-".join(map(str, h.values())))
def test_harmonisation_equals_pooled(tmp_path, harmonisation):
    """Two sites share a scanner; moments and scores of harmonised features agree to 1e-9."""
    federation = write_federation(tmp_path, _short(harmonisation=harmonisation), SIZES, SCANNERS)
    site, cohort, owner = pooled_site(tmp_path, federation)

    state, pooled = _run(federation), harmonise_pooled(cohort, site, owner)
    oracle = pooled_oracle(pooled, federation.protocol, site="all")

    deviation = oracle.radiomics_deviation
    np.testing.assert_allclose((state.moments.radiomics_mean - oracle.radiomics_mean) / deviation, 0, atol=1e-9)
    np.testing.assert_allclose(state.moments.radiomics_deviation / deviation, 1, rtol=1e-9)
    assert oracle.model.signature == state.selection.signature
    assert state.status() == "completed"


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: "-".join(map(str, s.values())))
def test_selection_equals_pooled(tmp_path, selection):
    """The same features in the same order; scores as scikit-learn's."""
    federation = write_federation(tmp_path, _short(selection=selection), SIZES)
    _, cohort, _ = pooled_site(tmp_path, federation)

    state, oracle = _run(federation), pooled_oracle(cohort, federation.protocol, site="all")

    np.testing.assert_allclose(state.selection.scores, oracle.scores, rtol=1e-8, atol=1e-12)
    assert oracle.model.signature == state.selection.signature


def test_a_site_lost_between_two_phases_is_not_counted(tmp_path):
    """Edges are quantiles of the cases of those that are left."""
    federation = write_federation(tmp_path, _short(), SIZES)
    alone = write_federation(tmp_path / "two", _short(), {k: SIZES[k] for k in ("aachen", "bern")})

    def lose(message: Message) -> bool:
        return message.metadata.dst_node_id == 102 and "quantiles" in message.metadata.message_type

    state = run_local(federation.study, list(federation.sites.values()), lose=lose)
    expected = _run(alone)

    np.testing.assert_array_equal(state.selection.edges, expected.selection.edges)
    assert state.status() == "completed with losses: cork"


def test_a_cohort_that_changes_in_the_middle_is_refused(tmp_path):
    """A case more than had qualified would bend every edge: the site is refused by name, the others go on."""
    federation = write_federation(tmp_path, _short(), SIZES)
    manifest = federation.sites["cork"].parent / "manifest.csv"

    def change(message: Message) -> bool:
        if message.metadata.dst_node_id == 102 and "contingency" in message.metadata.message_type:
            manifest.write_text(manifest.read_text().replace(",test", ",train", 1))
        return False

    state = run_local(federation.study, list(federation.sites.values()), lose=change)

    codes = {e.codes["cork"] for e in state.exchanges if e.action == "contingency" and "cork" in e.codes}
    assert {"cohort-changed"} == codes
    assert state.status() == "completed with losses: cork"


def test_a_case_without_age_is_refused_by_name(tmp_path):
    federation = write_federation(tmp_path, _short(harmonisation={"method": "combat"}), SIZES)
    manifest = federation.sites["cork"].parent / "manifest.csv"
    lines = manifest.read_text().splitlines()
    cells = lines[1].split(",")
    cells[lines[0].split(",").index("age_years")] = ""
    manifest.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")

    state = _run(federation)

    assert {"cork": "covariate-missing"} == state.excluded
    assert "cork-0" in federation.sites["cork"].with_suffix(".log").read_text()


def test_a_reference_scanner_that_nobody_has_is_told(tmp_path):
    federation = write_federation(
        tmp_path, _short(harmonisation={"method": "combat", "reference_batch": "vida"}), SIZES
    )

    with pytest.raises(ConfigError, match="reference-batch-absent"):
        _run(federation)


def test_the_exact_auc_is_that_of_the_pooled_scores(tmp_path):
    """Scores stay at the sites; the histogram's bound holds; a small site's own AUC is withheld."""
    federation = write_federation(tmp_path, _short(evaluation={"auc": "exact"}), SIZES)

    seen = server_view(_run(federation))["test"]

    margins, altered = _scores(federation)
    assert auc(margins, altered) == seen["exact_auc"]
    assert abs(seen["exact_auc"] - seen["auc"]) <= seen["half_width"] + 1e-12
    assert {"withheld": "small-cells"} == seen["by_site"]["sites"]["cork"]


def test_a_site_that_did_not_agree_gives_no_exact_scores(tmp_path):
    federation = write_federation(tmp_path, _short(), SIZES)
    _run(federation)
    asked = ScoreCellsRequest(fingerprint="", study="trial", prefixes=np.zeros(1, np.uint64), depth=0, bits=8)

    with pytest.raises(Refused, match="exact-auc-not-agreed"):
        score_cells.answer(asked, open_site(federation.sites["cork"]))


def _scores(federation):
    margins, altered = [], []
    for path in federation.sites.values():
        with scores_file(open_site(path), "trial").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["set"] == "test"]
        margins += [float(row["safety_margin"]) for row in rows]
        altered += [row["altered"] == "1" for row in rows]
    return np.array(margins), np.array(altered)


def test_unfit_tables_are_refused_by_name_and_the_others_go_on(tmp_path):
    """NaN in a feature; a single case; a constant feature passes; a scanner nobody else has is no obstacle."""
    protocol = _short(harmonisation={"method": "combat"})
    federation = write_federation(tmp_path, protocol, {**SIZES, "dover": 16, "exeter": 2})
    nan, whole = federation.sites["dover"].parent, federation.sites["aachen"].parent
    for home, column, value in ((nan, 7, np.nan), (whole, 11, 5.0)):
        for file in (home / "cache" / "features").glob("*/radiomics.npy"):
            values = np.load(file)
            values[column] = value
            np.save(file, values)

    state = _run(federation)

    assert {"dover": "feature-not-finite", "exeter": "too-few-cases"} == state.excluded
    assert "completed with losses: dover, exeter" == state.status()
    assert "dover-" in federation.sites["dover"].with_suffix(".log").read_text()
