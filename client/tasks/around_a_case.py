"""around_a_case: work on one case, whose failure is a result and never stops the other cases."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from common.errors import InputError, StudyError

__all__ = ["around_a_case", "worker_killed"]

Result = TypeVar("Result")


def around_a_case(do: Callable[[], Result]) -> Result | StudyError:
    """What `do` returns, or why not: a known fault as it is, a library's failure as InputError `unexpected`.

    Of the latter only its type and the lines of the code are told: its text may quote a header or a file name.
    """
    try:
        return do()
    except StudyError as error:
        return error
    except Exception as error:  # noqa: BLE001  # a library's failure on one image must not stop the others
        return InputError("unexpected", problem=_place_of(error), fix="Report the place of the error.")


def worker_killed() -> StudyError:
    """The operating system ended the worker twice, the second time with nothing beside it."""
    return InputError(
        "worker-killed",
        problem="The operating system ended the process that prepared the case.",
        fix="Give the machine more memory, or set `workers: 1` in the site file; the same command goes on.",
    )


def _place_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    lines = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {lines}"
