"""A study whose signature is voted for under noise: from a public study to a protocol, over the wire, in ledger and report."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from client.cli import app as commands
from client.site import open_site
from client.tasks import moments, votes
from client.tasks.load_cohort import load_cohort
from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.errors import ConfigError, Refused, StudyError, WireError
from common.messages.harmoniser import Harmoniser
from common.messages.moments import MomentsRequest
from common.messages.votes import VotesReply, VotesRequest
from common.stats.votes import separation
from server.checkpoint import load_checkpoint
from server.cli import app
from server.phases.vote import Vote
from server.reporting.privacy import privacy_view
from server.state import ALL_SITES
from simulation.engines import run_local
from simulation.private_statistics import with_private_statistics
from simulation.replica import first_model
from tests.builders import small_protocol, sum_securely, write_federation

SIZES = {"aachen": 24, "bern": 20, "cork": 28}
FEDERATION = {"min_sites": 2, "min_cases": 4, "timeout_s": 600}
PRIVATE = {"target_epsilon": 12.0, "sampling_rate": 0.5}
TRAINING = {"rounds": 2, "local_epochs": 2}


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """The folder of a finished study, of cases that anybody may know."""
    folder = tmp_path_factory.mktemp("public")
    federation = write_federation(folder, small_protocol(federation=FEDERATION), {"leuven": 40, "ghent": 40})
    run_local(federation.study, list(federation.sites.values()))
    return federation.study.parent


def ask(public, folder, *options, **changes):
    """What `reference --votes` says, and the protocol that it writes."""
    plain, out = folder / "plain.yaml", folder / "private.yaml"
    settings = {"federation": FEDERATION, "training": TRAINING, "privacy": {"record_level": PRIVATE}}
    plain.write_text(yaml.safe_dump(small_protocol(**{**settings, **changes}).model_dump(mode="json")))
    words = ["reference", str(public), "--protocol", str(plain), "--out", str(out), "--votes", "--json", *options]
    return CliRunner().invoke(app, words), out


def voted(public, folder, *options, **changes) -> Protocol:
    result, out = ask(public, folder, *options, **changes)
    assert result.exit_code == 0, result.output
    told, protocol = json.loads(result.stdout), parse_settings(Protocol, out.read_text(), source=out.name)
    assert told["fingerprint"] == protocol.fingerprint()
    return protocol


def run(folder, protocol: Protocol, *, securely: bool = False, **site: object):
    federation = write_federation(folder, protocol, SIZES)
    federation = sum_securely(federation) if securely else federation
    for path in federation.sites.values():
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"budget": {"epsilon": 12.0}} | site))
    return federation, run_local(federation.study, list(federation.sites.values()))


def ledger(federation, site: str) -> list[dict]:
    path = open_site(federation.sites[site]).settings.cache / "budget" / f"{site}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def study(public, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voted")
    return run(folder, voted(public, folder))


def test_votes_scale_and_rounds_together_spend_the_target(study):
    federation, state = study

    told = privacy_view(state.protocol, state.rounds_done, from_release=False)["record_level"]

    assert state.status() == "completed", [(e.action, e.round, e.codes) for e in state.exchanges]
    assert told["told_without_noise"] == ["how many training cases each site has"]
    assert told["votes"] == {"picks": 7, "epsilon": 0.5}
    for site in SIZES:
        spent = [line for line in ledger(federation, site) if line["event"] == "spent"]
        assert [line["action"] for line in spent] == [
            "votes",
            "moments",
            "moments",
            *["train_round"] * state.rounds_done,
        ]
        assert spent[0]["mechanism"] == {"epsilon": 0.5, "picks": 7}
        assert spent[-1]["epsilon"] == pytest.approx(told["epsilon"]["rdp"])
    assert 0.97 * 12 < told["epsilon"]["rdp"] <= 12


def test_the_signature_is_of_candidates_and_known_by_its_points(study):
    _, state = study
    names, chosen = state.protocol.radiomics.names(), state.selection

    assert set(chosen.signature) <= set(state.protocol.privacy.record_level.statistics.radiomics)
    assert len(chosen.signature) == min(19, int((chosen.scores > 0).sum()))
    assert chosen.scores.sum() == 3 * 28  # three sites, 7 + 6 + ... + 1
    own = [chosen.scores[names.index(name)] for name in chosen.signature]
    assert own == sorted(own, reverse=True)
    # The scale is found for the voted signature, and for nothing else.
    others = [name not in chosen.signature for name in names]
    assert not state.moments.radiomics_mean[others].any()


def test_the_ledger_tells_what_a_choice_cost(study):
    federation, _ = study

    words = ["budget", "--site", str(federation.sites["bern"])]
    result, as_json = CliRunner().invoke(commands, words), CliRunner().invoke(commands, [*words, "--json"])

    assert result.exit_code == as_json.exit_code == 0, result.output
    assert "7 picks" in result.output
    assert json.loads(as_json.stdout)["spent"][0]["mechanism"] == {"epsilon": 0.5, "picks": 7}


def test_with_hardly_any_noise_each_site_names_its_best(public, tmp_path):
    protocol = voted(
        public, tmp_path, "--pick-epsilon=100", "--candidates=1702", privacy={"record_level": {"noise_multiplier": 1.0}}
    )
    federation, state = run(tmp_path, protocol, budget={"epsilon": 1e9})

    near = np.zeros(1702, bool)
    for path in federation.sites.values():
        scores = separation(load_cohort(open_site(path)).training.table)
        near |= scores > np.sort(scores)[-7] - 0.3  # fifteen times the noise's scale
    assert near.sum() < 400
    assert all(near[protocol.radiomics.names().index(name)] for name in state.selection.signature)


def test_votes_are_summed_securely_and_nobody_sees_a_ballot(public, tmp_path):
    protocol = voted(public, tmp_path, training={**TRAINING, "encoding": "float32"})
    _, state = run(tmp_path, protocol, securely=True)

    assert state.status() == "completed", [(e.action, e.round, e.codes) for e in state.exchanges]
    assert state.selection.scores.sum() == 3 * 28


def test_simulated_votes_give_the_studys_own_start_without_messages(public, tmp_path):
    """Signature and scale, to the last bit."""
    protocol = voted(public, tmp_path)
    federation, state = run(tmp_path, protocol, budget={"epsilon": 12.0, "noise": "repeatable"})
    cases = {name: load_cohort(open_site(path)).training for name, path in federation.sites.items()}

    found = with_private_statistics(first_model(list(cases.values()), protocol), cases, protocol)

    model = state.model()
    assert found.signature == model.signature
    for name in ("radiomics_mean", "radiomics_deviation", "visual_mean", "visual_deviation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(model, name))
    assert {n: w.shape for n, w in found.weights.items()} == {n: w.shape for n, w in model.weights.items()}


def test_a_question_that_comes_again_has_the_same_answer_and_costs_nothing(study):
    federation, state = study
    site = open_site(federation.sites["bern"])
    request = VotesRequest(
        fingerprint=state.protocol.fingerprint(), study="voted-again", harmoniser=Harmoniser(method="none")
    )

    with pytest.raises(Refused, match="privacy-budget-spent"):
        votes.answer(request, site)
    own = request.model_copy(update={"study": state.study})
    first, second = votes.answer(own, site), votes.answer(own, site)

    np.testing.assert_array_equal(first.points, second.points)
    assert [line["action"] for line in ledger(federation, "bern") if line["event"] == "spent"].count("votes") == 1


def test_a_site_votes_and_sums_for_nothing_the_protocol_does_not_name(public, study, tmp_path):
    federation, state = study
    print_of, plain = state.protocol.fingerprint(), Harmoniser(method="none")
    stranger = next(
        n for n in state.protocol.radiomics.names() if n not in state.protocol.privacy.record_level.statistics.radiomics
    )
    with pytest.raises(Refused, match="reference-absent"):
        moments.answer(
            MomentsRequest(fingerprint=print_of, study=state.study, harmoniser=plain, signature=(stranger,)),
            open_site(federation.sites["bern"]),
        )
    openly = write_federation(tmp_path, small_protocol(federation=FEDERATION), SIZES)
    with pytest.raises(Refused, match="votes-not-agreed"):
        votes.answer(VotesRequest(fingerprint="f" * 64, harmoniser=plain), open_site(openly.sites["bern"]))


@pytest.mark.parametrize(
    ("site", "change", "code"),
    [
        ("bern", lambda points: points, None),
        ("bern", lambda points: points * 2, "votes-miscounted"),
        ("bern", lambda points: np.where(points == 1, 0, points), "votes-miscounted"),
        ("bern", lambda points: points[:-1], "reply-shape"),
        ("bern", lambda points: points.astype(float), "reply-dtype"),
        (ALL_SITES, lambda points: points * 3, None),
        (ALL_SITES, lambda points: points * 4, "votes-miscounted"),
        (ALL_SITES, lambda points: points * 2, None),
        (ALL_SITES, lambda points: points + (points == 7), "votes-miscounted"),
    ],
)
def test_a_ballot_that_nobody_may_cast_is_refused_by_name(study, site, change, code):
    """Of a sum, three whole ballots at most."""
    state, points, _ = ballot(study)
    who = tuple(SIZES) if site == ALL_SITES else (site,)
    count = sum(sum(state.qualified[name].training_cases) for name in who)
    request, reply = Vote().request(state), VotesReply(site=site, count=count, points=change(points))

    if code is None:
        assert Vote().admit(state, request, reply) is reply
        return
    with pytest.raises(WireError, match=code):
        Vote().admit(state, request, reply)


def test_a_vote_for_what_is_no_candidate_is_refused(study):
    state, points, others = ballot(study)
    points[points == 7] = 0
    points[others[0]] = 7
    reply = VotesReply(site="bern", count=sum(state.qualified["bern"].training_cases), points=points)

    with pytest.raises(WireError, match="votes-miscounted"):
        Vote().admit(state, Vote().request(state), reply)


def ballot(study):
    """The study before its vote, points for seven candidates, and the places of what is no candidate."""
    state = study[1].evolve(taking_part=tuple(sorted(SIZES)), selection=None)
    named = [name in state.protocol.privacy.statistics.radiomics for name in state.protocol.radiomics.names()]
    points = np.zeros(1702, np.int64)
    points[np.flatnonzero(named)[:7]] = np.arange(7, 0, -1)
    return state, points, np.flatnonzero(np.invert(named))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s["privacy"]["record_level"]["statistics"].pop("votes"),
            "statistics.votes for selection.method votes",
        ),
        (lambda s: s["selection"].update(method="fixed_signature"), "statistics.votes for selection.method votes"),
        (lambda s: s["privacy"]["record_level"].pop("statistics"), "selection.method votes needs privacy.record_level"),
        (
            lambda s: s["privacy"]["record_level"]["statistics"]["radiomics"].update(hue=[0.0, 1.0]),
            "that radiomics measures",
        ),
        (
            lambda s: s["privacy"]["record_level"]["statistics"]["votes"].update(picks=201, epsilon=0.01),
            "at least as many features",
        ),
        (lambda s: s["privacy"]["record_level"]["statistics"]["votes"].update(epsilon=50.0), "lower statistics.votes"),
    ],
)
def test_what_does_not_fit_is_named(study, change, words):
    settings = study[1].protocol.model_dump(mode="json")
    change(settings)

    with pytest.raises(ConfigError) as told:
        parse_settings(Protocol, yaml.safe_dump(settings), source="protocol.yaml")

    assert words in told.value.explain()


def test_candidates_are_the_best_of_the_public_study(public, tmp_path):
    protocol = voted(public, tmp_path, "--candidates=30", "--picks=4", "--pick-epsilon=0.25")

    state, statistics = load_checkpoint(public / "checkpoint.npz"), protocol.privacy.record_level.statistics
    names = list(protocol.radiomics.names())
    scores = dict(zip(names, state.selection.scores, strict=True))
    named = statistics.radiomics
    assert len(named) == 30
    assert min(scores[n] for n in named) >= max(s for n, s in scores.items() if n not in named)
    assert (statistics.votes.picks, statistics.votes.epsilon) == (4, 0.25)
    first = next(iter(named))
    assert named[first][0] == pytest.approx(state.moments.radiomics_mean[names.index(first)], rel=1e-5)


def test_a_public_study_that_does_not_fit_is_named(public, tmp_path):
    for folder, changes, code in (
        (tmp_path, {}, "reference-absent"),
        (public, {"preprocessing": {"spacing_mm": 2.0}}, "reference-differs"),
        (public, {"privacy": {}}, "privacy-absent"),
    ):
        result, out = ask(folder, tmp_path, **changes)
        assert result.exit_code != 0
        assert isinstance(result.exception, StudyError)
        assert result.exception.code == code
        assert not out.exists()
    fixed = write_federation(
        tmp_path / "fixed",
        small_protocol(federation=FEDERATION, selection={"method": "fixed_signature"}),
        {"leuven": 40, "ghent": 40},
    )
    run_local(fixed.study, list(fixed.sites.values()))
    result, _ = ask(fixed.study.parent, tmp_path)
    assert getattr(result.exception, "code", "") == "reference-unfinished"
