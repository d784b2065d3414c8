"""The door: what each rule stops, what METHOD 3.3 names, and that nothing leaves without an entry in its log."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from typer.testing import CliRunner

from client.app import app as client_app
from client.cli import app as commands
from client.egress.audit_log import AuditLog
from client.egress.gate import Gate, Question
from client.egress.rules import EgressRules, apply_rules, check_summand, strictest
from client.site import open_site
from client.tasks import evaluate, quantiles
from client.tasks.mask_sums import mask_sums
from common.config.egress import MESSAGES, EgressFloor, EgressSettings
from common.errors import InputError, Refused
from common.messages.base import Refusal, Reply
from common.messages.combat import CombatReply
from common.messages.contingency import ContingencyReply
from common.messages.evaluate import EvaluateReply
from common.messages.harmoniser import Harmoniser
from common.messages.masked import MaskedReply
from common.messages.masking import Masking
from common.messages.moments import MomentsReply, MomentsRequest
from common.messages.qualify import QualifyReply
from common.messages.quantiles import QuantilesReply, QuantilesRequest
from common.messages.records import digest, from_records, is_refusal, size_in_bytes, to_records
from common.messages.train_round import TrainRoundReply
from common.messages.weight_update import WeightUpdate
from common.metrics import score_histogram
from common.stats import quantiles as search
from server.phases.qualify import Qualify
from server.state import StudyState
from server.workflow import ANSWERS
from simulation.engines import run_local
from simulation.local_grid import LocalGrid
from tests.builders import small_protocol, write_federation, write_site

ROOT = Path(__file__).parents[2]
DEFAULTS = strictest(EgressSettings(), EgressFloor())


def _clock() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def _rules(**settings: object) -> EgressRules:
    return strictest(EgressSettings.model_validate(settings), EgressFloor())


def _moments(count: int) -> MomentsReply:
    return MomentsReply(site="s", count=count, radiomics=np.ones(3), visual=np.ones(2))


def _update(cases: int, validation: int = 0) -> TrainRoundReply:
    nothing = WeightUpdate(encoding="float32", parts={})
    return TrainRoundReply(site="s", round=1, cases=cases, loss=0.5, validation_cases=validation, update=nothing)


def _combat(*cases: int) -> CombatReply:
    """The site's total first, then the scanners told apart."""
    rows, none = len(cases), np.zeros(0)
    apart = tuple(f"scanner {i}" for i in range(1, rows))
    sums = np.ones((rows, 2))
    return CombatReply(
        site="s", apart=apart, cases=np.array(cases), features=sums, covariates=sums, cc=none, cy=none, yy=none
    )


def _qualify(training: tuple[int, ...], test: tuple[int, ...]) -> QualifyReply:
    return QualifyReply(site="s", training_cases=training, test_cases=test, versions={})


# Rules, one by one


def test_every_message_of_this_version_is_on_the_default_list():
    assert set(MESSAGES) == set(ANSWERS)


@pytest.mark.parametrize("action", sorted(ANSWERS))
def test_every_message_says_what_it_tells(action):
    """Otherwise the door keeps it in."""
    assert "discloses" in vars(ANSWERS[action][1])


def test_a_message_that_says_nothing_stays():
    with pytest.raises(Refused, match="egress-undeclared"):
        apply_rules("moments", Reply(site="s"), _rules(min_cell=0, min_cases=1))


def test_a_message_that_is_not_on_the_list_stays():
    with pytest.raises(Refused, match=r"egress-message \[moments\]"):
        apply_rules("moments", _moments(100), _rules(allow=["qualify"]))


@pytest.mark.parametrize("cases", [0, 10, 11])
def test_sums_over_enough_cases_leave(cases):
    assert cases == apply_rules("moments", _moments(cases), DEFAULTS).count


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("moments", _moments(9)),
        ("train_round", _update(9)),
        ("train_round", _update(40, validation=3)),
        ("combat", _combat(40, 12, 9)),
        ("combat", _combat(40, 12, 20)),  # the scanner not told apart has 8
    ],
)
def test_sums_over_too_few_cases_stay(action, reply):
    with pytest.raises(Refused, match="egress-few-cases") as caught:
        apply_rules(action, reply, DEFAULTS)

    assert not any(character.isdigit() for character in str(caught.value))


@pytest.mark.parametrize(
    ("smallest", "zeros", "leaves"), [(10, True, True), (9, True, False), (0, True, False), (0, False, True)]
)
def test_small_cells_and_zeros(smallest, zeros, leaves):
    counts = np.full((2, 3, 2), 20)
    counts[1, 2, 0] = smallest
    reply, rules = ContingencyReply(site="s", counts=counts), _rules(zeros_disclosive=zeros)

    if leaves:
        assert apply_rules("contingency", reply, rules) == reply
    else:
        with pytest.raises(Refused, match=r"egress-small-cell \[contingency\.counts\]"):
            apply_rules("contingency", reply, rules)


