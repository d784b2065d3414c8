"""invite: one key pair and one sealed kit for one hospital."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from string import Template

import yaml

from common.config.kit import KitSettings
from common.config.parse import parse_settings
from common.config.study import StudySettings
from common.deployment.kit_files import (
    AUTHORITY,
    KEY,
    PROTOCOL,
    PUBLIC_KEY,
    SETTINGS,
    certificate_fingerprint,
    seal,
)
from common.errors import Refused
from server.checkpoint import CHECKPOINT
from server.provision.authority import new_site_key
from server.provision.registry import Invitation, save_registry
from server.provision.study import Provisioned, open_provisioned
from server.provision.write import write_file

__all__ = ["invite_site", "revoke_site"]

STUDY = "study.yaml"
KIT_DAYS = 365


def invite_site(study: Provisioned, site: str, *, days: int = KIT_DAYS, renew: bool = False) -> Path:
    """Write the site's kit and admit its key; returns the archive.

    renew: a new key for a site that has one; the old one is refused from then on.
    Refused: `already-invited`; `study-has-begun` for a site that a running study does not know.
    """
    known = study.registry.current()
    if site in known and not renew:
        raise _refused("already-invited", site, "The site already has a kit.", "Use --renew: its old key ends then.")
    if site not in known and (study.folder / CHECKPOINT).exists():
        fix = "Sites join before the first run; another study takes it in."
        raise _refused("study-has-begun", site, "The study has begun without this site.", fix)
    today = datetime.now(UTC).date()
    private, public = new_site_key()
    invitation = Invitation(
        site=site, public_key=public.decode().strip(), invited=today, valid_until=today + timedelta(days=days)
    )
    settings = study.settings
    kit = KitSettings(
        study=settings.study,
        site=site,
        server=settings.server,
        protocol=settings.protocol,
        application=settings.application,
        valid_until=invitation.valid_until,
    )
    words = {
        **kit.model_dump(mode="json"),
        "host": settings.server.rpartition(":")[0],
        "port": settings.server.rpartition(":")[2],
        "authority": certificate_fingerprint(study.authority.certificate),
    }
    contents = {
        SETTINGS: yaml.safe_dump(kit.model_dump(mode="json"), sort_keys=False).encode(),
        AUTHORITY: (study.pki / "ca.crt").read_bytes(),
        PROTOCOL: (study.folder / "protocol.yaml").read_bytes(),
        KEY: private,
        PUBLIC_KEY: public,
        "README.md": _template("kit_readme.md", words),
        "compose.yaml": files("server.provision").joinpath("compose.site.yaml").read_bytes(),
        ".env": "SERVER_HOST={host}\nSERVER_PORT={port}\n".format_map(words).encode(),
    }
    path = study.folder / "kits" / f"{site}.tar"
    write_file(path, _archive(site, contents | seal(contents, study.authority.key)), secret=True)
    save_registry(study.folder, study.registry.invited(invitation))
    _write_study(open_provisioned(study.folder))
    return path


def revoke_site(study: Provisioned, site: str) -> None:
    """From now on no key of this site is admitted; the study goes on and names it absent.  Refused `not-invited`."""
    if site not in study.registry.current():
        raise _refused("not-invited", site, "The study does not know this site.", "See `fedmidline-study sites`.")
    save_registry(study.folder, study.registry.revoked(site, datetime.now(UTC).date()))


def _write_study(study: Provisioned) -> None:
    """study.yaml lists every site that was ever invited; what the coordinator changed in it stays."""
    path = study.folder / STUDY
    old = parse_settings(StudySettings, path.read_text(), source=STUDY).model_dump(mode="json") if path.exists() else {}
    new = {"name": study.settings.study, "protocol": "protocol.yaml"} | old
    settings = StudySettings.model_validate(new | {"sites": sorted(study.registry.current())})
    write_file(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False).encode())


def _archive(site: str, contents: dict[str, bytes]) -> bytes:
    """A tar whose key is 0600 when it is unpacked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo(site)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(folder)
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{site}/{name}")
            member.size, member.mode = len(content), 0o600 if name == KEY else 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _template(name: str, words: dict[str, object]) -> bytes:
    return Template(files("server.provision").joinpath(name).read_text(encoding="utf-8")).substitute(words).encode()


def _refused(code: str, site: str, problem: str, fix: str) -> Refused:
    return Refused(code, site=site, field="SITE", problem=problem, fix=fix)
