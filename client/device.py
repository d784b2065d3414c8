"""device: `auto` becomes the GPU that torch finds, or the CPU."""

from __future__ import annotations

import torch

__all__ = ["choose_device"]


def choose_device(wish: str) -> str:
    """`auto` -> `cuda` where there is one, else `cpu`; any other wish is taken as it is."""
    if wish != "auto":
        return wish
    return "cuda" if torch.cuda.is_available() else "cpu"
