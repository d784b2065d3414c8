"""study_commands: provisioning, for the coordinator: a study's folder, the sites' kits, and what becomes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.command import say, screen
from common.deployment.kit_files import certificate_fingerprint
from server.provision.invite import KIT_DAYS, invite_site, revoke_site
from server.provision.study import Provisioned, init_study, open_provisioned, rotate_server_certificate

__all__ = ["AsJson", "StudyFolder", "open_with_warnings", "provisioning"]

provisioning = typer.Typer()

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="the study's folder")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]
Site = Annotated[str, typer.Argument(metavar="SITE", help="the hospital's short name: a-z, 0-9 and hyphens")]


@provisioning.command()
def init(
    study: StudyFolder,
    protocol: Annotated[Path, typer.Option(help="the protocol that every site follows")],
    server: Annotated[str, typer.Option(help="host:port as the hospitals will reach it")],
    name: Annotated[str, typer.Option(help="the study's name; default: the protocol's")] = "",
    superlink_port: Annotated[int, typer.Option(help="Flower's own port on 127.0.0.1")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Make a study's folder with its own certificate authority. The protocol is fixed from then on.

    Example: fedmidline-study init studies/midline --protocol site_configs/protocols/paper.yaml --server fl.example.org:8443
    """
    made = init_study(study, protocol, server=server, study=name, superlink_port=superlink_port)
    result = {
        "study": made.settings.study,
        "folder": str(made.folder),
        "protocol": made.settings.protocol,
        "application": made.settings.application,
        "authority": certificate_fingerprint(made.authority.certificate),
    }
    say(result, _pairs(result, "Study provisioned"), as_json=as_json)
    screen.print("pki/ca.key signs kits and certificates: keep a copy offline.")


@provisioning.command()
def invite(
    study: StudyFolder,
    site: Site,
    days: Annotated[int, typer.Option(min=1, max=1825, help="how long the kit is valid")] = KIT_DAYS,
    renew: Annotated[bool, typer.Option("--renew", help="a new key; the site's old one ends")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one hospital's sealed kit: its key, the authority's certificate, the protocol, one page.

    Hand it over on a channel that you would trust with a password, then delete it here.

    Example: fedmidline-study invite studies/midline hospital-a
    """
    opened = open_with_warnings(study)
    path = invite_site(opened, site, days=days, renew=renew)
    result = {"site": site, "kit": str(path), "authority": certificate_fingerprint(opened.authority.certificate)}
    say(result, _pairs(result, "Kit sealed"), as_json=as_json)


@provisioning.command()
def sites(study: StudyFolder, as_json: AsJson = False) -> None:
    """Every invitation: valid, revoked or expired, and until when.

    Example: fedmidline-study sites studies/midline
    """
    opened, today = open_with_warnings(study), datetime.now(UTC).date()
    rows = [
        {"site": i.site, "state": i.state(today), "invited": str(i.invited), "valid_until": str(i.valid_until)}
        for i in opened.registry.invitations
    ]
    table = Table("site", "state", "invited", "valid until", title=opened.settings.study)
    for row in rows:
        table.add_row(*row.values())
    expires = str(opened.server.not_valid_after_utc.date())
    say({"sites": rows, "server_certificate_until": expires}, table, as_json=as_json)


@provisioning.command()
def revoke(study: StudyFolder, site: Site, as_json: AsJson = False) -> None:
    """Admit no key of this site any more; a running server needs no restart.

    Example: fedmidline-study revoke studies/midline hospital-a
    """
    revoke_site(open_with_warnings(study), site)
    say({"site": site, "state": "revoked"}, f"{site}: revoked", as_json=as_json)


@provisioning.command()
def rotate(study: StudyFolder, as_json: AsJson = False) -> None:
    """A new server certificate under the same authority: no kit changes, the study goes on.

    Restart `fedmidline-study serve` to use it.

    Example: fedmidline-study rotate studies/midline
    """
    rotated = rotate_server_certificate(open_provisioned(study))
    until = str(rotated.server.not_valid_after_utc.date())
    say({"server_certificate_until": until}, f"server certificate until {until}; restart serve", as_json=as_json)


def open_with_warnings(study: Path) -> Provisioned:
    """Open it, and tell on the screen what expires soon."""
    opened = open_provisioned(study)
    for warning in opened.warnings(datetime.now(UTC)):
        screen.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    return opened


def _pairs(result: dict[str, Any], title: str) -> Table:
    table = Table("", "", title=title, show_header=False)
    for key, value in result.items():
        table.add_row(key, str(value))
    return table
