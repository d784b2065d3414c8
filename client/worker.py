"""worker: `python -m client.worker`: the resident process that answers a site's messages.

Started and kept by `fedmidline-site start`.  torch, SimpleITK and the tasks are imported once, not once per message.
It ends, and is started anew, when the code on the disk is no longer the code that it runs.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from flwr.app import Context, Message

from client.app import app
from client.flower_runtime import Executor
from common.deployment.application import application_stamp

__all__ = ["main"]

POLL_S, IDLE_POLL_S, BUSY_S, LOOK_S = 0.1, 0.5, 60.0, 2.0
CODE_CHANGED = 75


def main() -> None:
    """Answer until the SuperNode is gone or the code has changed."""
    arguments = argparse.ArgumentParser(description="A site's resident worker; `fedmidline-site start` starts it.")
    arguments.add_argument("--runtime", required=True, help="address of the site's own SuperNode")
    arguments.add_argument("--secret-file", required=True, type=Path, help="what SuperNode and worker share")
    options = arguments.parse_args()
    stamp, parent = application_stamp(), os.getppid()
    _import_what_is_heavy()
    executor = Executor(options.runtime, options.secret_file.read_bytes(), _answer)
    looked = worked = time.monotonic()
    while os.getppid() == parent:
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            if application_stamp() != stamp:
                raise SystemExit(CODE_CHANGED)
        busy = executor.take_next()
        if busy:
            worked = time.monotonic()
        else:
            time.sleep(POLL_S if time.monotonic() - worked < BUSY_S else IDLE_POLL_S)


def _import_what_is_heavy() -> None:
    """What the tasks import at their first message."""
    import torch  # noqa: F401

    import client.features.phantom  # noqa: F401  # SimpleITK


def _answer(message: Message, context: Context) -> Message:
    """The pinned application; its own boundary turns every failure into a refusal."""
    reply: Message = app(message, context)
    return reply


if __name__ == "__main__":
    main()
