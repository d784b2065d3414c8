"""side_by_side: the same work on many cases, in processes of one thread each; a killed process costs no other case."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["THREADS", "side_by_side"]

Work = TypeVar("Work")
Result = TypeVar("Result")

THREADS = {
    "OMP_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "ANTS_RANDOM_SEED": "1",  # ANTs draws its samples from the clock otherwise
}
"""With one thread the same bits come from every machine, whatever its number of cores."""


def side_by_side(
    work: Mapping[str, Work], do: Callable[[Work], Result], *, workers: int
) -> Iterator[tuple[str, Result | None]]:
    """(name, result) as they come; None where the operating system killed the process twice, the second time with nothing
    beside it.

    do: picklable; its exceptions are its own affair and end everything.
    """
    left = dict(work)
    with _one_thread_each():
        for name, result in _in_processes(left, do, workers):
            del left[name]
            yield name, result
        # A process that is killed takes its neighbours' work with it: each of them gets one of its own.
        for name, task in left.items():
            yield name, dict(_in_processes({name: task}, do, 1)).get(name)


def _in_processes(work: Mapping[str, Work], do: Callable[[Work], Result], workers: int) -> Iterator[tuple[str, Result]]:
    """Those whose process was killed are missing."""
    if not work:
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            futures = {pool.submit(do, task): name for name, task in dict(work).items()}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            return


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """The libraries read these when they load in the new process."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