@pytest.mark.parametrize(
    ("told", "left"),
    [((23, 38), (25, 40)), ((4, 38), (None, None)), ((0, 0), (None, None)), ((10, 12), (10, 10))],
)
def test_counts_that_are_only_read_are_withheld_and_rounded(told, left):
    """The 38 would give the 4 away to whoever knows the total."""
    assert left == apply_rules("qualify", _qualify((30, 30), told), DEFAULTS).test_cases


def test_no_counts_by_label_cross_this_border():
    """Qualify still tells how many cases there are; a table by class does not leave at all."""
    rules = _rules(cross_border="forbid_counts_by_h3")

    qualified = apply_rules("qualify", _qualify((30, 25), (20, 20)), rules)

    assert ((55,), ()) == (qualified.training_cases, qualified.test_cases)
    assert 40 == apply_rules("moments", _moments(40), rules).count
    with pytest.raises(Refused, match="egress-label"):
        apply_rules("contingency", ContingencyReply(site="s", counts=np.full((2, 3, 2), 20)), rules)


MASKED = MaskedReply(site="s", session="0" * 32, shapes={}, blocks={})


@pytest.mark.parametrize(
    ("action", "reply", "code"),
    [
        ("moments", _moments(0), ""),
        ("moments", _moments(10), ""),
        ("moments", _moments(9), "egress-few-cases"),
        ("train_round", _update(40, validation=3), "egress-few-cases"),
        ("contingency", ContingencyReply(site="s", counts=np.full((2, 3, 2), 1)), ""),  # cells are the sum's
        ("moments", Reply(site="s"), "egress-undeclared"),
    ],
)
def test_what_stands_behind_a_summand_is_judged_and_its_cells_are_not(action, reply, code):
    if code:
        with pytest.raises(Refused, match=code):
            check_summand(action, reply, DEFAULTS)
    else:
        check_summand(action, reply, DEFAULTS)


def test_counts_by_label_cross_no_border_in_a_sum_either():
    rules = _rules(cross_border="forbid_counts_by_h3")

    check_summand("moments", _moments(40), rules)
    with pytest.raises(Refused, match="egress-label"):
        check_summand("contingency", ContingencyReply(site="s", counts=np.full((2, 3, 2), 20)), rules)


def test_masked_rounds_count(tmp_path):
    gate = Gate(_rules(most_rounds=1), AuditLog(tmp_path / "log.jsonl", _clock))

    gate.release(Question("train_round", "p", "a", 1), MASKED)

    with pytest.raises(Refused, match="egress-rounds"):
        gate.release(Question("train_round", "p", "a", 2), MASKED)


@pytest.mark.parametrize(("floor", "own"), [({"min_cases": 40}, {}), ({}, {"min_cases": 40})], ids=["protocol", "site"])
def test_a_reply_that_the_door_would_keep_is_not_masked(tmp_path, floor, own):
    """Before a secret of the sum is touched: there is none here, and nobody says so."""
    federation = {"secure_aggregation": True, "min_sites": 3, "site_keys": dict.fromkeys("abc", "0" * 64)}
    protocol = small_protocol(federation=federation, training={"encoding": "float32"}, egress=floor)
    path = write_site(tmp_path, "a", protocol, 16, seed=1)
    text = path.read_text()
    path.write_text(text.replace("min_cases: 1", f"min_cases: {own['min_cases']}") if own else text)
    masking = Masking(session="0" * 32, sealed={})
    request = MomentsRequest(fingerprint="", harmoniser=Harmoniser(), masking=masking)

    with pytest.raises(Refused, match="egress-few-cases"):
        mask_sums(_moments(39), request, open_site(path))
    with pytest.raises(Refused, match="sum-unknown"):
        mask_sums(_moments(40), request, open_site(path))


def test_the_strictest_of_site_and_protocol_holds():
    site = EgressSettings(min_cell=3, min_cases=20, rounding=5, largest_reply_mb=50, most_rounds=100)
    floor = EgressFloor(min_cell=5, min_cases=10, rounding=2, largest_reply_mb=9, most_rounds=0)

    rules = strictest(site, floor)

    assert (5, 20, 10, 9.0, 0) == (
        rules.min_cell,
        rules.min_cases,
        rules.rounding,
        rules.largest_reply_mb,
        rules.most_rounds,
    )
    assert strictest(site, EgressFloor()).min_cell == 3
    assert strictest(site, EgressFloor(cross_border="forbid_counts_by_h3")).labels_stay
    assert rules.version() != strictest(site, EgressFloor()).version()


