"""connection: what must be true before a site joins: kit, protocol, code, clock, and a server that admits the key."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from json import JSONDecodeError, loads
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from client.site import Site, open_site, read_settings_text
from common.config.kit import KitSettings
from common.config.parse import parse_settings
from common.deployment.application import application_fingerprint
from common.deployment.kit_files import AUTHORITY, KEY, SETTINGS, verify_kit
from common.errors import ConfigError, InputError, ProtocolMismatch, Refused

__all__ = ["Kit", "ServerSilent", "greet_server", "open_kit", "require_match"]

CLOCKS_MAY_DIFFER_S = 240
"""Flower refuses signatures older than 300 s."""


class ServerSilent(InputError):
    """Nobody answers at the server's address: worth trying again."""


@dataclass(frozen=True)
class Kit:
    """An opened, unbroken kit."""

    folder: Path
    settings: KitSettings

    @property
    def key(self) -> Path:
        """The site's private key."""
        return self.folder / KEY

    @property
    def authority(self) -> Path:
        """The one certificate authority that this study trusts."""
        return self.folder / AUTHORITY


def open_kit(folder: Path, today: datetime) -> Kit:
    """Check the seal, the key's permissions and the last day.

    InputError of the seal; ConfigError `key-readable-by-others`; Refused `kit-expired`.
    """
    verify_kit(folder)
    settings = parse_settings(KitSettings, read_settings_text(folder / SETTINGS), source=SETTINGS)
    mode = stat.S_IMODE((folder / KEY).stat().st_mode)
    if mode & 0o077:
        raise ConfigError(
            "key-readable-by-others",
            field=KEY,
            problem=f"The site's private key has the permissions {mode:o}.",
            fix=f"chmod 600 {KEY}",
        )
    if today.date() > settings.valid_until:
        raise Refused(
            "kit-expired",
            site=settings.site,
            field="valid_until",
            problem=f"The kit ended on {settings.valid_until}.",
            fix="Ask the coordinator for a new one (fedmidline-study invite --renew).",
        )
    return Kit(folder.resolve(), settings)


def require_match(kit: Kit, site_file: Path) -> Site:
    """The site's file, when it belongs to this kit; ProtocolMismatch names what differs."""
    site = open_site(site_file)
    if site.settings.name != kit.settings.site:
        raise _mismatch(kit, "site-differs", "name", "The kit is for another site.", "Use this hospital's own kit.")
    if site.protocol.fingerprint() != kit.settings.protocol:
        fix = "Let site.yaml name the kit's protocol.yaml, and prepare again what it changes."
        raise _mismatch(kit, "protocol-differs", "protocol", "The site's protocol is not the study's.", fix)
    if application_fingerprint() != kit.settings.application:
        fix = "Install the release that the study was provisioned with; the coordinator knows its version."
        raise _mismatch(kit, "application-differs", "application", "The installed code is not the study's.", fix)
    return site


def greet_server(kit: Kit, *, timeout_s: float = 10) -> None:
    """Ask the server whether it admits this key; silent when it does.

    ServerSilent `server-unreachable`; InputError `server-not-trusted` (foreign or expired certificate, or no TLS) or
    `clocks-differ`; Refused with the server's reason (`key-unknown`, `key-revoked`, `key-expired`).
    """
    host, _, port = kit.settings.server.rpartition(":")
    context = ssl.create_default_context(cafile=str(kit.authority))
    connection = HTTPSConnection(host.strip("[]"), int(port), timeout=timeout_s, context=context)
    try:
        connection.request("GET", "/v1/site/hello", headers={"flwr-public-key": _public_key(kit)})
        response = connection.getresponse()
        body, date = response.read(10_000), response.getheader("Date", "")
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or "no TLS"
        raise InputError(
            "server-not-trusted",
            field="server",
            site=kit.settings.site,
            problem=f"The server at the address does not prove to be the study's ({reason}).",
            fix="Ask whether an inspecting proxy stands between; otherwise tell the coordinator, and send nothing.",
            local=f"{kit.settings.server}: {error}",
        ) from None
    except (OSError, HTTPException) as error:
        raise ServerSilent(
            "server-unreachable",
            field="server",
            site=kit.settings.site,
            problem="The study's server cannot be reached.",
            fix="Check the firewall (outgoing TCP to this host and port) and whether the server runs.",
            local=f"{kit.settings.server}: {_why(error)}",
        ) from None
    finally:
        connection.close()
    _require_same_time(kit, date)
    if response.status != 200:
        raise _not_admitted(kit, body)


def _require_same_time(kit: Kit, date: str) -> None:
    if not date:
        return
    seconds = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    if seconds > CLOCKS_MAY_DIFFER_S:
        raise InputError(
            "clocks-differ",
            site=kit.settings.site,
            problem=f"This machine's clock and the server's differ by {seconds:.0f} s; signatures are refused.",
            fix="Set the clock by NTP.",
        )


def _not_admitted(kit: Kit, body: bytes) -> Refused:
    try:
        code = str(loads(body)["code"])
    except (JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        code = "not-a-study-server"
    return Refused(
        code,
        site=kit.settings.site,
        field="kit",
        problem="The server does not admit this kit's key.",
        fix="Ask the coordinator for a new kit; `fedmidline-study sites` tells why.",
    )


def _public_key(kit: Kit) -> str:
    private = serialization.load_ssh_private_key(kit.key.read_bytes(), None)
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(pem).decode("ascii")


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is unknown"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__


def _mismatch(kit: Kit, code: str, field: str, problem: str, fix: str) -> ProtocolMismatch:
    return ProtocolMismatch(code, site=kit.settings.site, field=field, problem=problem, fix=fix)
