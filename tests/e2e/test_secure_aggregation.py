"""A study that sums securely has the numbers of one in the clear; the server reads sums; lost sites are borne."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from flwr.app import Context, Message, RecordDict
from pydantic import ValidationError

from client.app import app as client_app
from client.egress.audit_log import AuditLog
from client.site import open_site
from client.store.sum_sessions import SumSessions
from common.errors import QuorumLost
from common.messages.base import Refusal, Reply, Request
from common.messages.combat import CombatRequest
from common.messages.harmoniser import Harmoniser
from common.messages.masked import MaskedReply
from common.messages.moments import MomentsRequest
from common.messages.records import from_records, to_records
from common.privacy.fixed_point import COUNTS, decode
from server.state import StudyState
from server.workflow import ANSWERS
from simulation.engines import run_local
from simulation.local_grid import LocalGrid
from tests.builders import Federation, small_protocol, sum_securely, write_federation

SIZES = {"aachen": 16, "bern": 24, "cork": 12, "dover": 20}
QUICK = {"method": "mutual_information", "binning": "mean_deviation"}
"""One exchange instead of twelve; the quantiles have a test of their own."""
TRAINING = {"rounds": 2, "local_epochs": 2, "encoding": "float32", "validation_fraction": 0.2}


def _study(folder, *, secure: bool, sizes=SIZES, default_door: bool = False, **changes: object) -> Federation:
    """The same sites and cases, with or without."""
    protocol = small_protocol(**{"training": TRAINING, "selection": QUICK, **changes})
    federation = write_federation(folder, protocol, sizes)
    for path in federation.sites.values() if default_door else ():
        settings = yaml.safe_load(path.read_text())
        del settings["egress"]
        path.write_text(yaml.safe_dump(settings))
    return sum_securely(federation) if secure else federation


def _run(federation: Federation, **options: object) -> StudyState:
    return run_local(federation.study, list(federation.sites.values()), **options)


@pytest.mark.parametrize(
    "selection",
    [
        {"method": "mutual_information"},
        {"method": "anova_f"},
        pytest.param({**QUICK, "method": "decorrelated", "candidates": 60}, marks=pytest.mark.slow),
    ],
    ids=lambda s: s["method"],
)
def test_the_same_numbers_as_in_the_clear(tmp_path, selection):
    """Counts, quantile edges, signature, histograms: bit for bit.  Moments: 1e-13 of an SD; edges made of them: 1e-12.
    Weights: the stated 2^-36 for each site and case, and single precision's own rounding.
    """
    clear = _run(_study(tmp_path / "clear", secure=False, selection=selection))
    secure = _run(_study(tmp_path / "secure", secure=True, selection=selection))

    assert "completed" == secure.status()
    scale = clear.moments.radiomics_deviation
    np.testing.assert_allclose((secure.moments.radiomics_mean - clear.moments.radiomics_mean) / scale, 0, atol=1e-13)
    np.testing.assert_allclose(secure.moments.radiomics_deviation / scale, 1, rtol=1e-13)
    np.testing.assert_allclose(secure.moments.visual_mean, clear.moments.visual_mean, rtol=0, atol=1e-7)
    assert clear.moments.cases == secure.moments.cases
    apart = (secure.selection.edges - clear.selection.edges) / scale[:, None]
    np.testing.assert_allclose(apart, 0, atol=1e-12 if selection.get("binning") == "mean_deviation" else 0)
    assert clear.selection.signature == secure.selection.signature
    exact = selection.get("method") != "anova_f"
    np.testing.assert_allclose(secure.selection.scores, clear.selection.scores, rtol=0 if exact else 1e-9)
    for name, weight in clear.weights.items():
        np.testing.assert_allclose(secure.weights[name], weight, rtol=0, atol=1e-6)
    for name, counts in clear.histograms.items():
        np.testing.assert_array_equal(counts, secure.histograms[name])
    losses = [[e.loss for e in state.exchanges if e.loss is not None] for state in (clear, secure)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    assert {} == secure.site_histograms


def test_the_default_door_lets_secure_sums_out(tmp_path):
    """Where a table in the clear stays (tests/unit/test_egress.py), its masked summand leaves; the server's copy of it
    is noise and the log names what left.
    """
    sizes, training = dict.fromkeys(SIZES, 48), {**TRAINING, "validation_fraction": 0}
    federation = _study(tmp_path, secure=True, sizes=sizes, default_door=True, training=training)

    state = _run(federation)

    assert "completed" == state.status()
    log = AuditLog(federation.sites["bern"].parent / "cache" / "egress" / "bern.jsonl", lambda: None).verify().lines
    by_action = {line["action"]: line["kind"] for line in log}
    summed = {action for action, (_, kind) in ANSWERS.items() if kind.sums} & set(by_action)
    assert {"moments", "contingency", "train_round", "evaluate"} == summed
    assert {"MaskedReply"} == {by_action[action] for action in summed}


def test_a_site_with_too_few_cases_for_its_own_door_masks_tables_only(tmp_path):
    """Cork trains on 9 and wants 10 behind a sum or an update; its own file says so, and the others go on without it."""
    federation = _study(tmp_path, secure=True)
    path = federation.sites["cork"]
    path.write_text(path.read_text().replace("min_cases: 1", "min_cases: 10"))

    state = _run(federation)

    assert "completed with losses: cork" == state.status()
    assert {"egress-few-cases"} == {e.codes.get("cork") for e in state.exchanges if e.action == "train_round"}
    log = AuditLog(path.parent / "cache" / "egress" / "cork.jsonl", lambda: None).verify().lines
    assert {"contingency", "evaluate"} == {line["action"] for line in log if line["kind"] == "MaskedReply"}
    assert {"moments", "train_round"} == {line["action"] for line in log if line["kind"] == "Refusal"}


def _watch(monkeypatch, seen: list[Reply]) -> None:
    """Everything that comes out of the hospitals, as the server reads it."""
    deliver = LocalGrid._deliver

    def spy(grid: LocalGrid, message: Message) -> Message | None:
        reply = deliver(grid, message)
        if reply is not None and reply.content["message"]["kind"] == "MaskedReply":
            seen.append(from_records(reply.content, MaskedReply))
        return reply

    monkeypatch.setattr(LocalGrid, "_deliver", spy)


def test_what_crosses_the_wire_is_noise(tmp_path, monkeypatch):
    """Counts of a dozen cases are numbers of 64 even bits on the wire."""
    seen: list[Reply] = []
    _watch(monkeypatch, seen)
    _run(_study(tmp_path, secure=True))

    tables = [reply.blocks["counts"] for reply in seen if set(reply.blocks) == {"counts"}]
    bits = np.unpackbits(np.concatenate([block.reshape(-1) for block in tables]).view(np.uint8))
    assert bits.size > 1e6
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    assert not any(abs(decode(block, COUNTS)).min() < 1000 for block in tables[:4])


@pytest.mark.parametrize("action", ["share_keys", "train_round"])
def test_a_site_lost_on_the_way_is_named_and_the_sum_is_of_the_others(tmp_path, action):
    """In the first round of training; then it is back.  With 4 sites one may be lost in any of the steps."""
    federation, hits = _study(tmp_path, secure=True), []

    def lose(message: Message) -> bool:
        """Only in the first round."""
        if message.metadata.dst_node_id != 103 or not message.metadata.message_type.endswith(action):
            return False
        hits.append(1)
        return len(hits) == (1 if action == "train_round" else FIRST_ROUND)

    state = _run(federation, lose=lose)

    rosters = [e.roster["dover"] for e in state.exchanges if e.action == "train_round"]
    assert ["late", "contributed"] == rosters
    assert "completed with losses: dover" == state.status()


FIRST_ROUND = 2 + 1 + 1
"""Sums up to it: two of moments, one of tables; then the round."""


def test_a_lost_site_is_left_out_of_the_update_alone(tmp_path):
    """The weights equal those in the clear with the same site lost in the same round."""

    def lose(message: Message) -> bool:
        return message.metadata.dst_node_id == 103 and message.metadata.message_type.endswith("train_round")

    secure = _run(_study(tmp_path / "secure", secure=True), lose=lose)
    clear = _run(_study(tmp_path / "clear", secure=False), lose=lose)

    for name, weight in clear.weights.items():
        np.testing.assert_allclose(secure.weights[name], weight, rtol=0, atol=1e-6)


def test_too_few_for_a_sum_stop_with_a_checkpoint_and_resume_goes_on(tmp_path):
    """A sum of two sites is opened for nobody."""
    federation = _study(tmp_path, secure=True)

    with pytest.raises(QuorumLost, match="sum-too-few-sites"):
        _run(
            federation, lose=lambda m: m.metadata.message_type.endswith("train_round") and m.metadata.dst_node_id > 101
        )
    state = _run(federation)

    assert state.finished
    assert 2 == state.rounds_done


def _ask(site, request: Request, category: str) -> Refusal:
    LocalGrid(client_app, [])
    message = Message(to_records(request), dst_node_id=1, message_type=f"{category}.{request.action}")
    reply = client_app(message, Context(1, 1, {"site": str(site), "name": "s"}, RecordDict(), {}))
    return from_records(reply.content, Refusal)


def test_a_server_that_asks_in_the_clear_gets_nothing(tmp_path):
    federation = _study(tmp_path, secure=True)
    request = MomentsRequest(fingerprint=federation.protocol.fingerprint(), harmoniser=Harmoniser())

    assert "secure-sum-only" == _ask(federation.sites["bern"], request, "query").code


def test_what_does_not_add_up_stays(tmp_path):
    """ComBat's products would tell one site's numbers; a server may ask for them whatever the protocol says."""
    federation, nothing = _study(tmp_path, secure=True), np.zeros((0, 0))
    request = CombatRequest(
        fingerprint=federation.protocol.fingerprint(), ask="products", shared=(), features=nothing, covariates=nothing
    )

    assert "not-summed-securely" == _ask(federation.sites["bern"], request, "query").code


def test_masked_answers_of_another_shape_are_named_and_left_out(tmp_path, monkeypatch):
    """A site with another version, or with none of this protocol's manners: the sum is of the others."""
    deliver = LocalGrid._deliver

    def disturb(grid: LocalGrid, message: Message) -> Message | None:
        reply = deliver(grid, message)
        if message.metadata.dst_node_id == 102 and reply.content["message"]["kind"] == "MaskedReply":
            masked = from_records(reply.content, MaskedReply)
            if "counts" in masked.blocks:
                wrong = masked.model_copy(update={"blocks": {"counts": masked.blocks["counts"][:-1]}})
                return Message(to_records(wrong), reply_to=message)
        return reply

    monkeypatch.setattr(LocalGrid, "_deliver", disturb)

    state = _run(_study(tmp_path, secure=True))

    assert "sum-shape" in {e.codes.get("cork") for e in state.exchanges if e.action == "contingency"}
    assert "completed with losses: cork" == state.status()


