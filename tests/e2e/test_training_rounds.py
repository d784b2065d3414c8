"""Rounds of a real study: bad updates are refused by name and the round goes on; the protocol's options do what they say."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from flwr.app import Array, Message

from client.app import app as client_app
from client.site import open_site
from client.tasks.load_cohort import load_cohort
from common.messages.records import from_records, to_records
from common.messages.train_round import TrainRoundReply
from common.networks.fused_head import initial_weights
from server.app import open_study
from server.checkpoint import CHECKPOINT
from server.workflow import run_study
from simulation.engines import run_local
from simulation.federated_training import federated_training
from simulation.local_grid import LocalGrid
from simulation.oracle import pooled_oracle
from tests.builders import pool, small_protocol, write_federation

SIZES = {"aachen": 16, "bern": 24, "cork": 12}
BERN = 101
ROUNDS = {"rounds": 3, "local_epochs": 2}


def run_with(federation, tamper=None, *, twice=False):
    """The study in process; `tamper(reply message, number of the round)` changes what bern sends."""
    seen = []

    def app(message, context):
        reply = client_app(message, context)
        if message.metadata.message_type != "train.train_round" or message.metadata.dst_node_id != BERN:
            return reply
        seen.append(reply)
        return tamper(reply, seen) if tamper else reply

    class Echo(LocalGrid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = list(super().send_and_receive(messages, timeout=timeout))
            again = [
                m for m in replies if m.metadata.src_node_id == BERN and m.metadata.message_type.startswith("train")
            ]
            return replies + (again if twice else [])

    _, state = open_study(federation.study)
    configs = [{"site": str(path), "name": name} for name, path in federation.sites.items()]
    grid = Echo(app, configs)
    try:
        return run_study(grid, state, checkpoint=federation.study.parent / CHECKPOINT)
    finally:
        grid.close()


def in_array(change):
    """A tamperer that changes one array of the update, below the message's own checks."""

    def tamper(reply: Message, _):
        arrays = reply.content.array_records["arrays"]
        name = next(n for n in arrays if n.endswith("fusion.weight"))
        arrays[name] = Array(change(arrays[name].numpy().copy()))
        return reply

    return tamper


def poisoned(value):
    def change(array):
        array[0, 0] = value
        return array

    return in_array(change)


def of_an_earlier_round(reply, seen):
    reply.content = seen[0].content
    return reply


def of_too_many_cases(reply, _):
    honest = from_records(reply.content, TrainRoundReply)
    reply.content = to_records(honest.model_copy(update={"cases": 10_000}))
    return reply


BROKEN = [
    (poisoned(np.nan), "message-not-finite"),
    (poisoned(np.inf), "message-not-finite"),
    (poisoned(1e30), "update-too-large"),
    (in_array(lambda a: np.full_like(a, 99)), "update-norm"),
    (in_array(lambda a: a.T.copy()), "update-shape"),
    (in_array(lambda a: a.astype(np.float64)), "update-dtype"),
    (in_array(lambda a: a.astype(np.int32)), "update-dtype"),
    (of_an_earlier_round, "answers-another-question"),
    (of_too_many_cases, "update-cases"),
]


def test_bad_updates_are_refused_by_name_and_the_round_goes_on(tmp_path):
    """One study, another fault in each round after the first; then all is well again."""
    training = {"rounds": len(BROKEN) + 2, "local_epochs": 2, "largest_norm": 300.0}
    federation = write_federation(tmp_path, small_protocol(training=training), SIZES)

    def tamper(reply, seen):
        number = len(seen) - 2
        return BROKEN[number][0](reply, seen) if 0 <= number < len(BROKEN) else reply

    state = run_with(federation, tamper)

    rounds = [(e.roster["bern"], e.codes.get("bern")) for e in state.exchanges if e.action == "train_round"]
    fine = ("contributed", None)
    assert [fine, *(("refused", code) for _, code in BROKEN), fine] == rounds
    assert all(np.isfinite(w).all() for w in state.weights.values())


def test_an_exploding_norm_is_refused_by_the_site_itself(tmp_path):
    """The same gate stands at the site: with a bound that no update meets, nothing leaves and the study stops."""
    federation = write_federation(tmp_path, small_protocol(training=ROUNDS | {"largest_norm": 1e-9}), SIZES)

    with pytest.raises(Exception, match=r"aachen refused \(update-norm\)"):
        run_with(federation)


