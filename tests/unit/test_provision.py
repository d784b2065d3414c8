"""Provisioning: what init, invite, revoke and rotate leave behind, and what a changed kit says."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from common.config.study import StudySettings
from common.deployment.kit_files import certificate_fingerprint, verify_kit
from common.errors import ConfigError, InputError, ProtocolMismatch, Refused
from server.checkpoint import CHECKPOINT
from server.provision.authority import new_authority, new_server_certificate
from server.provision.invite import invite_site, revoke_site
from server.provision.study import init_study, open_provisioned, rotate_server_certificate
from tests.builders import small_protocol

ROOT = Path(__file__).parents[2]


@pytest.fixture
def protocol(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(small_protocol().model_dump(mode="json")))
    return path


@pytest.fixture
def study(tmp_path, protocol):
    return init_study(tmp_path / "study", protocol, server="fl.example.org:8443")


def unpack(path: Path, into: Path) -> Path:
    with tarfile.open(path) as archive:
        archive.extractall(into, filter="data")
    return into / path.stem


def test_private_keys_are_read_by_their_owner_only(study, tmp_path):
    kit = unpack(invite_site(study, "hospital-a"), tmp_path / "handed-over")

    secrets = [*study.pki.glob("*.key"), *study.pki.glob("*.pem"), *study.folder.glob("kits/*"), kit / "site.key"]
    assert len(secrets) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_a_kit_is_sealed_whole(study, tmp_path):
    kit = unpack(invite_site(study, "hospital-a"), tmp_path / "handed-over")

    assert certificate_fingerprint(verify_kit(kit)) in (kit / "README.md").read_text()
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=kit, check=False).returncode == 0
    assert (kit / ".env").read_text() == "SERVER_HOST=fl.example.org\nSERVER_PORT=8443\n"
    assert "SERVER_HOST" in (kit / "compose.yaml").read_text()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda kit: (kit / "kit.yaml").write_text("study: other"), "kit-changed"),
        (lambda kit: (kit / "site.key").unlink(), "kit-incomplete"),
        (lambda kit: (kit / "SHA256SUMS.sig").unlink(), "kit-incomplete"),
        (lambda kit: (kit / "SHA256SUMS").write_text(""), "kit-seal-broken"),
        (lambda kit: (kit / "ca.crt").write_text("no certificate"), "kit-seal-broken"),
    ],
)
def test_a_changed_kit_is_refused(study, tmp_path, damage, code):
    kit = unpack(invite_site(study, "hospital-a"), tmp_path / "handed-over")
    damage(kit)

    with pytest.raises(InputError) as caught:
        verify_kit(kit)

    assert caught.value.code == code
    assert str(tmp_path) not in str(caught.value)


def test_a_kit_sealed_by_another_authority_is_refused(study, tmp_path, protocol):
    kit = unpack(invite_site(study, "hospital-a"), tmp_path / "handed-over")
    other = init_study(tmp_path / "other", protocol, server="fl.example.org:8443")
    (kit / "ca.crt").write_bytes((other.pki / "ca.crt").read_bytes())

    with pytest.raises(InputError, match="kit-seal-broken"):
        verify_kit(kit)


def test_only_the_last_key_of_a_site_is_admitted(study):
    today = datetime.now(UTC).date()
    invite_site(study, "hospital-a")
    first = open_provisioned(study.folder).registry.admitted(today)
    invite_site(open_provisioned(study.folder), "hospital-a", renew=True)
    second = open_provisioned(study.folder).registry.admitted(today)
    revoke_site(open_provisioned(study.folder), "hospital-a")

    assert list(first.values()) == list(second.values()) == ["hospital-a"]
    assert set(first).isdisjoint(second)
    assert open_provisioned(study.folder).registry.admitted(today) == {}


def test_an_expired_kit_is_not_admitted_and_warned_of(study):
    invite_site(study, "hospital-a", days=3)
    opened, now = open_provisioned(study.folder), datetime.now(UTC)

    assert opened.registry.admitted(now.date() + timedelta(days=3)) != {}
    assert opened.registry.admitted(now.date() + timedelta(days=4)) == {}
    assert any("hospital-a" in warning for warning in opened.warnings(now))
    assert any("certificate" in warning for warning in opened.warnings(now + timedelta(days=380)))


def test_a_site_is_invited_once_and_before_the_study_begins(study):
    invite_site(study, "hospital-a")
    with pytest.raises(Refused, match="already-invited"):
        invite_site(open_provisioned(study.folder), "hospital-a")

    (study.folder / CHECKPOINT).touch()
    with pytest.raises(Refused, match="study-has-begun"):
        invite_site(open_provisioned(study.folder), "hospital-b")
    invite_site(open_provisioned(study.folder), "hospital-a", renew=True)


def test_every_invited_site_is_expected_and_the_coordinators_settings_stay(study):
    invite_site(study, "hospital-b")
    path = study.folder / "study.yaml"
    path.write_text(path.read_text().replace("join_timeout_s: 120.0", "join_timeout_s: 5"))
    invite_site(open_provisioned(study.folder), "hospital-a")

    settings = StudySettings.model_validate(yaml.safe_load(path.read_text()))
    assert (settings.sites, settings.join_timeout_s) == (("hospital-a", "hospital-b"), 5)


def test_rotation_keeps_the_authority(study):
    rotated = rotate_server_certificate(study)

    assert rotated.server.serial_number != study.server.serial_number
    assert rotated.authority.certificate == study.authority.certificate
    rotated.server.verify_directly_issued_by(study.authority.certificate)


def test_an_interrupted_rotation_is_mended(study):
    before = (study.pki / "server.crt").read_bytes()
    rotate_server_certificate(study)
    (study.pki / "server.crt").write_bytes(before)  # the crash between the two renames

    mended = open_provisioned(study.folder)

    assert mended.server == x509.load_pem_x509_certificate((study.pki / "server.crt").read_bytes())


def test_the_servers_certificate_names_its_host_and_loopback():
    now = datetime.now(UTC)
    authority = new_authority("s", now)

    for host, kind in (
        ("fl.example.org", x509.DNSName),
        ("192.0.2.7", x509.IPAddress),
        ("[2001:db8::1]", x509.IPAddress),
    ):
        names = new_server_certificate(authority, host, now).certificate.extensions
        names = names.get_extension_for_class(x509.SubjectAlternativeName).value
        assert host.strip("[]") in map(str, names.get_values_for_type(kind))
        assert "127.0.0.1" in map(str, names.get_values_for_type(x509.IPAddress))


@pytest.mark.parametrize("server", ["no-port", "host:99999", "host name:1", ":80"])
def test_a_bad_address_leaves_nothing(tmp_path, protocol, server):
    with pytest.raises(ConfigError, match="config-invalid"):
        init_study(tmp_path / "study", protocol, server=server)

    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_the_protocol_is_fixed(study):
    path = study.folder / "protocol.yaml"
    path.write_text(path.read_text().replace("rounds: 3", "rounds: 4"))

    with pytest.raises(ProtocolMismatch, match="protocol-changed"):
        open_provisioned(study.folder)


def test_a_full_folder_is_not_touched(tmp_path, protocol):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()

    with pytest.raises(InputError, match="folder-not-empty"):
        init_study(tmp_path / "full", protocol, server="h:1")


def test_the_commands(tmp_path, protocol):
    def study(*words):
        code = "from server.cli import main; main()"
        words = [sys.executable, "-c", code, *map(str, words)]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    made = study("init", tmp_path / "s", "--protocol", protocol, "--server", "localhost:8443", "--json")
    kit = study("invite", tmp_path / "s", "hospital-a", "--json")
    again = study("invite", tmp_path / "s", "hospital-a")
    listed = study("sites", tmp_path / "s", "--json")

    assert json.loads(made.stdout)["authority"] == json.loads(kit.stdout)["authority"]
    assert (again.returncode, json.loads(listed.stdout)["sites"][0]["state"]) == (3, "valid")
