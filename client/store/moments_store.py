"""moments_store: mean and deviation of the visual features on the site's disk, so that they travel once a study.

The server's numbers, not the site's; kept under their digest, and checked by it when they are read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.disk import write_array
from common.errors import Refused
from common.messages.model import ModelState
from common.messages.visual_moments import UNKNOWN, has_moments, moments_digest

__all__ = ["MomentsStore"]


class MomentsStore:
    """One file for each digest, in a folder of the site's own: sites of a simulation share a cache."""

    def __init__(self, cache: Path, *, site: str) -> None:
        self._folder, self._site = cache / "moments" / site, site

    def complete(self, model: ModelState, digest: str) -> ModelState:
        """The model with its moments, which are kept where they came along.

        Refused `moments-unknown` where neither the message nor the cache has them.
        """
        if has_moments(model):
            path = self._path(moments_digest(model))
            if not path.exists():
                write_array(path, np.stack([model.visual_mean, model.visual_deviation]))
            return model
        path = self._path(digest)
        if path.exists():
            mean, deviation = np.load(path, allow_pickle=False)
            found = model.model_copy(update={"visual_mean": mean, "visual_deviation": deviation})
            if moments_digest(found) == digest:
                return found
            path.unlink()
        raise Refused(
            UNKNOWN,
            site=self._site,
            field="model",
            problem="The site's cache no longer holds what standardises the visual features.",
            fix="Nothing to do: the server sends it again in the next round.",
        )

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.npy"