def test_two_answers_from_one_site_count_as_none(tmp_path):
    """Which of them came first would otherwise decide."""
    federation = write_federation(tmp_path, small_protocol(training=ROUNDS), SIZES)

    state = run_with(federation, twice=True)

    rounds = [(e.roster["bern"], e.codes.get("bern")) for e in state.exchanges if e.action == "train_round"]
    assert [("refused", "answered-twice")] * 3 == rounds


def test_a_late_site_is_named_and_its_answer_never_counts(tmp_path):
    """Bern's second answer arrives after its time, in the midst of the third round: late in one, and the old answer is
    dropped in the other; the weights are those of a study whose network lost it.
    """
    federation = write_federation(tmp_path, small_protocol(training=ROUNDS), SIZES)
    other = write_federation(tmp_path / "other", small_protocol(training=ROUNDS), SIZES)
    held, rounds = [], []

    class Slow(LocalGrid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = list(super().send_and_receive(messages, timeout=timeout))
            if not replies[0].metadata.message_type.startswith("train"):
                return replies
            rounds.append(len(rounds) + 1)
            if rounds[-1] == 2:
                held.extend(m for m in replies if m.metadata.src_node_id == BERN)
                return [m for m in replies if m.metadata.src_node_id != BERN]
            if rounds[-1] == 3:
                return [m for m in replies if m.metadata.src_node_id != BERN] + held
            return replies

    def lost(message):
        reached.append(message.metadata.dst_node_id == BERN and message.metadata.message_type.startswith("train"))
        return reached[-1] and sum(reached) > 1

    reached: list[bool] = []
    _, state = open_study(federation.study)
    grid = Slow(client_app, [{"site": str(path), "name": name} for name, path in federation.sites.items()])
    try:
        state = run_study(grid, state, checkpoint=federation.study.parent / CHECKPOINT)
    finally:
        grid.close()
    expected = run_local(other.study, list(other.sites.values()), lose=lost)

    told = [(e.roster["bern"], e.codes.get("bern")) for e in state.exchanges if e.action == "train_round"]
    assert told == [("contributed", None), ("late", None), ("refused", "answers-another-question")]
    assert "bern" in state.status()
    for name, weight in expected.weights.items():
        np.testing.assert_array_equal(state.weights[name], weight)


def untrained(state):
    """The model before the first round."""
    protocol, features = state.protocol, len(state.selection.signature)
    first = initial_weights(protocol.visual.length, features, protocol.head, seed=protocol.seed)
    return state.evolve(weights=first).model()


OPTIONS = [
    {"strategy": "fedavgm"},
    {"strategy": "scaffold", "encoding": "int8"},
    {"strategy": "fedprox", "class_weights": True, "weighting": "equal"},
    {"strategy": "feddyn", "personal": "normalisation"},
    {"strategy": "fedavg", "weighting": "inverse_variance"},
    {"strategy": "fedyogi", "optimiser": "adamw", "learning_rate": 1e-3, "schedule": "cosine"},
    {"strategy": "geometric_median", "momentum": 0.5, "validation_fraction": 0.2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o["strategy"])
def test_a_study_equals_its_rounds_without_messages(tmp_path, options):
    """The wire, the checkpoints and the order of arrival change no bit of the weights."""
    federation = write_federation(tmp_path, small_protocol(training=ROUNDS | options), SIZES)
    state = run_local(federation.study, list(federation.sites.values()))
    cases = {name: load_cohort(open_site(path)).training for name, path in federation.sites.items()}

    run = federated_training(cases, untrained(state), federation.protocol)

    for name, weight in run.model.weights.items():
        np.testing.assert_array_equal(state.weights[name], weight)
    assert run.losses == pytest.approx([e.loss for e in state.exchanges if e.loss is not None], rel=1e-12)


def test_a_private_study_of_simulated_noise_equals_its_rounds_without_messages(tmp_path):
    """So that the table of epsilon against AUC is that of studies."""
    privacy = {"record_level": {"noise_multiplier": 1.5, "sampling_rate": 0.5}}
    federation = write_federation(tmp_path, small_protocol(training=ROUNDS, privacy=privacy), SIZES)
    for path in federation.sites.values():
        settings = yaml.safe_load(path.read_text()) | {"budget": {"epsilon": 100, "noise": "repeatable"}}
        path.write_text(yaml.safe_dump(settings))
    state = run_local(federation.study, list(federation.sites.values()))
    cases = {name: load_cohort(open_site(path)).training for name, path in federation.sites.items()}

    run = federated_training(cases, untrained(state), federation.protocol)

    for name, weight in run.model.weights.items():
        np.testing.assert_array_equal(state.weights[name], weight)
    assert run.losses == ()


def test_only_some_sites_are_asked_in_each_round(tmp_path):
    """Two of three, drawn by the seed; the others are named and nobody is lost."""
    federation = write_federation(tmp_path, small_protocol(training={"rounds": 6, "site_fraction": 0.5}), SIZES)

    state = run_local(federation.study, list(federation.sites.values()))

    rounds = [e for e in state.exchanges if e.action == "train_round"]
    assert all(sorted(e.roster.values()) == ["contributed", "contributed", "not_asked"] for e in rounds)
    assert len({tuple(e.roster.items()) for e in rounds}) > 1
    assert state.status() == "completed"


def test_training_stops_early_and_goes_back_to_the_best_weights(tmp_path):
    """A far too high rate: the validation loss rises at once, and the weights are those of a shorter study."""
    settings = {"rounds": 8, "validation_fraction": 0.3, "learning_rate": 30.0, "largest_norm": 1e6, "patience": 2}
    federation = write_federation(tmp_path, small_protocol(training=settings), SIZES)

    state = run_local(federation.study, list(federation.sites.values()))

    losses = [e.validation_loss for e in state.exchanges if e.validation_loss is not None]
    best = int(np.argmin(losses))
    assert state.stopped_early
    assert best + 3 == state.rounds_done < 8
    if best == 0:
        expected = untrained(state).weights
    else:
        short = small_protocol(training=settings | {"rounds": best, "patience": 0})
        again = write_federation(tmp_path / "short", short, SIZES)
        expected = run_local(again.study, list(again.sites.values())).weights
    for name, weight in expected.items():
        np.testing.assert_array_equal(state.weights[name], weight)


def test_class_weights_keep_the_exact_mode_exact(tmp_path):
    """FedSGD with class weights counted over all sites follows the pooled descent with the pooled weights."""
    settings = {"rounds": 5, "strategy": "fedsgd", "learning_rate": 0.3, "class_weights": True}
    federation = write_federation(tmp_path, small_protocol(training=settings), SIZES)

    state = run_local(federation.study, list(federation.sites.values()))
    oracle = pooled_oracle(pool(federation), federation.protocol, site="all")

    for name, weight in oracle.model.weights.items():
        np.testing.assert_allclose(state.weights[name], weight, atol=2e-6)


def test_the_gram_matrix_is_kept_and_changes_no_bit(tmp_path):
    """One small file per site; a second study finds it and gives the same weights."""
    federation = write_federation(tmp_path, small_protocol(training=ROUNDS), SIZES)
    sites = list(federation.sites.values())
    first = run_local(federation.study, sites)
    (federation.study.parent / CHECKPOINT).unlink()

    second = run_local(federation.study, sites)

    assert all(len(list((s.parent / "cache" / "gram").glob("*.npy"))) == 1 for s in sites)
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(second.weights[name], weight)


def test_the_visual_moments_travel_once_and_again_to_a_site_that_lost_them(tmp_path):
    """Two numbers a feature in the first round; bern's cache is emptied after the second, and nothing is guessed."""
    federation = write_federation(tmp_path, small_protocol(training=ROUNDS | {"rounds": 5}), SIZES)
    cache = federation.sites["bern"].parent / "cache" / "moments" / "bern"

    def lose(exchange):
        if (exchange.action, exchange.round) == ("train_round", 2):
            for file in cache.iterdir():
                file.unlink()

    state = run_local(federation.study, list(federation.sites.values()), notify=lose)

    rounds = [e for e in state.exchanges if e.action == "train_round"]
    assert [e.codes.get("bern", "") for e in rounds] == ["", "", "moments-unknown", "", ""]
    moments = 2 * 4 * federation.protocol.visual.length
    down = [e.bytes_down["bern"] for e in rounds]
    assert min(down[0], down[3]) - max(down[1], down[2], down[4]) > 0.9 * moments
