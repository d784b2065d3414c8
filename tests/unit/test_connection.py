"""What a site checks before it joins: kit, key, protocol, code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import yaml

from client import connection
from client.connection import _require_same_time, open_kit, require_match
from client.start_commands import _read_log, start
from common.deployment.application import application_fingerprint, application_stamp
from common.deployment.event_log import EventLog
from common.errors import ConfigError, InputError, ProtocolMismatch, Refused
from server.provision.invite import invite_site
from server.provision.study import init_study
from tests.builders import small_protocol, write_site
from tests.deployed_study import unpack

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(small_protocol().model_dump(mode="json")))
    made = init_study(tmp_path / "study", tmp_path / "p.yaml", server="localhost:1")
    return unpack(invite_site(made, "alpha", days=10), tmp_path / "kits")


def test_a_kit_opens_until_its_last_day(folder):
    assert open_kit(folder, NOW + timedelta(days=10)).settings.site == "alpha"
    with pytest.raises(Refused, match="kit-expired") as caught:
        open_kit(folder, NOW + timedelta(days=11))
    assert caught.value.exit_code == 3


def test_a_key_that_others_can_read_is_not_used(folder):
    (folder / "site.key").chmod(0o644)

    with pytest.raises(ConfigError, match=r"key-readable-by-others.*chmod 600"):
        open_kit(folder, NOW)


def test_clocks_that_differ_are_named(folder):
    kit = open_kit(folder, NOW)
    _require_same_time(kit, format_datetime(datetime.now(UTC) - timedelta(seconds=200), usegmt=True))
    with pytest.raises(InputError, match="clocks-differ"):
        _require_same_time(kit, format_datetime(datetime.now(UTC) - timedelta(seconds=300), usegmt=True))


def test_the_sites_own_file_must_match(folder, tmp_path, monkeypatch):
    kit = open_kit(folder, NOW)
    right = write_site(tmp_path, "alpha", small_protocol(), 8, seed=1)
    assert require_match(kit, right).settings.name == "alpha"

    for site, code in (
        (write_site(tmp_path, "beta", small_protocol(), 8, seed=1), "site-differs"),
        (write_site(tmp_path / "again", "alpha", small_protocol(seed=1), 8, seed=1), "protocol-differs"),
    ):
        with pytest.raises(ProtocolMismatch, match=code):
            require_match(kit, site)
    monkeypatch.setattr(connection, "application_fingerprint", lambda: "0" * 64)
    with pytest.raises(ProtocolMismatch, match="application-differs"):
        require_match(kit, right)


def test_a_folder_that_cannot_be_written_is_named(folder, tmp_path):
    site = write_site(tmp_path, "alpha", small_protocol(), 8, seed=1)

    with pytest.raises(InputError, match="folder-read-only"):
        start(site, folder, state=Path("/sys/fedmidline"))


def test_a_supernode_that_gave_up_is_noticed_once(tmp_path):
    log, node = tmp_path / "supernode.log", tmp_path / "node"
    tell = EventLog(tmp_path / "events.jsonl", echo=False)
    log.write_bytes(b"INFO: SuperNode ID: 12\nINFO: Sent successfully\n")
    seen, early = _read_log(log, 0, node, tell)
    log.write_bytes(log.read_bytes() + b"ERROR: SSL/TLS handshake error detected.\nhalf a li")

    assert (node.read_text(), early) == ("12", False)
    seen, gave_up = _read_log(log, seen, node, tell)
    assert (gave_up, seen) == (True, log.read_bytes().rindex(b"half"))
    assert _read_log(log, seen, node, tell) == (seen, False)
    log.write_bytes(b"INFO: SuperNode ID: 34\n")  # the long one was put aside
    assert _read_log(log, seen, node, tell) == (log.stat().st_size, False)
    assert node.read_text() == "34"


def test_the_applications_fingerprint_is_of_its_code():
    assert application_fingerprint() == application_fingerprint()
    assert application_stamp() == application_stamp()
    names = [name for name, _, _ in application_stamp()]
    assert any(name.endswith("client/app.py") for name in names)
    assert not any("/server/" in name or "/simulation/" in name for name in names)
