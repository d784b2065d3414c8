"""weight_update: the change of the weights on its way from a site to the server, in as few bytes as wanted.

    float32        4 bytes a number, exact
    float16        2 bytes, over a power of two that brings the largest number near one; 5e-4 relative
    int8           1 byte, rounded up or down at random so that the mean is right (Alistarh et al. 2017,
                   arXiv 1610.02132), one scale per array
    low_rank       left (rows x rank) and right (rank x columns) of the change in float16, left in float32
    low_rank_int8  the same, right in int8

Arrays of fewer than 4,096 numbers always travel in float32.  The change of a layer under a frozen backbone is
`kept * weights + left @ right` with few ranks: its gradients lie in the span of the cases' features, and all cases
push the two logits apart (one rank without ReLU between the layers).  `kept` is what weight decay did.

Secure aggregation adds masked numbers, so only encodings that add up may be used under it: float32 and float16 in
fixed point, int8 with one scale that all sites share.  Low-rank factors do not add up; each site's right factor
spans its own cases.  They tell no more than the change itself, which is their product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from common.config.training import Encoding
from common.errors import WireError
from common.messages.base import Arrays, Message

__all__ = ["SMALL", "Change", "LowRank", "WeightUpdate", "open_update", "pack", "unpack", "unpack_one"]

Array = np.ndarray[Any, Any]

SMALL = 4096
LEVELS = 127
WIDTH = 16384
"""Numbers at a time, so that a block stays in the processor's cache."""

KIND: dict[Encoding, Literal["float32", "float16", "int8"]] = {
    "float32": "float32",
    "float16": "float16",
    "int8": "int8",
    "low_rank": "float16",
    "low_rank_int8": "int8",
}


@dataclass(frozen=True)
class LowRank:
    """A change `kept * before + left @ right`: (rows, rank) with orthonormal columns, (rank, columns); float32."""

    kept: float
    left: Array
    right: Array

    def dense(self, before: Array) -> Array:
        """The change itself, float32; summed rank by rank, so that no BLAS decides on the last bit."""
        change = before * np.float32(self.kept)
        term = np.empty((len(before), WIDTH), np.float32)
        for begin in range(0, before.shape[1], WIDTH):
            block = change[:, begin : begin + WIDTH]
            here = term[:, : block.shape[1]]
            for column, row in zip(self.left.T, self.right, strict=True):
                np.multiply(column[:, None], row[begin : begin + WIDTH], out=here)
                block += here
        return change


Change = np.ndarray[Any, Any] | LowRank


class WeightUpdate(Message):
    """parts: `name` of a plain array; `name.scale` beside an encoded one; `name.kept`, `name.left`, `name.right`
    of a low-rank one.
    """

    encoding: Encoding
    parts: Arrays


def pack(changes: Mapping[str, Change], encoding: Encoding, rng: np.random.Generator) -> WeightUpdate:
    """Encode; large arrays must be LowRank where the encoding is.  rng: for the rounding of int8."""
    parts: dict[str, Array] = {}
    for name, change in changes.items():
        if isinstance(change, LowRank):
            parts[f"{name}.kept"] = np.array([change.kept])
            parts[f"{name}.left"] = change.left.astype(np.float32)
            parts |= _shrink(f"{name}.right", change.right, KIND[encoding], rng)
        elif change.size < SMALL:
            parts[name] = change.astype(np.float32, copy=False)
        else:
            parts |= _shrink(name, change, KIND[encoding], rng)
    return WeightUpdate(encoding=encoding, parts=parts)


def unpack(update: WeightUpdate, before: Mapping[str, Array]) -> dict[str, Array]:
    """The changes, float32, one per array of `before`; errors as `open_update`."""
    return {
        name: change.dense(before[name]) if isinstance(change, LowRank) else change
        for name, change in open_update(update, before).items()
    }


