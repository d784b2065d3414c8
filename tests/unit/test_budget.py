"""The privacy ledger: spent before it leaves, not twice for the same reply, refused when empty, whole after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from client.cli import app as commands
from client.egress.budget import Budget, BudgetLimit, Spending
from client.site import open_site
from client.tasks import qualify, train_round
from client.tasks.open_budget import limit_of, noise_of
from common.config.protocol import Protocol
from common.errors import QuorumLost, Refused
from common.messages.harmoniser import Harmoniser
from common.messages.qualify import QualifyRequest
from common.messages.train_round import TrainRoundRequest
from common.messages.visual_moments import moments_digest
from common.privacy.accounting import GaussianEvent, epsilon_of
from server.cli import app as coordinator
from simulation.engines import run_local
from tests.builders import small_protocol, sum_securely, write_federation, write_site

ROOT = Path(__file__).parents[2]
EVENT = GaussianEvent(2.0, 0.25, 20)
SPENDING = Spending("train_round", "trial", "f" * 64, 1, "a" * 64, EVENT)
PRIVATE = {"record_level": {"noise_multiplier": 2.0, "sampling_rate": 0.5}}


def clock() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def ledger(folder: Path, epsilon: float = 10.0) -> Budget:
    return Budget(folder / "site.jsonl", clock, BudgetLimit(epsilon, 1e-4))


def spent(budget: Budget) -> list[dict]:
    return [line for line in budget.report().lines if line["event"] == "spent"]


def private_protocol(**privacy: object) -> Protocol:
    federation = {"min_sites": 2, "min_cases": 4, "timeout_s": 600}  # a busy machine takes its time to load Opacus
    return small_protocol(privacy={**PRIVATE, **privacy}, federation=federation)


def test_what_is_spent_adds_up_over_restarts(tmp_path):
    for number in (1, 2, 3):
        ledger(tmp_path).book(replace(SPENDING, round=number))  # a new object each time, as after a restart

    report = ledger(tmp_path).report()
    assert report.epsilon["prv"] == epsilon_of([EVENT] * 3, 1e-4)
    assert [line["epsilon"] for line in report.lines] == pytest.approx(
        [epsilon_of([EVENT] * n, 1e-4, "rdp") for n in (1, 2, 3)]
    )


def test_the_same_reply_is_not_spent_twice_and_any_other_is(tmp_path):
    budget = ledger(tmp_path, epsilon=100.0)
    first = budget.book(SPENDING)
    assert budget.settle(first, "d1") is None

    assert budget.book(SPENDING) == first
    assert budget.settle(first, "d1") is None
    assert len(spent(budget)) == 1
    second = budget.settle(first, "d2")  # the same noise under another reply
    assert second is not None
    assert second.stream != first.stream
    assert len(spent(budget)) == 2
    for other in ({"round": 2}, {"study": "other"}, {"asked": "b" * 64}, {"protocol": "0" * 64}):
        assert budget.book(replace(SPENDING, **other)).stream not in {first.stream, second.stream}
    assert len(spent(budget)) == 6


def test_an_empty_budget_refuses_by_code_before_anything_is_computed(tmp_path):
    budget = ledger(tmp_path, epsilon=epsilon_of([EVENT] * 2, 1e-4) + 0.01)
    budget.book(SPENDING)
    budget.book(replace(SPENDING, round=2))

    with pytest.raises(Refused) as caught:
        budget.book(replace(SPENDING, round=3))

    assert caught.value.code == "privacy-budget-spent"
    assert f"{epsilon_of([EVENT] * 2, 1e-4, 'rdp'):.2f} is spent" in str(caught.value)
    assert len(spent(budget)) == 2
    assert budget.book(SPENDING).attempt == 1  # what is paid for may be answered again


def test_without_noise_nothing_is_ever_within_a_budget(tmp_path):
    with pytest.raises(Refused, match="privacy-budget-spent"):
        ledger(tmp_path, epsilon=1e6).book(replace(SPENDING, event=GaussianEvent(0.0)))


def test_a_kill_between_spending_and_reply_loses_nothing(tmp_path):
    """The dead process had spent and not told: the next one finds the line, and pays no second time."""
    code = f"""
import os, signal
from pathlib import Path
from tests.unit.test_budget import ledger, SPENDING
ledger(Path({str(tmp_path)!r})).book(SPENDING)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == -signal.SIGKILL

    budget = ledger(tmp_path)
    assert len(spent(budget)) == 1
    booking = budget.book(SPENDING)
    assert budget.settle(booking, "d1") is None
    assert len(spent(budget)) == 1


