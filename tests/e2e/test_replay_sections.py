"""What the replay's report says beyond the arms: every section is there, and each tells the same story as the arms."""

from __future__ import annotations

import pytest

from client.ingest.manifest import read_manifest
from client.site import open_site
from common.metrics.roc import auc
from server.reporting.content import StudyContent
from server.reporting.evaluation import server_view
from server.reporting.report import write_report
from simulation.arms import federated_arm
from simulation.engines import run_local
from simulation.replay import ReplayFolder, ReplaySettings
from simulation.sections import describe
from tests.builders import small_protocol, write_federation

SIZES = {"aachen": 40, "bern": 48, "cork": 40}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Sections and the federated arm of a small study whose sites share no scanner."""
    home = tmp_path_factory.mktemp("replay")
    federation = write_federation(home, small_protocol(), SIZES)
    state = run_local(federation.study, list(federation.sites.values()))
    arm = federated_arm(federation.sites, state.study, ())
    rows = {
        row.pseudonym: row
        for name, path in federation.sites.items()
        for row in read_manifest(open_site(path).settings.manifest, site=name)
    }
    folder = ReplayFolder(home / "run", federation.protocol, home / "cache")
    stages: list[str] = []
    found = describe(folder, federation.sites, ReplaySettings(), state, arm, rows, stage=stages.append)
    return found, arm, state, stages


def test_the_ladder_ends_with_the_study_itself(told):
    found, arm, *_ = told
    rows = {row["name"]: row for row in found["ladder"]}

    assert {"age", "clinical", "T1CE only", "FLAIR only", "radiomics", "visual only", "fused + age"} < set(rows)
    assert "fused" == found["ladder"][-1]["name"]
    assert auc(arm.margins["test"], arm.altered["test"]) == rows["fused"]["auc"]
    assert rows["radiomics"]["auc"] > rows["age"]["auc"]
    for row in found["ladder"][:-1]:
        if row["p"] is not None:
            assert row["p"] <= row["p_holm"] <= 1
            assert row["difference_95"][0] <= row["difference"] <= row["difference_95"][1]


def test_harmonisers_take_the_scanner_out(told):
    """The builder gives each hospital's scanner an effect; only scaling leaves it where it is."""
    rows = {row["harmoniser"]: row for row in told[0]["ablation"]}

    before = rows["none"]["variance_explained_by_scanner"]
    assert before == pytest.approx(rows["global z-score"]["variance_explained_by_scanner"])
    assert before > 2 * rows["none"]["explained_by_chance"]
    assert rows["ComBat"]["variance_explained_by_scanner"] < 0.5 * before
    assert rows["site z-score"]["variance_explained_by_scanner"] < 1e-9


def test_each_site_is_left_out_once(told):
    found, _, state, stages = told

    assert set(SIZES) == set(found["leave_one_site_out"]["sites"])
    assert all(site["auc"] > 0.8 for site in found["leave_one_site_out"]["sites"].values())
    assert len(found["leave_one_site_out"]["pooled"]["prediction_95"]) == 2
    assert any("cork" in stage for stage in stages)
    assert set(state.selection.signature) == set(found["stability"]["chosen_in"])


def test_scores_in_depth_agree_with_the_arm(told):
    found, arm, *_ = told

    judged = found["judgement"]
    assert judged["auc"] == pytest.approx(auc(arm.margins["test"], arm.altered["test"]), abs=1e-12)
    assert judged["histogram_difference_to_pooled"] <= judged["auc_from_histogram"]["bound"] + 1e-12
    half = next(row for row in found["thresholds"] if row["rule"] == "0.5")
    assert half["sensitivity"] == judged["at_0.5"]["sensitivity"]
    assert {"age group", "sex", "scanner", "location"} == set(found["subgroups"])


def test_what_age_alone_tells_does_not_help_at_the_same_age(told):
    rows = {row["name"]: row for row in told[0]["ladder"]}

    assert rows["age"]["age_adjusted_auc"] is None
    assert "score-is-covariate" == rows["age"]["age_refused"]["age-adjusted"]
    for name in ("fused", "radiomics"):
        # The builder's ages know nothing of the label: adjusting for them changes little.
        assert abs(rows[name]["age_adjusted_auc"] - rows[name]["auc"]) < 0.1
        assert abs(rows[name]["overlap_weighted_auc"] - rows[name]["auc"]) < 0.1


def test_risks_of_a_stranger_are_corrected_on_its_training_cases(told):
    rows = {row["recalibration"]: row for row in told[0]["leave_one_site_out"]["recalibration"]}

    assert ["none", "intercept", "logistic"] == list(rows)
    assert not rows["none"]["kept"]
    for row in rows.values():
        assert set(SIZES) == set(row["by_site"]["observed_over_expected"]["sites"])
    pooled = rows["intercept"]["by_site"]["observed_over_expected"]["pooled"]
    assert pooled["interval_95"][0] <= pooled["estimate"] <= pooled["interval_95"][1]
    assert told[0]["judgement"]["calibration_by_site"]["observed_over_expected"]["pooled"]["estimate"] > 0


def test_the_report_shows_every_section(told, tmp_path):
    found, arm, state, _ = told
    content = StudyContent(
        title="test",
        status=state.status(),
        synthetic=True,
        cases=(),
        arms=(arm,),
        ranking=tuple((name, 0.1) for name in state.selection.signature),
        ties=(),
        selection_method="mutual_information",
        exchanges=state.exchanges,
        laws=(),
        server_view=server_view(state),
        threshold=0.5,
        bootstrap=50,
        protocol=state.protocol.model_dump(mode="json"),
        provenance={},
        preparation={},
        methods="",
        timings={},
        sections=found,
    )

    write_report(tmp_path / "report", content, seed=1)

    page = (tmp_path / "report" / "report.html").read_text()
    for words in (
        "Comparators",
        "age-adjusted",
        "score-is-covariate",
        "Risks corrected at the site",
        "Scanner effects",
    ):
        assert words in page