def test_size_and_rounds(tmp_path):
    """Rounds are counted over the log, whatever number and study the server gives them; refused ones told nothing."""
    gate = Gate(_rules(most_rounds=2, largest_reply_mb=0.001), AuditLog(tmp_path / "log.jsonl", _clock))
    large = MomentsReply(site="s", count=20, radiomics=np.ones(300), visual=np.ones(2))

    with pytest.raises(Refused, match="egress-size"):
        gate.release(Question("moments", "p"), large)
    for study in ("a", "b"):
        gate.release(Question("train_round", "p", study, 1), Refusal(site="s", code="late"))
        gate.release(Question("train_round", "p", study, 1), _update(20))
    for action in ("train_round", "segment_round"):
        with pytest.raises(Refused, match="egress-rounds"):
            gate.release(Question(action, "p", "c", 1), _update(20))
    gate.release(Question("train_round", "another protocol", "c", 1), _update(20))

    assert 5 == len(gate.log.verify().lines)


# What METHOD 3.3 names, on real answers under the default rules


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of sites that hide nothing."""
    federation = write_federation(tmp_path_factory.mktemp("study"), small_protocol(), {"aachen": 48, "bern": 52})
    return federation, run_local(federation.study, list(federation.sites.values()))


def test_table_1s_cell_of_four_stays():
    """`< 18 years: 4` of the test set: the four, and the 46 that give them away."""
    table = apply_rules("qualify", _qualify((102, 102), (4, 46)), DEFAULTS)

    assert (None, None) == table.test_cases
    with pytest.raises(Refused, match="egress-small-cell"):
        apply_rules("qualify", _qualify((4, 46), (25, 25)), DEFAULTS)


def test_raw_roc_points_stay(study):
    """A histogram of 256 cells is the ROC curve of a site's patients; six wide cells of many patients may leave."""
    federation, state = study
    site = open_site(federation.sites["aachen"])
    request = evaluate.EvaluateRequest(fingerprint="", study="again", model=state.model())

    with pytest.raises(Refused, match=r"egress-small-cell \[evaluate\.training\]"):
        apply_rules("evaluate", evaluate.answer(request, site), DEFAULTS)

    rng = np.random.default_rng(1)
    margins, altered = rng.uniform(-16, 16, 600), rng.random(600) < 0.5
    wide = score_histogram.summarise(margins, altered, cells=6)
    assert apply_rules("evaluate", EvaluateReply(site="s", training=wide, test=wide), DEFAULTS)


def test_extremes_stay(study):
    """The smallest and the largest value of a feature are one patient's each; so is every order statistic."""
    federation, _ = study
    site = open_site(federation.sites["bern"])
    features = len(federation.protocol.radiomics.names())
    looked_for = search.start(features, fractions=(0.0, 1.0), cases=100)
    request = QuantilesRequest(
        fingerprint="", harmoniser={"method": "none"}, prefix=looked_for.prefix, step=looked_for.step
    )

    reply = quantiles.answer(request, site)

    assert isinstance(reply, QuantilesReply)
    with pytest.raises(Refused, match="egress-small-cell"):
        apply_rules("quantiles", reply, DEFAULTS)


def test_under_the_default_rules_a_study_in_the_clear_stops_at_its_first_table(tmp_path):
    """Moments leave; tables by feature, bin and class do not (R47); the server learns which rule, and no value."""
    protocol = small_protocol(selection={"method": "mutual_information", "binning": "mean_deviation"})
    federation = write_federation(tmp_path, protocol, {"aachen": 48, "bern": 52})
    for path in federation.sites.values():
        path.write_text(
            path.read_text().replace("min_cell: 0", "min_cell: 10").replace("min_cases: 1", "min_cases: 10")
        )

    with pytest.raises(Exception, match=r"aachen refused \(egress-small-cell\), bern refused \(egress-small-cell\)"):
        run_local(federation.study, list(federation.sites.values()))

    log = [line["kind"] for line in AuditLog(_log(federation.sites["bern"]), _clock).verify().lines]
    assert ["QualifyReply", "MomentsReply", "MomentsReply", "Refusal"] == log


# No reply without an entry


def _log(site: Path) -> Path:
    return site.parent / "cache" / "egress" / f"{site.parent.name}.jsonl"