def test_a_site_whose_key_was_changed_is_left_out(tmp_path):
    """Its identity is not the protocol's; the others sum without it."""
    federation = _study(tmp_path, secure=True)
    (federation.sites["cork"].parent / "cache" / "identity" / "cork.key").write_bytes(b"x" * 32)

    state = _run(federation)

    assert "completed with losses: cork" == state.status()
    assert "identity-unknown" in {e.codes.get("cork") for e in state.exchanges}


def test_secrets_are_gone_after_the_sum(tmp_path):
    federation = _study(tmp_path, secure=True)
    _run(federation)
    site = open_site(federation.sites["aachen"])
    kept = list((site.settings.cache / "sums" / "aachen").glob("*.json"))

    assert 1 == len(kept)
    assert 0o600 == kept[0].stat().st_mode & 0o777
    state = SumSessions(site.settings.cache, "aachen").load(kept[0].stem)
    assert ("unmask", "", "", "", {}) == (state.done, state.box, state.mask, state.seed, state.held)


def test_a_protocol_that_needs_single_sites_numbers_is_refused(tmp_path):
    """All that does not fit is named at once."""
    with pytest.raises(ValidationError) as caught:
        small_protocol(
            training={"strategy": "krum"},
            harmonisation={"method": "combat"},
            federation={"secure_aggregation": True, "min_sites": 2},
        )

    told = str(caught.value)
    assert all(word in told for word in ("min_sites", "site_keys", "harmonisation", "strategy", "encoding float32"))
