"""The door: who is let through, with what, and that nothing a stranger sends breaks it."""

from __future__ import annotations

import asyncio
import base64
import json
import tarfile
from datetime import date

import httpx
import numpy as np
import pytest
import yaml
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.deployment.event_log import EventLog
from server import fleet_door
from server.fleet_door import ACTIONS, LARGEST_BODY, Door
from server.provision.invite import invite_site, revoke_site
from server.provision.registry import save_registry
from server.provision.study import init_study, open_provisioned
from tests.builders import small_protocol


class _SuperLink:
    """Answers each request with the next of `answers`, the last one for ever; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers = [b"work"]
        self.asked = []

    def __call__(self, request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, text="Traceback: /srv/study")
        return httpx.Response(
            200, content=answer, headers={"content-type": "application/protobuf", "server": "uvicorn"}
        )


class _Visitor:
    """Asks the door without a socket."""

    def __init__(self, app) -> None:
        self._app = app

    def get(self, path, **rest):
        return self._ask("GET", path, **rest)

    def post(self, path, **rest):
        return self._ask("POST", path, **rest)

    def _ask(self, method, path, **rest):
        async def ask():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="https://door") as client:
                return await client.request(method, path, **rest)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    (folder / "p.yaml").write_text(yaml.safe_dump(small_protocol().model_dump(mode="json")))
    made = init_study(folder / "study", folder / "p.yaml", server="localhost:1")
    invite_site(made, "alpha")
    return open_provisioned(made.folder)


@pytest.fixture
def superlink():
    return _SuperLink()


@pytest.fixture
def door(study, superlink, tmp_path):
    upstream = httpx.AsyncClient(base_url="https://127.0.0.1:8000", transport=httpx.MockTransport(superlink))
    return _Visitor(Door(study.folder, upstream, EventLog(tmp_path / "door.jsonl", echo=False)).app)


@pytest.fixture
def key(study):
    (invitation,) = study.registry.invitations
    return {"flwr-public-key": base64.b64encode(invitation.key_bytes()).decode()}


def test_a_registered_key_is_greeted_and_let_through(door, key, superlink):
    assert door.get("/v1/site/hello", headers=key).json() == {"site": "alpha"}

    answer = door.post("/v1/fleet/get-run", content=b"question", headers={**key, "x-forwarded-for": "198.51.100.7"})

    assert (answer.status_code, answer.content) == (200, b"work")
    assert "server" not in answer.headers
    (asked,) = superlink.asked
    assert (asked.url.path, asked.content, "x-forwarded-for" in asked.headers) == (
        "/v1/fleet/get-run",
        b"question",
        False,
    )


@pytest.mark.parametrize("action", ["register-node", "unregister-node", "anything", "..%2f..%2fcontrol%2fstart-run"])
def test_only_a_supernode_at_work_is_let_through(door, key, superlink, action):
    assert door.post(f"/v1/fleet/{action}", headers=key).status_code in (403, 404)
    assert superlink.asked == []


@pytest.mark.parametrize(
    "path", ["/", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/openapi.json", "/health"]
)
def test_nothing_else_is_there(door, key, superlink, path):
    assert {door.get(path, headers=key).status_code, door.post(path, headers=key).status_code} <= {404, 405}
    assert superlink.asked == []


def test_strangers_are_told_apart_from_the_revoked_and_the_expired(study, door, key):
    registry = study.registry
    try:
        assert door.get("/v1/site/hello").json() == {"code": "key-unknown"}
        revoke_site(study, "alpha")
        assert door.post("/v1/fleet/get-run", headers=key).json() == {"code": "key-revoked"}
        (invitation,) = registry.invitations
        expired = invitation.model_copy(update={"valid_until": date(2020, 1, 1)})
        save_registry(study.folder, registry.model_copy(update={"invitations": (expired,)}))
        assert door.post("/v1/fleet/get-run", headers=key).json() == {"code": "key-expired"}
    finally:
        save_registry(study.folder, registry)


def test_the_papers_head_fits_through_in_chunks():
    """10.49 million weights of four bytes: no request that Flower makes of them is near the limit."""
    weights = np.random.default_rng(0).standard_normal(10_490_000).astype(np.float32)
    record = RecordDict({"arrays": ArrayRecord({"head": Array(weights)})})

    sizes = [len(part.deflate()) for part in get_all_nested_objects(record).values()]

    assert sum(sizes) > weights.nbytes
    assert max(sizes) < LARGEST_BODY / 2


def test_an_oversized_body_stops_at_the_door(door, key, superlink):
    answer = door.post("/v1/fleet/push-object", content=b"0" * (LARGEST_BODY + 1), headers=key)

    assert (answer.status_code, superlink.asked) == (413, [])


def test_a_supernode_waits_for_work_instead_of_sleeping(door, key, superlink, monkeypatch):
    monkeypatch.setattr(fleet_door, "IDLE_POLL_S", 0.01)
    superlink.answers = [b"", b"", b"", b"work"]

    assert door.post("/v1/fleet/pull-messages", headers=key).content == b"work"
    assert len(superlink.asked) == 4


def test_a_supernode_is_let_go_when_there_is_no_work(door, key, superlink, monkeypatch):
    monkeypatch.setattr(fleet_door, "IDLE_POLL_S", 0.01)
    monkeypatch.setattr(fleet_door, "HOLD_S", 0.05)
    superlink.answers = [b""]

    assert door.post("/v1/fleet/pull-messages", headers=key).content == b""


def test_a_restarting_superlink_is_worth_a_retry(door, key, superlink):
    superlink.answers = [httpx.ConnectError("refused")]

    assert door.post("/v1/fleet/get-run", headers=key).status_code == 503


def test_a_superlink_that_fails_is_worth_a_retry_and_named(door, key, superlink, tmp_path):
    """A SuperNode ends at 500; that of a database with seventy writers passes."""
    superlink.answers = [500, b"done"]

    first, second = (door.post("/v1/fleet/push-object", content=b"part", headers=key) for _ in range(2))

    assert (first.status_code, first.json()) == (503, {"code": "superlink-failed"})
    assert (second.status_code, second.content) == (200, b"done")
    (row,) = [json.loads(line) for line in (tmp_path / "door.jsonl").read_text().splitlines()]
    assert (row["event"], row["action"], row["status"]) == ("superlink-failed", "push-object", 500)


def test_hospitals_that_write_together_are_let_in_a_few_at_a_time(study, key, tmp_path):
    """Seventy at once, all answered."""
    inside, most = 0, 0

    async def slow(request) -> httpx.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.005)
        inside -= 1
        return httpx.Response(200, content=b"done")

    async def everybody() -> list[int]:
        upstream = httpx.AsyncClient(base_url="https://127.0.0.1:8000", transport=httpx.MockTransport(slow))
        door = Door(study.folder, upstream, EventLog(tmp_path / "door.jsonl", echo=False))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door.app), base_url="https://door") as client:
            answers = [client.post("/v1/fleet/push-object", content=b"part", headers=key) for _ in range(70)]
            return [answer.status_code for answer in await asyncio.gather(*answers)]

    assert asyncio.run(everybody()) == [200] * 70
    assert most == fleet_door.AT_ONCE


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    action=st.sampled_from(sorted(ACTIONS))
    | st.text(min_size=1, max_size=40).filter(lambda t: t.isascii() and t.isalnum()),
    body=st.binary(max_size=2000),
    header=st.binary(max_size=200).map(lambda b: base64.b64encode(b).decode()) | st.text("abcXYZ019+/=-", max_size=200),
)
def test_nothing_a_stranger_sends_passes_or_breaks_the_door(door, superlink, action, body, header):
    answer = door.post(f"/v1/fleet/{action}", content=body, headers={"flwr-public-key": header})

    assert answer.status_code == 401
    assert set(json.loads(answer.content)) == {"code"}
    assert superlink.asked == []


def test_the_doors_log_names_no_key(study, door, key, tmp_path):
    door.get("/v1/site/hello", headers={"flwr-public-key": base64.b64encode(b"mine").decode()})

    rows = [json.loads(line) for line in (tmp_path / "door.jsonl").read_text().splitlines()]
    assert [(row["event"], row["reason"]) for row in rows] == [("refused", "key-unknown")]


def test_the_kit_of_a_site_is_one_archive(study):
    with tarfile.open(study.folder / "kits" / "alpha.tar") as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == {"alpha"}
