"""disclosure: what a reply tells about cases, said by the reply itself in a form that the door can check.

The docstring of a message says what leaves in words; this says it in numbers.  A reply that says nothing does not
leave (client/egress/rules.py), so that a new message cannot slip past the door.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Disclosure"]

Numbers = np.ndarray[Any, Any] | int


@dataclass(frozen=True)
class Disclosure:
    """cases: how many cases stand behind each sum, by the field's name; none or enough.
    counts: tables of counts that are added up over sites, so that no cell can be withheld: all are large enough, or
    the reply stays.  told: fields of counts that are only read: small ones become None, others are rounded.
    by_label: whether counts by H3 status can be read from it.
    """

    cases: Mapping[str, Numbers] = field(default_factory=dict)
    counts: Mapping[str, Numbers] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    by_label: bool = False
