"""The same study on three carriers gives the same numbers; what a site does wrong is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from client.site import open_site
from client.tasks.evaluate import scores_file
from common.errors import InputError, QuorumLost, Refused
from common.messages.plain import to_plain
from common.metrics.score_histogram import view
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.state import StudyState
from simulation.arms import require_every_site
from simulation.engines import run_local, run_ray
from simulation.oracle import pooled_oracle
from tests.builders import Federation, pool, small_protocol, write_federation, write_site

ROOT = Path(__file__).parents[2]
SIZES = {"aachen": 16, "bern": 24, "cork": 12}


def _run(federation: Federation) -> StudyState:
    return run_local(federation.study, list(federation.sites.values()))


def test_local_study_completes_and_learns(tmp_path):
    """All sites contribute everywhere; the test AUC is far above chance; scores stay at the sites."""
    federation = write_federation(tmp_path, small_protocol(), SIZES)

    state = _run(federation)

    assert state.status() == "completed"
    assert {"aachen", "bern", "cork"} == set(state.exchanges[-1].roster)
    assert view(state.histograms["test"]).auc > 0.9
    assert all(scores_file(open_site(path), "trial").exists() for path in federation.sites.values())


def test_statistics_and_selection_equal_pooled(tmp_path):
    """Moments to 1e-10 of an SD, mutual information to 1e-12, the same features (DESIGN section 1)."""
    federation = write_federation(tmp_path, small_protocol(), SIZES)

    state, oracle = _run(federation), pooled_oracle(pool(federation), federation.protocol, site="all")

    np.testing.assert_allclose(state.moments.radiomics_mean, oracle.radiomics_mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(state.moments.radiomics_deviation, oracle.radiomics_deviation, rtol=1e-10)
    np.testing.assert_allclose(state.selection.scores, oracle.scores, atol=1e-12)
    assert oracle.model.signature == state.selection.signature


def test_one_full_batch_step_per_round_equals_pooled_training(tmp_path):
    """FedSGD follows pooled gradient descent to single precision."""
    training = {"rounds": 8, "strategy": "fedsgd", "learning_rate": 0.3, "weight_decay": 0.0}
    federation = write_federation(tmp_path, small_protocol(training=training), SIZES)

    state, oracle = _run(federation), pooled_oracle(pool(federation), federation.protocol, site="all")

    for name, weight in oracle.model.weights.items():
        np.testing.assert_allclose(state.weights[name], weight, atol=2e-6)


def test_a_federation_of_one_site_is_the_centralised_run(tmp_path):
    """R56, to single precision: the oracle's moments come from scikit-learn and differ in the last bit."""
    exact = {"rounds": 3, "local_epochs": 2, "encoding": "float32", "broadcast": "float32"}
    protocol = small_protocol(federation={"min_sites": 1, "min_cases": 4, "timeout_s": 60}, training=exact)
    federation = write_federation(tmp_path, protocol, {"only": 24})

    state, oracle = _run(federation), pooled_oracle(pool(federation), protocol, site="only")

    for name, weight in oracle.model.weights.items():
        np.testing.assert_allclose(state.weights[name], weight, rtol=0, atol=1e-6)


def test_a_run_is_repeatable_to_the_last_bit(tmp_path):
    """Threads may answer in any order; sums are taken in the order of names."""
    first = _run(write_federation(tmp_path / "a", small_protocol(), SIZES))
    second = _run(write_federation(tmp_path / "b", small_protocol(), SIZES))

    for name, weight in first.weights.items():
        np.testing.assert_array_equal(second.weights[name], weight)


def test_a_site_lost_in_one_round_is_named_and_asked_again(tmp_path):
    federation = write_federation(tmp_path, small_protocol(), SIZES)
    lost: list[str] = []

    def lose(message: Message) -> bool:
        hit = message.metadata.message_type == "train.train_round" and message.metadata.dst_node_id == 101
        if hit and not lost:
            lost.append("once")
            return True
        return False

    state = run_local(federation.study, list(federation.sites.values()), lose=lose)

    rounds = [e.roster["bern"] for e in state.exchanges if e.action == "train_round"]
    assert rounds == ["late", "contributed", "contributed"]
    assert state.status() == "completed with losses: bern"