def test_half_a_line_is_not_spent_and_a_changed_ledger_refuses(tmp_path):
    budget, path = ledger(tmp_path), tmp_path / "site.jsonl"
    budget.book(SPENDING)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 2, "eve')
    budget.book(replace(SPENDING, round=2))
    assert len(spent(budget)) == 2

    path.write_bytes(path.read_bytes().replace(b'"steps": 20', b'"steps": 10'))
    with pytest.raises(Refused, match="privacy-ledger-broken"):
        budget.book(replace(SPENDING, round=3))
    path.write_bytes(b"")
    with pytest.raises(Refused, match="privacy-ledger-broken"):
        budget.book(replace(SPENDING, round=3))


def test_the_strictest_of_site_and_protocol_holds(tmp_path):
    file = write_site(tmp_path, "st-elsewhere", private_protocol(epsilon_limit=3.0), 12, seed=1)
    assert limit_of(open_site(file)) == BudgetLimit(3.0, 1e-4)
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**settings, "budget": {"epsilon": 2.0, "delta": 1e-5}}))
    assert limit_of(open_site(file)) == BudgetLimit(2.0, 1e-5)


def test_real_noise_is_the_sites_own_secret_and_repeatable_noise_is_not(tmp_path):
    booking = ledger(tmp_path).book(SPENDING)
    drawn = []
    for name, budget in (("a", {}), ("b", {}), ("c", {"noise": "repeatable"}), ("d", {"noise": "repeatable"})):
        file = write_site(tmp_path, name, private_protocol(), 12, seed=1)
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "name": "same", "budget": budget}))
        site = open_site(file)
        drawn.append(noise_of(booking, site).uniform(4))
        np.testing.assert_array_equal(noise_of(booking, site).uniform(4), drawn[-1])
        secret = site.settings.cache / "budget" / "same.secret"
        assert secret.exists() == (not budget)
        if secret.exists():
            assert secret.stat().st_mode & 0o077 == 0

    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[2], drawn[3])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A private study over two sites, in process, and what came of it."""
    folder = tmp_path_factory.mktemp("private")
    federation = write_federation(folder, private_protocol(), {"aachen": 24, "bern": 20})
    state = run_local(federation.study, list(federation.sites.values()))
    return federation, state


def test_a_private_study_runs_and_tells_no_loss_and_no_label_of_a_training_case(study):
    federation, state = study

    assert state.status() == "completed"
    assert all(len(reply.training_cases) == 1 for reply in state.qualified.values())
    assert {e.loss for e in state.exchanges} == {None}
    assert set(state.histograms) == {"test"}
    for path in federation.sites.values():
        lines = [
            json.loads(line)
            for line in (open_site(path).settings.cache / "budget").glob("*.jsonl").__next__().read_text().splitlines()
        ]
        assert [line["event"] for line in lines] == ["spent", "reply"] * 3
        assert [line["round"] for line in lines if line["event"] == "spent"] == [1, 2, 3]


def test_the_same_request_gives_the_same_reply_and_a_changed_cohort_another(study, tmp_path):
    federation, state = study
    path = federation.sites["aachen"]
    site, model = open_site(path), state.model()
    request = TrainRoundRequest(
        fingerprint=federation.protocol.fingerprint(),
        study="again",
        round=1,
        model=model,
        moments=moments_digest(model),
    )
    book = Budget(site.settings.cache / "budget" / "aachen.jsonl", clock, limit_of(site))
    before = len(spent(book))

    first, second = train_round.answer(request, site), train_round.answer(request, site)

    for name, part in first.update.parts.items():
        np.testing.assert_array_equal(part, second.update.parts[name])
    assert len(spent(book)) == before + 1
    assert first.loss is None
    train_round.answer(request.model_copy(update={"round": 2}), site)
    assert len(spent(book)) == before + 2


def test_a_server_cannot_have_cases_moved_by_each_other_under_the_promise(study):
    federation, state = study
    model = state.model().model_copy(update={"harmoniser": Harmoniser(method="site_zscore")})
    request = TrainRoundRequest(
        fingerprint=federation.protocol.fingerprint(), study="sly", round=1, model=model, moments=moments_digest(model)
    )

    with pytest.raises(Refused, match="privacy-harmonised"):
        train_round.answer(request, open_site(federation.sites["bern"]))


def test_a_site_without_budget_is_named_and_the_study_stops_resumable(tmp_path):
    federation = write_federation(tmp_path, private_protocol(epsilon_limit=0.5), {"aachen": 24, "bern": 20})

    with pytest.raises(QuorumLost, match="privacy-budget-spent"):
        run_local(federation.study, list(federation.sites.values()))


def test_the_command_shows_what_is_spent(study):
    federation, _ = study

    result = CliRunner().invoke(commands, ["budget", "--site", str(federation.sites["bern"]), "--json"])

    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["limit"], told["delta"], told["whole"]) == (10.0, 1e-4, True)
    assert told["epsilon"]["prv"] == epsilon_of([GaussianEvent(2.0, 0.5, 4)] * 3, 1e-4)
    assert len(told["spent"]) == 3


def test_the_studys_report_says_what_is_promised_and_what_is_not(study, tmp_path):
    federation, state = study

    result = CliRunner().invoke(
        coordinator, ["report", "--study", str(federation.study.parent), "--out", str(tmp_path / "report")]
    )

    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "report" / "report.json").read_text())["privacy"]["record_level"]
    assert told["rounds"] == state.rounds_done == 3
    assert told["epsilon"]["prv"] == epsilon_of([GaussianEvent(2.0, 0.5, 12)], 1e-4)
    assert any("selected" in words for words in told["told_without_noise"])
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Differential privacy" in page
    assert "Told without noise, and not covered by it: how many training cases each site has" in page


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"visual": {"variant": "bottleneck", "crop_voxels": 128}}, "10,485,760 weights"),
        ({"training": {"strategy": "scaffold"}}, "scaffold"),
        ({"training": {"strategy": "feddyn"}}, "feddyn"),
        ({"training": {"class_weights": True}}, "class_weights"),
        ({"training": {"weighting": "inverse_variance"}}, "variance"),
        ({"training": {"validation_fraction": 0.2, "patience": 2}}, "validation_fraction"),
        ({"training": {"personal": "last_layer"}}, "personal"),
        ({"training": {"encoder_rate": 0.1}, "visual": {"variant": "pooled"}}, "encoder_rate"),
        ({"harmonisation": {"method": "combat"}}, "harmonisation"),
        ({"privacy": {"record_level": {}}}, "either"),
        ({"privacy": {"record_level": {"noise_multiplier": 1.0, "target_epsilon": 3.0}}}, "either"),
        ({"privacy": {"site_level": {}}}, "weighting equal"),
        ({"privacy": {"site_level": {}}, "training": {"strategy": "krum", "weighting": "equal"}}, "mean of clipped"),
    ],
)
def test_what_privacy_cannot_go_with_is_refused_with_the_reason(changes, why):
    settings = {"name": "private", "visual": {"variant": "pooled"}, "privacy": PRIVATE, **changes}

    with pytest.raises(ValidationError, match=why):
        Protocol.model_validate(settings)


def test_a_delta_that_would_let_a_case_be_published_is_refused(tmp_path):
    protocol = private_protocol(record_level={**PRIVATE["record_level"], "delta": 0.09})
    federation = write_federation(tmp_path, protocol, {"aachen": 24, "bern": 20})

    with pytest.raises(QuorumLost, match="privacy-delta-too-large"):
        run_local(federation.study, list(federation.sites.values()))


def test_privacy_and_secure_sums_go_together(tmp_path):
    """The server reads the sum of noisy updates only; nobody tells a loss, and the sum does not invent one."""
    plain = private_protocol().model_dump(mode="json")
    plain["training"] |= {"encoding": "float32", "rounds": 2}
    federation = write_federation(tmp_path, Protocol.model_validate(plain), {"aachen": 24, "bern": 20, "cork": 20})
    federation = sum_securely(federation)

    state = run_local(federation.study, list(federation.sites.values()))

    assert state.status() == "completed"
    assert state.rounds_done == 2
    assert {e.loss for e in state.exchanges} == {None}
    assert set(state.histograms) == {"test"}


def test_the_segmentation_network_does_not_train_under_a_promise_it_cannot_keep(tmp_path):
    protocol = private_protocol()
    site = open_site(write_site(tmp_path, "aachen", protocol, 12, seed=1))
    asked = QualifyRequest(
        fingerprint=protocol.fingerprint(), protocol=protocol.model_dump(mode="json"), trains="segmentation"
    )

    with pytest.raises(Refused, match="privacy-not-for-segmentation"):
        qualify.answer(asked, site)
