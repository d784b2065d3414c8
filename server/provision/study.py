"""study: the coordinator's folder: made whole by `init`, and what the other commands read from it.

study.yaml  protocol.yaml  deployment.yaml  sites.json
pki/        authority and server certificate with their keys (0600)
kits/       one sealed archive per site, to be handed over and deleted
state/      Flower's database, homes and logs
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.config.deployment import DeploymentSettings
from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.deployment.application import application_fingerprint
from common.errors import InputError, ProtocolMismatch
from server.provision.authority import KeyPair, as_pem, new_authority, new_server_certificate
from server.provision.registry import Registry, load_registry, save_registry
from server.provision.write import write_file

__all__ = ["Provisioned", "init_study", "open_provisioned", "rotate_server_certificate"]

DEPLOYMENT, PROTOCOL = "deployment.yaml", "protocol.yaml"
WARN_DAYS = 30


@dataclass(frozen=True)
class Provisioned:
    """A study's folder, opened.  server: its certificate."""

    folder: Path
    settings: DeploymentSettings
    registry: Registry
    authority: KeyPair
    server: x509.Certificate

    @property
    def pki(self) -> Path:
        """Where ca.crt, server.crt and server.key lie."""
        return self.folder / "pki"

    def warnings(self, now: datetime) -> list[str]:
        """What expires soon, or has."""
        found = []
        left = (self.server.not_valid_after_utc - now).days
        if left < WARN_DAYS:
            found.append(f"the server's certificate ends in {left} days: fedmidline-study rotate")
        for site, invitation in sorted(self.registry.current().items()):
            days = (invitation.valid_until - now.date()).days
            if invitation.revoked is None and days < WARN_DAYS:
                found.append(f"the kit of {site} ends in {days} days: fedmidline-study invite --renew")
        return found


def init_study(
    folder: Path, protocol: Path, *, server: str, study: str = "", superlink_port: int = 8000
) -> Provisioned:
    """Make the folder: authority, server certificate, the protocol's copy.  Nothing is left of a failure.

    server: host:port as hospitals reach it.  InputError `folder-not-empty`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            "folder-not-empty",
            field="STUDY_DIR",
            problem="The study's folder already holds files.",
            fix="Name a new folder; one study has one folder.",
            local=str(folder),
        )
    text = _text(protocol)
    parsed = parse_settings(Protocol, text, source=protocol.name)
    host, _, port = server.rpartition(":")
    settings = parse_settings(
        DeploymentSettings,
        yaml.safe_dump(
            {
                "study": study or parsed.name,
                "server": server,
                "port": int(port) if port.isdigit() else port,
                "superlink_port": superlink_port,
                "protocol": parsed.fingerprint(),
                "application": application_fingerprint(),
            }
        ),
        source="the options",
    )
    now = datetime.now(UTC)
    authority = new_authority(settings.study, now)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        (beside / "pki").mkdir(mode=0o700)
        (beside / "kits").mkdir(mode=0o700)
        write_file(beside / PROTOCOL, text.encode())
        write_file(beside / DEPLOYMENT, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False).encode())
        _write_pair(beside / "pki", "ca", authority)
        _write_pair(beside / "pki", "server", new_server_certificate(authority, host, now))
        save_registry(beside, Registry())
        beside.replace(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return open_provisioned(folder)


def open_provisioned(folder: Path) -> Provisioned:
    """Read a study's folder.

    InputError `not-a-study` for another folder; ProtocolMismatch `protocol-changed` when the protocol is not the one
    that the kits were made for.
    """
    path = folder / DEPLOYMENT
    if not path.is_file():
        raise InputError(
            "not-a-study",
            field="STUDY_DIR",
            problem="The folder is not a provisioned study.",
            fix="Make one with `fedmidline-study init`.",
            local=str(folder),
        )
    settings = parse_settings(DeploymentSettings, _text(path), source=path.name)
    protocol = parse_settings(Protocol, _text(folder / PROTOCOL), source=PROTOCOL)
    if protocol.fingerprint() != settings.protocol:
        raise ProtocolMismatch(
            "protocol-changed",
            field=PROTOCOL,
            problem="The study's protocol is not the one it was provisioned with.",
            fix="Restore the file; another protocol is another study with a folder of its own.",
        )
    pki = folder / "pki"
    return Provisioned(
        folder.resolve(),
        settings,
        load_registry(folder),
        _read_pair(pki, "ca"),
        _read_pair(pki, "server").certificate,
    )


def rotate_server_certificate(study: Provisioned) -> Provisioned:
    """A new key and certificate under the same authority: the hospitals' kits stay as they are."""
    host = study.settings.server.rpartition(":")[0]
    _write_pair(study.pki, "server", new_server_certificate(study.authority, host, datetime.now(UTC)))
    return open_provisioned(study.folder)


def _write_pair(pki: Path, name: str, pair: KeyPair) -> None:
    """Both in one file first: a crash between two renames would leave a key beside another's certificate."""
    certificate, key = as_pem(pair)
    write_file(pki / f"{name}.pem", certificate + key, secret=True)
    _split_pair(pki, name)


def _split_pair(pki: Path, name: str) -> None:
    """What Flower and uvicorn read: certificate and key apart."""
    pair = _load_pair(pki / f"{name}.pem")
    certificate, key = as_pem(pair)
    write_file(pki / f"{name}.key", key, secret=True)
    write_file(pki / f"{name}.crt", certificate)


def _read_pair(pki: Path, name: str) -> KeyPair:
    """As last written; the two files are made again when an interruption left them apart."""
    path = pki / f"{name}.pem"
    try:
        pair = _load_pair(path)
        if (pki / f"{name}.crt").read_bytes() != as_pem(pair)[0]:
            _split_pair(pki, name)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "key-unreadable",
            field=f"pki/{name}.pem",
            problem="A key or certificate of the study cannot be read.",
            fix="Restore the folder pki from a backup.",
            local=f"{path}: {type(error).__name__}",
        ) from None
    return pair


def _load_pair(path: Path) -> KeyPair:
    content = path.read_bytes()
    key = serialization.load_pem_private_key(content, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an EC key")
    return KeyPair(key, x509.load_pem_x509_certificate(content))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "config-unreadable",
            field=path.name,
            problem="A settings file cannot be read.",
            fix="Check that the path exists and is a text file.",
            local=f"{path}: {type(error).__name__}",
        ) from None