def test_no_reply_leaves_without_an_entry(tmp_path, monkeypatch):
    """Every message that came out of a hospital, refusals too, is on its log: the same digests in the same order."""
    federation = write_federation(tmp_path, small_protocol(), {"aachen": 16, "bern": 24})
    write_site(tmp_path / "sites", "cork", federation.protocol, 12, seed=5, one_class=True)
    sites = {**federation.sites, "cork": tmp_path / "sites" / "cork" / "site.yaml"}
    federation.study.write_text(federation.study.read_text().replace("- bern", "- bern\n- cork"))
    left: dict[str, list[tuple[str, int]]] = {name: [] for name in sites}
    deliver = LocalGrid._deliver

    def watch(grid: LocalGrid, message: Message) -> Message:
        reply = deliver(grid, message)
        name = sorted(sites)[message.metadata.dst_node_id - 100]
        left[name].append((digest(reply.content), size_in_bytes(reply.content)))
        return reply

    monkeypatch.setattr(LocalGrid, "_deliver", watch)
    state = run_local(federation.study, [sites[name] for name in sorted(sites)])

    assert {"cork": "one-class-only"} == state.excluded
    for name, path in sites.items():
        report = AuditLog(_log(path), _clock).verify()
        assert report.fault is None
        assert left[name] == [(line["digest"], line["bytes"]) for line in report.lines]
    assert len(left["aachen"]) == len(state.exchanges)
    assert [("Refusal", "one-class-only")] == [
        (line["kind"], line["code"]) for line in AuditLog(_log(sites["cork"]), _clock).verify().lines
    ]


def _ask(site: Path) -> Refusal:
    """Send a request that the site cannot answer; what comes back."""
    LocalGrid(client_app, [])  # Flower wants an identity before it makes a message
    state = StudyState(study="t", protocol=small_protocol(), sites=("aachen",))
    question = Qualify().question(state)
    message = Message(to_records(question), dst_node_id=1, message_type="query.qualify")
    context = Context(1, 1, {"site": str(site), "name": "aachen"}, RecordDict(), {})
    reply = client_app(message, context)
    assert is_refusal(reply.content)
    return from_records(reply.content, Refusal)


def test_what_went_wrong_stands_in_the_sites_own_log(tmp_path, monkeypatch):
    """A known fault by its code, an unknown one with its trace; the refusal that leaves has neither case nor trace."""
    site = write_site(tmp_path, "aachen", small_protocol(), 16, seed=1, one_class=True)
    _ask(site)
    monkeypatch.setattr("client.app.open_site", lambda _: float("pseudonym-7"))
    left = _ask(site)

    known, unknown = map(json.loads, site.with_suffix(".log").read_text().splitlines())
    asked = {"event": "refused", "site": "aachen", "run": "1", "action": "qualify"}
    assert {**asked, "round": 0, "code": "one-class-only"}.items() <= known.items()
    assert {"time", "problem", "fix"} <= set(known)
    assert {**asked, "code": "internal-error"}.items() <= unknown.items()
    assert "pseudonym-7" in unknown["trace"]
    assert "pseudonym-7" not in repr(left)


def test_nothing_leaves_when_the_log_cannot_be_written(tmp_path):
    site = write_site(tmp_path, "aachen", small_protocol(), 16, seed=1)
    (tmp_path / "aachen" / "cache" / "egress").write_text("a file where the folder should be")

    assert "audit-log-unwritable" == _ask(site).code


def test_nothing_leaves_when_the_log_was_changed(tmp_path):
    site = write_site(tmp_path, "aachen", small_protocol(), 16, seed=1, one_class=True)
    assert "one-class-only" == _ask(site).code
    _log(site).write_bytes(_log(site).read_bytes().replace(b"one-class-only", b"one-class-fine"))

    assert "audit-log-broken" == _ask(site).code
    assert 1 == len(_log(site).read_bytes().splitlines())


# The officer's command


def test_the_officer_reads_the_log(tmp_path):
    federation = write_federation(tmp_path, small_protocol(), {"aachen": 16, "bern": 24})
    run_local(federation.study, list(federation.sites.values()))
    words = ["egress", "--site", str(federation.sites["bern"])]

    shown = CliRunner().invoke(commands, [*words, "--json"])
    picture = CliRunner().invoke(commands, words)
    checked = CliRunner().invoke(commands, [*words, "--verify", "--json"])

    result = json.loads(shown.stdout)
    assert (0, 0, 0) == (shown.exit_code, picture.exit_code, checked.exit_code)
    assert (True, len(result["log"]), 0) == (result["whole"], result["entries"], result["rules"]["min_cell"])
    assert {"qualify", "train_round", "evaluate"} <= {line["action"] for line in result["log"]}
    assert "log" not in json.loads(checked.stdout)
    assert 0 == CliRunner().invoke(commands, [*words, "--known", result["newest_hash"]]).exit_code

    lines = _log(federation.sites["bern"]).read_text().splitlines(keepends=True)
    _log(federation.sites["bern"]).write_text("".join([*lines[:3], *lines[4:]]))
    broken = CliRunner().invoke(commands, [*words, "--verify"])
    assert isinstance(broken.exception, InputError)
    assert "line 4" in str(broken.exception)
