"""control_variates: what a site keeps of SCAFFOLD or FedDyn between rounds, in its cache; one file per round.

The site's control variate is as large as the model; the server can do without it, because it follows from the
change that was sent.  A round that is asked again (a resumed study) starts from the same file as before, so that a
repeated round gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.disk import write_arrays

__all__ = ["ControlVariates"]

Weights = Mapping[str, np.ndarray[Any, Any]]


class ControlVariates:
    """Of one site in one study under one protocol."""

    def __init__(self, cache: Path, *, site: str, study: str, fingerprint: str) -> None:
        self._folder = cache / "control" / f"{site}-{study}-{fingerprint[:16]}"

    def before(self, round_number: int, model: Weights) -> dict[str, np.ndarray[Any, Any]]:
        """The newest of an earlier round; zeros where there is none, or where the model had another shape."""
        earlier = [n for n in self._rounds() if n < round_number]
        if earlier:
            with np.load(self._path(earlier[-1]), allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
            if {n: a.shape for n, a in found.items()} == {n: a.shape for n, a in model.items()}:
                return found
        return {name: np.zeros_like(array) for name, array in model.items()}

    def keep(self, round_number: int, variate: Weights) -> None:
        """Write this round's, whole or not at all; only the one before it stays."""
        write_arrays(self._path(round_number), variate)
        earlier = [n for n in self._rounds() if n < round_number]
        for number in self._rounds():
            if number not in {round_number, *earlier[-1:]}:
                self._path(number).unlink()

    def _path(self, round_number: int) -> Path:
        return self._folder / f"{round_number:06d}.npz"

    def _rounds(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("[0-9]*.npz"))
