"""fixed_point: real and whole numbers as elements of a ring, whose sums modulo 2^(64 x limbs) are the numbers' sums.

A real number becomes the nearest multiple of 2^-fraction_bits: off by at most half of one, for each site.  A number
that is NaN, infinite, or beyond the range is refused before anything is added: in a ring it would silently come
round on the other side.  The range leaves room for 1,024 sites.

    COUNTS   whole numbers, exact                        below 2^53
    WIDE     sums of radiomics features and squares      2^-128 steps, below 2^117 (1.7e35)
    NARROW   sums of visual features                     2^-64 steps, below 2^53
    WEIGHTS  weighted changes of weights                 2^-36 steps (1.5e-11), below 2^17

Sums of WIDE and NARROW are rounded once, when they become floats again: to 2^-51 of their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import Refused

__all__ = ["COUNTS", "NARROW", "WEIGHTS", "WIDE", "FixedPoint", "RingArray", "add_into", "decode", "encode", "negated"]

RingArray = np.ndarray[Any, np.dtype[np.uint64]]
"""(numbers, limbs), lowest limb first, two's complement."""
Floats = np.ndarray[Any, np.dtype[np.float64]]

HEADROOM_BITS = 10
MANTISSA = 53
NUMBERS_AT_ONCE = 1 << 14
"""So that a part stays in the processor's cache."""


@dataclass(frozen=True)
class FixedPoint:
    """limbs: of 64 bits each."""

    limbs: int
    fraction_bits: int

    @property
    def range(self) -> float:
        """Every site's numbers are smaller than this in size."""
        return 2.0 ** min(64 * self.limbs - 1 - HEADROOM_BITS - self.fraction_bits, 1000)

    @property
    def largest_error(self) -> float:
        """Of one site's number."""
        return 0.0 if self.fraction_bits == 0 else 2.0 ** -(self.fraction_bits + 1)


COUNTS = FixedPoint(limbs=1, fraction_bits=0)
WIDE = FixedPoint(limbs=4, fraction_bits=128)
NARROW = FixedPoint(limbs=2, fraction_bits=64)
WEIGHTS = FixedPoint(limbs=1, fraction_bits=36)


def encode(values: np.ndarray[Any, Any], form: FixedPoint, *, field: str, factor: float = 1.0) -> RingArray:
    """Factor x values, flattened.  Refused `sum-not-finite`, `sum-too-large`; `sum-not-whole` for a fraction among counts."""
    flat = np.asarray(values).reshape(-1)
    out = np.empty((flat.size, form.limbs), np.uint64)
    for begin in range(0, flat.size, NUMBERS_AT_ONCE):
        part = np.multiply(flat[begin : begin + NUMBERS_AT_ONCE], factor, dtype=np.float64)
        _require_fit(part, form, field)
        out[begin : begin + NUMBERS_AT_ONCE] = _one_limb(part, form) if form.limbs == 1 else _limbs(part, form)
    return out


def _require_fit(part: Floats, form: FixedPoint, field: str) -> None:
    largest = max(float(part.max(initial=0)), -float(part.min(initial=0)))
    if not np.isfinite(largest):
        raise _refused("sum-not-finite", field, "A number to be added up is NaN or infinite.")
    if largest >= form.range:
        raise _refused("sum-too-large", field, "A number is beyond the range agreed for secure sums.")
    if form.fraction_bits == 0 and (part != np.floor(part)).any():
        raise _refused("sum-not-whole", field, "A count is not a whole number.")


def _one_limb(part: Floats, form: FixedPoint) -> RingArray:
    np.multiply(part, 2.0**form.fraction_bits, out=part)
    return np.rint(part, out=part).astype(np.int64).view(np.uint64).reshape(-1, 1)


def _limbs(flat: Floats, form: FixedPoint) -> RingArray:
    fraction, exponent = np.frexp(np.abs(flat))
    whole = np.ldexp(fraction, MANTISSA).astype(np.uint64)
    shift = exponent.astype(np.int64) - MANTISSA + form.fraction_bits
    out = np.zeros((flat.size, form.limbs), np.uint64)
    down = shift < 0
    # Below the step: shift right with rounding; 63 or more leaves nothing.
    right = np.minimum(-shift[down], 62).astype(np.uint64)
    out[down, 0] = (whole[down] + (np.uint64(1) << (right - np.uint64(1)))) >> right
    limb, bits = np.divmod(np.maximum(shift, 0), 64)
    bits = bits.astype(np.uint64)
    for place in range(form.limbs):
        here = ~down & (limb == place)
        out[here, place] |= whole[here] << bits[here]
        spills = here & (bits > 64 - MANTISSA)
        if place + 1 < form.limbs:
            out[spills, place + 1] |= whole[spills] >> (np.uint64(64) - bits[spills])
    below = flat < 0
    out[below] = negated(out[below])
    return out


def decode(ring: RingArray, form: FixedPoint) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The sums as float64."""
    if form.limbs == 1:
        sums = ring[:, 0].view(np.int64).astype(np.float64)
        return np.multiply(sums, 2.0**-form.fraction_bits, out=sums)
    below = ring[:, -1] >> np.uint64(63) == 1
    size = ring.copy()
    size[below] = negated(ring[below])
    values = np.zeros(len(ring))
    for limb in range(form.limbs):
        values += np.ldexp(size[:, limb].astype(np.float64), 64 * limb - form.fraction_bits)
    return np.where(below, -values, values)


def add_into(total: RingArray, term: RingArray) -> None:
    """Total += term, in the ring; carries go from limb to limb."""
    carry: RingArray | None = None
    for limb in range(total.shape[1]):
        here = total[:, limb]
        np.add(here, term[:, limb], out=here)
        if total.shape[1] == 1:
            return
        over = here < term[:, limb]
        if carry is not None:
            np.add(here, carry, out=here)
            over |= here < carry
        carry = over.astype(np.uint64)


def negated(ring: RingArray) -> RingArray:
    """The element that makes zero with it."""
    one = np.zeros_like(ring)
    one[:, 0] = 1
    found = ~ring
    add_into(found, one)
    return found


def _refused(code: str, field: str, problem: str) -> Refused:
    return Refused(
        code,
        field=field,
        problem=problem,
        fix="Look for damaged features or a learning rate that is too high; exclude the case, or do without secure sums.",
    )