def open_update(update: WeightUpdate, before: Mapping[str, Array]) -> dict[str, Change]:
    """The changes in float32, low-rank ones as their factors.

    WireError `update-keys`, `update-shape` or `update-dtype` names the part that is not as it must be.
    """
    parts = dict(update.parts)
    with np.errstate(over="ignore", invalid="ignore"):  # what an absurd scale makes infinite, the gate refuses by name
        changes = {name: _decode(name, weight, update.encoding, parts) for name, weight in before.items()}
    if parts:
        raise _wrong("update-keys", sorted(parts)[0])
    return changes


def unpack_one(update: WeightUpdate, name: str, before: Array) -> Array:
    """The change of one array, float32; the update has been opened and checked before."""
    change = _decode(name, before, update.encoding, dict(update.parts))
    return change.dense(before) if isinstance(change, LowRank) else change


def _decode(name: str, weight: Array, encoding: Encoding, parts: dict[str, Array]) -> Change:
    if weight.size < SMALL:
        return _take(parts, name, "float32", weight.shape)
    if not encoding.startswith("low_rank"):
        return _grow(name, KIND[encoding], weight.shape, parts)
    kept = float(_take(parts, f"{name}.kept", "float64", (1,))[0])
    rank = parts[f"{name}.left"].shape[-1] if f"{name}.left" in parts else 0
    if rank > weight.shape[0]:
        raise _wrong("update-shape", f"{name}.left")
    left = _take(parts, f"{name}.left", "float32", (weight.shape[0], rank))
    right = _grow(f"{name}.right", KIND[encoding], (rank, weight.shape[1]), parts)
    return LowRank(kept, left, right)


def _shrink(name: str, array: Array, kind: str, rng: np.random.Generator) -> dict[str, Array]:
    """The array as `kind`, and its scale."""
    if kind == "float32":
        return {name: array.astype(np.float32, copy=False)}
    largest = _largest(array)
    if kind == "float16":
        scale = float(2.0 ** np.floor(np.log2(largest))) if largest else 1.0
        return {name: (array / np.float32(scale)).astype(np.float16), f"{name}.scale": np.array([scale])}
    # A little wider than the largest number, so that single precision's rounding takes none beyond the last level.
    scale = largest / LEVELS * (1 + 1e-6) or 1.0
    return {name: _round_at_random(array, scale, rng), f"{name}.scale": np.array([scale])}


def _largest(array: Array) -> float:
    """Absolute value; 0 of nothing."""
    flat = array.reshape(-1)
    blocks = [flat[begin : begin + WIDTH] for begin in range(0, flat.size, WIDTH)]
    return max((max(float(block.max()), -float(block.min())) for block in blocks), default=0.0)


def _round_at_random(array: Array, scale: float, rng: np.random.Generator) -> Array:
    """The array in units of `scale` as int8, rounded up as often as it lies near the upper neighbour."""
    whole = np.empty(array.shape, np.int8)
    flat, source = whole.reshape(-1), array.reshape(-1)
    per_step, steps = np.float32(1 / scale), np.empty(WIDTH, np.float32)
    for begin in range(0, flat.size, WIDTH):
        here = source[begin : begin + WIDTH]
        block = np.multiply(here, per_step, out=steps[: len(here)])
        block += rng.random(len(here), dtype=np.float32)
        flat[begin : begin + WIDTH] = np.floor(block, out=block)
    return whole


def _grow(name: str, kind: str, shape: tuple[int, ...], parts: dict[str, Array]) -> Array:
    """Inverse of `_shrink`."""
    array = _take(parts, name, kind, shape)
    if kind == "float32":
        return array
    scale = float(_take(parts, f"{name}.scale", "float64", (1,))[0])
    return array.astype(np.float32) * np.float32(scale)


def _take(parts: dict[str, Array], name: str, dtype: str, shape: tuple[int, ...]) -> Array:
    part = parts.pop(name, None)
    if part is None:
        raise _wrong("update-keys", name)
    if part.dtype != np.dtype(dtype):
        raise _wrong("update-dtype", name)
    if part.shape != shape:
        raise _wrong("update-shape", name)
    return part


def _wrong(code: str, field: str) -> WireError:
    return WireError(
        code,
        field=field[:80],
        problem="A part of the update is missing, unknown, or of another shape or type than the model's.",
        fix="Both sides must run the same version and protocol.",
    )
