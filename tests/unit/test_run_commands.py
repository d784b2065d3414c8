"""serve, run and resume before anything runs: one clear error each, nothing half-started."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
import yaml

from common.deployment.event_log import EventLog
from common.errors import InputError, ProtocolMismatch
from server import deployment
from server.deployment import SERVE_LOCK, WANTED, require_path_without_space, serve
from server.provision.invite import invite_site
from server.provision.study import init_study, open_provisioned
from server.run_commands import _as_error, _want
from server.status import heard_s_ago
from tests.builders import small_protocol
from tests.deployed_study import free_ports


@pytest.fixture
def study(tmp_path):
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(small_protocol().model_dump(mode="json")))
    door, superlink = free_ports(2)
    made = init_study(tmp_path / "study", tmp_path / "p.yaml", server=f"localhost:{door}", superlink_port=superlink)
    (made.folder / "state").mkdir()
    return made


def serve_now(study):
    serve(study.folder, stopped=[15], tell=EventLog(study.folder / "state" / "events.jsonl", echo=False))


def test_a_study_without_sites_is_not_served(study):
    with pytest.raises(InputError, match="no-site-invited"):
        serve_now(study)


def test_a_taken_port_is_named(study):
    invite_site(study, "alpha")
    with socket.socket() as other:
        other.bind(("127.0.0.1", study.settings.superlink_port))
        other.listen()
        with pytest.raises(InputError, match=r"port-taken \[superlink_port\]"):
            serve_now(study)


def test_a_path_in_which_flowers_database_fails_is_named():
    require_path_without_space(Path("/opt/fedmidline/flwr/__init__.py"))
    with pytest.raises(InputError, match="installed-path-with-space"):
        require_path_without_space(Path("/opt/my study/flwr/__init__.py"))


def test_other_code_than_the_kits_name_is_not_served(study, monkeypatch):
    invite_site(study, "alpha")
    monkeypatch.setattr(deployment, "application_fingerprint", lambda: "0" * 64)

    with pytest.raises(ProtocolMismatch, match="application-differs"):
        serve_now(study)


def test_a_run_needs_its_server(study):
    with pytest.raises(InputError, match="server-not-running"):
        _want(study.folder)

    assert not (study.folder / WANTED).exists()
    assert not (study.folder / SERVE_LOCK).exists()


def test_how_a_run_ended_keeps_its_exit_code():
    told = {"code": "quorum-lost", "field": "f", "problem": "p", "fix": "x", "exit_code": 4}

    assert (_as_error(told).code, _as_error(told).exit_code) == ("quorum-lost", 4)


def test_when_a_site_was_last_heard_of(study):
    assert heard_s_ago(study.folder) == {}
    (study.folder / "state" / "seen.json").write_text(json.dumps({"alpha": time.time() - 5}))

    assert 4.5 < heard_s_ago(open_provisioned(study.folder).folder)["alpha"] < 60
