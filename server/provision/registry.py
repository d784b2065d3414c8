"""registry: which site holds which key, until when, and which keys are no longer admitted.

One JSON file, replaced atomically; the door at the server reads it again whenever it changes, so a revocation needs
no restart.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from pydantic import BaseModel, ConfigDict, ValidationError

from common.config.study import SiteName
from common.errors import InputError
from server.provision.write import write_file

__all__ = ["REGISTRY", "Invitation", "Registry", "load_registry", "save_registry"]

REGISTRY = "sites.json"


class Invitation(BaseModel):
    """public_key: one line in OpenSSH's format.  revoked: the day, or None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: SiteName
    public_key: str
    invited: date
    valid_until: date
    revoked: date | None = None

    def state(self, today: date) -> str:
        """`valid`, `revoked` or `expired`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if today > self.valid_until else "valid"

    def key_bytes(self) -> bytes:
        """The public key as SuperNodes send it: PEM."""
        key = serialization.load_ssh_public_key(self.public_key.encode())
        return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Registry(BaseModel):
    """Every invitation ever made, in order; nothing is deleted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    invitations: tuple[Invitation, ...] = ()

    def current(self) -> dict[str, Invitation]:
        """The last invitation of each site."""
        return {invitation.site: invitation for invitation in self.invitations}

    def admitted(self, today: date) -> dict[bytes, str]:
        """Public key -> site, of the keys that the server lets in today."""
        return {i.key_bytes(): i.site for i in self.invitations if i.state(today) == "valid"}

    def invited(self, invitation: Invitation) -> Registry:
        """With one more; an earlier key of the same site is revoked."""
        return Registry(invitations=(*self.revoked(invitation.site, invitation.invited).invitations, invitation))

    def revoked(self, site: str, day: date) -> Registry:
        """No key of this site is admitted any more."""
        return Registry(
            invitations=tuple(
                i.model_copy(update={"revoked": day}) if i.site == site and i.revoked is None else i
                for i in self.invitations
            )
        )


def load_registry(study: Path) -> Registry:
    """The study's; InputError `registry-unreadable` when the file is damaged."""
    path = study / REGISTRY
    try:
        return Registry.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            "registry-unreadable",
            field=REGISTRY,
            problem="The study's list of sites cannot be read.",
            fix="Name a folder that `fedmidline-study init` made, or restore the file from a backup.",
            local=f"{path}: {error}",
        ) from None


def save_registry(study: Path, registry: Registry) -> None:
    """Replace the file."""
    write_file(study / REGISTRY, registry.model_dump_json(indent=1).encode() + b"\n")
