"""app: Flower's door to the coordinator: read the study's folder, run it, leave the result there.

The run configuration holds one value, `study`: the path of study.yaml.  Beside it the run writes
checkpoint.npz after every exchange; a run that finds one goes on from it.
"""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.config.study import StudySettings
from common.errors import ConfigError
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.phases.select import fixed_selection
from server.retraining import start_from
from server.state import Exchange, StudyState
from server.workflow import run_study, wait_for_sites

__all__ = ["app", "open_study"]

log = getLogger("fedmidline.server")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, or go on with, the study that the run configuration names."""
    path = Path(str(context.run_config["study"]))
    settings, state = open_study(path)
    wait_for_sites(grid, len(settings.sites), settings.join_timeout_s)
    run_study(grid, state, checkpoint=path.parent / CHECKPOINT, notify=_tell)


def open_study(path: Path) -> tuple[StudySettings, StudyState]:
    """The study's settings and its state: the checkpoint's if there is one, else a new one.

    ConfigError when the checkpoint belongs to another protocol or other sites.
    """
    settings = parse_settings(StudySettings, path.read_text(encoding="utf-8"), source=path.name)
    protocol_file = path.parent / settings.protocol
    protocol = parse_settings(Protocol, protocol_file.read_text(encoding="utf-8"), source=protocol_file.name)
    checkpoint = path.parent / CHECKPOINT
    if not checkpoint.exists():
        return settings, _new_study(settings, protocol, path.parent)
    state = load_checkpoint(checkpoint)
    same = state.protocol.fingerprint() == protocol.fingerprint() and state.trains == settings.trains
    if not same or set(state.sites) != set(settings.sites):
        raise ConfigError(
            "checkpoint-of-another-study",
            field="protocol, sites, trains",
            problem="The folder holds a checkpoint of another protocol, of other sites or of another kind of study.",
            fix="Start in a new folder, or restore the study's own protocol and site list.",
        )
    return settings, state


def _new_study(settings: StudySettings, protocol: Protocol, folder: Path) -> StudyState:
    """The first state; a pre-registered signature is chosen, and a released model taken, before any site is asked."""
    fixed = protocol.selection.method == "fixed_signature"
    state = StudyState(
        study=settings.name,
        protocol=protocol,
        sites=tuple(sorted(settings.sites)),
        trains=settings.trains,
        replaces=settings.replaces,
        selection=fixed_selection(len(protocol.radiomics.names())) if fixed else None,
    )
    return state if settings.start is None else start_from(state, folder / settings.start)


def _tell(exchange: Exchange) -> None:
    """One line per exchange for the server's log."""
    roster = ", ".join(f"{site} {status}" for site, status in exchange.roster.items())
    log.info("%s %s round %d: %s", exchange.phase, exchange.action, exchange.round, roster)
