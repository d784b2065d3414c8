"""engines: three carriers for the same two apps; the same numbers from all.

    local     in this process (simulation/local_grid.py): the fast default
    ray       Flower's simulation engine: many virtual sites, several cores, a cluster by configuration
    loopback  Flower's deployment on this machine: a SuperLink and one SuperNode per site, real sockets

Each takes the study's file and the sites' files; the result is the study's checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from client.app import app as client_app
from common.errors import InputError, StudyError
from server.app import app as server_app
from server.app import open_study
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.state import Exchange, StudyState
from server.workflow import ANSWERS, run_study
from simulation.local_grid import LocalGrid
from simulation.loopback import QUIET, deploy_on_loopback

__all__ = ["ENGINES", "run_local", "run_loopback", "run_ray"]

Notify = Callable[[Exchange], None]


def run_local(
    study: Path,
    sites: Sequence[Path],
    *,
    notify: Notify = lambda _: None,
    lose: Callable[[Message], bool] = lambda _: False,
) -> StudyState:
    """All sites in threads of this process."""
    _, state = open_study(study)
    grid = LocalGrid(client_app, [_node_config(site) for site in sites], lose=lose)
    try:
        return run_study(grid, state, checkpoint=study.parent / CHECKPOINT, notify=notify)
    finally:
        grid.close()


def run_ray(study: Path, sites: Sequence[Path], *, notify: Notify = lambda _: None) -> StudyState:
    """Flower's simulation engine; `notify` hears nothing, the rounds run in Ray's processes.

    InputError `ray-path-with-space`: Ray starts its workers by a shell line that does not quote Python's path.
    """
    if " " in sys.executable:
        raise InputError(
            "ray-path-with-space",
            field="engine",
            problem="Ray cannot start workers from a path with a space in it.",
            fix="Use the engine local or loopback, or move the checkout to a path without spaces.",
            local=sys.executable,
        )
    os.environ.update(QUIET)
    from flwr.simulation import run_simulation  # imports Ray, which takes seconds

    study, configs = study.resolve(), [_node_config(site) for site in sites]
    wrapped_server, wrapped_client = ServerApp(), ClientApp()

    @wrapped_server.main()
    def main(grid: Grid, context: Context) -> None:
        context.run_config = {"study": str(study)}
        server_app(grid, context)

    def place(message: Message, context: Context) -> Message:
        # Flower's engine numbers its nodes; the number stands for a site's file.
        config = configs[int(context.node_config["partition-id"])]
        inner = Context(context.run_id, context.node_id, config, context.state, {}, context.series_id)
        return client_app(message, inner)

    for action, (category, _) in ANSWERS.items():
        getattr(wrapped_client, category)(action)(place)
    run_simulation(
        wrapped_server,
        wrapped_client,
        num_supernodes=len(configs),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    del notify
    return _finished(study)


def run_loopback(study: Path, sites: Sequence[Path], *, notify: Notify = lambda _: None) -> StudyState:
    """SuperLink and SuperNodes on 127.0.0.1; `notify` hears nothing, the rounds run in other processes."""
    del notify
    deploy_on_loopback(study.resolve(), [_node_config(site) for site in sites])
    return _finished(study)


ENGINES: dict[str, Callable[..., StudyState]] = {
    "local": run_local,
    "ray": run_ray,
    "loopback": run_loopback,
}


def _node_config(site: Path) -> dict[str, str]:
    return {"site": str(site.resolve()), "name": site.parent.name}


def _finished(study: Path) -> StudyState:
    checkpoint = study.parent / CHECKPOINT
    if not checkpoint.exists():
        raise StudyError(
            "run-without-result",
            problem="The engine ended before the first checkpoint.",
            fix="Look into the engine's log in the run's folder.",
        )
    return load_checkpoint(checkpoint)
