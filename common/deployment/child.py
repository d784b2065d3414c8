"""child: `python -m common.deployment.child PROGRAM ARGUMENTS`: run it, and let it end when its parent dies.

A killed supervisor must not leave a SuperNode that still holds the site's session.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["main"]

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask Linux for the signal (other systems know none), then become the program."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(1)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606  # started by our own keeper


if __name__ == "__main__":
    main()
