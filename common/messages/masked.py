"""masked: what a site sends instead of a reply that adds up: the same numbers under two masks.

Leaves the site: numbers that look random to everyone; only the sum over all sites can be opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.messages.base import Arrays, Reply, Request
from common.messages.masking import Session
from common.privacy.disclosure import Disclosure
from common.privacy.fixed_point import RingArray, decode, encode

__all__ = ["MaskedReply", "from_total", "to_blocks"]


class MaskedReply(Reply):
    """shapes: of the numbers, by name; blocks: (numbers, limbs), uint64, by the same names."""

    session: Session
    shapes: dict[str, tuple[int, ...]]
    blocks: Arrays

    def discloses(self) -> Disclosure:
        """Nothing, one by one: its cases were counted before (client/tasks/mask_sums.py), the sum is the consortium's."""
        return Disclosure()


def to_blocks(reply: Reply) -> tuple[dict[str, tuple[int, ...]], dict[str, RingArray]]:
    """The numbers of a reply that adds up, in the order of their names; errors as fixed_point.encode."""
    found = dict(sorted(reply.summands().items()))
    numbers = {name: np.asarray(values) for name, (values, _) in found.items()}
    blocks = {
        name: encode(numbers[name], reply.form_of(name), field=name, factor=factor)
        for name, (_, factor) in found.items()
    }
    return {name: values.shape for name, values in numbers.items()}, blocks


def from_total(
    kind: type[Reply],
    site: str,
    shapes: Mapping[str, tuple[int, ...]],
    blocks: Mapping[str, RingArray],
    request: Request,
) -> Reply:
    """The reply that one site with all cases would have sent, up to the stated error."""
    totals: dict[str, np.ndarray[Any, Any]] = {}
    for name, shape in shapes.items():
        form = kind.form_of(name)
        total = decode(blocks[name], form).reshape(shape)
        totals[name] = total if form.fraction_bits else total.astype(np.int64)
    return kind.of_sums(site, totals, request)