def test_a_site_that_fails_in_the_middle_is_named_and_the_others_go_on(tmp_path):
    """Its cache vanishes before the second round: coded refusals from then on, no exception's text."""
    federation = write_federation(tmp_path, small_protocol(), SIZES)
    asked: list[int] = []

    def sabotage(message: Message) -> bool:
        if message.metadata.message_type == "train.train_round" and message.metadata.dst_node_id == 101:
            asked.append(1)
            if len(asked) == 2:
                shutil.rmtree(federation.sites["bern"].parent / "cache" / "features")
        return False

    state = run_local(federation.study, list(federation.sites.values()), lose=sabotage)

    rounds = [(e.roster["bern"], e.codes.get("bern")) for e in state.exchanges if e.action == "train_round"]
    refused = ("refused", "nothing-prepared")
    assert [("contributed", None), refused, refused] == rounds
    assert state.status() == "completed with losses: bern"


def test_too_few_sites_stop_with_a_checkpoint_and_resume_goes_on(tmp_path):
    """Nothing finished is done again."""
    strict = small_protocol(federation={"min_sites": 3, "min_cases": 4, "timeout_s": 60})
    federation = write_federation(tmp_path, strict, SIZES)
    sites = list(federation.sites.values())

    with pytest.raises(QuorumLost, match="cork late"):
        run_local(
            federation.study,
            sites,
            lose=lambda m: m.metadata.message_type == "train.train_round" and m.metadata.dst_node_id == 102,
        )
    state = run_local(federation.study, sites)
    whole = _run(write_federation(tmp_path / "whole", strict, SIZES))

    assert sum(e.action == "contingency" for e in state.exchanges) == 1
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(state.weights[name], weight)


def test_unfit_sites_are_excluded_by_name_and_nothing_of_them_leaks(tmp_path):
    """One class only, another protocol, a broken file: coded refusals; the others go on."""
    federation = write_federation(tmp_path, small_protocol(), SIZES)
    sites = dict(federation.sites)
    sites["dual"] = write_site(tmp_path / "sites", "dual", federation.protocol, 12, seed=9, one_class=True)
    other = small_protocol(head={"hidden": 11})
    sites["espoo"] = write_site(tmp_path / "sites", "espoo", other, 12, seed=10)
    sites["faro"] = write_site(tmp_path / "sites", "faro", federation.protocol, 12, seed=11)
    (sites["faro"].parent / "manifest.csv").write_text("name\nSECRET^PATIENT\n")
    text = federation.study.read_text().replace("- cork", "- cork\n- dual\n- espoo\n- faro")
    federation.study.write_text(text)

    state = run_local(federation.study, list(sites.values()))

    assert state.excluded == {"dual": "one-class-only", "espoo": "protocol-differs", "faro": "manifest-invalid"}
    assert state.status() == "completed with losses: dual, espoo, faro"
    text, arrays = to_plain(state)
    with pytest.raises(Refused, match=r"dual \(one-class-only\), espoo \(protocol-differs\), faro"):
        require_every_site(state)
    assert "SECRET" not in text
    assert not any("SECRET" in name for name in arrays)


def test_ray_in_a_path_with_a_space_is_refused_at_once(tmp_path, monkeypatch):
    """Instead of workers that never come."""
    monkeypatch.setattr(sys, "executable", "/a path/python")

    with pytest.raises(InputError, match="ray-path-with-space"):
        run_ray(tmp_path / "study.yaml", [])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "loopback"])
def test_other_carriers_give_the_same_numbers(tmp_path: Path, engine):
    if engine == "ray" and " " in sys.executable:
        pytest.skip("Ray cannot start workers from a path with a space in it")
    # A worker that loads torch on a busy machine takes its time; bins from moments spare eleven questions to it.
    patient = small_protocol(
        selection={"binning": "mean_deviation"},
        training={"rounds": 2, "local_epochs": 2},
        federation={"min_sites": 2, "min_cases": 4, "timeout_s": 400},
    )
    federation = write_federation(tmp_path, patient, SIZES)
    expected = _run(write_federation(tmp_path / "local", patient, SIZES))

    # In a process of its own: what Ray leaves open would be laid at some later test's door.
    code = (
        "import sys; from pathlib import Path; from simulation.engines import ENGINES; "
        "ENGINES[sys.argv[1]](Path(sys.argv[2]), [Path(site) for site in sys.argv[3:]])"
    )
    words = [engine, str(federation.study), *map(str, federation.sites.values())]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    state = load_checkpoint(federation.study.parent / CHECKPOINT)

    assert state.status() == "completed"
    assert expected.selection.signature == state.selection.signature
    for name, weight in expected.weights.items():
        np.testing.assert_array_equal(state.weights[name], weight)
    np.testing.assert_array_equal(expected.histograms["test"], state.histograms["test"])
