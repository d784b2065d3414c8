"""hash_chain: lines of JSON that each hold the hash of the line before, so that a line changed, moved or removed shows.

Lines cut off the end do not show in the chain itself: whoever keeps one hash that was once the newest can tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["START", "Chain", "ChainFault", "open_chain", "seal_line"]

START = "0" * 64
"""What the first line has for the hash of the line before."""
SEAL = ', "hash": "{}"}}'
SEAL_BYTES = len(SEAL.format(START))


@dataclass(frozen=True)
class ChainFault:
    """The first line, from 1, that is not as it was written, and why."""

    line: int
    why: str


@dataclass(frozen=True)
class Chain:
    """lines: the contents before the first fault; whole: bytes up to the last newline; torn: bytes after it."""

    lines: tuple[dict[str, Any], ...]
    fault: ChainFault | None
    whole: int
    torn: bytes

    @property
    def newest(self) -> str:
        """The hash that the next line will hold."""
        return str(self.lines[-1]["hash"]) if self.lines else START


def seal_line(body: Mapping[str, Any], number: int, previous: str) -> tuple[bytes, str]:
    """The line with its number, the hash before it and, over all bytes before it, its own; and that hash."""
    text = json.dumps({"number": number, **body, "previous": previous})[:-1].encode()
    found = hashlib.sha256(text).hexdigest()
    return text + SEAL.format(found).encode() + b"\n", found


def open_chain(data: bytes) -> Chain:
    """Read lines that `seal_line` made, any bytes whatever; never raises."""
    whole = data.rfind(b"\n") + 1
    lines: list[dict[str, Any]] = []
    fault, previous = None, START
    for number, text in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        line, why = _read_line(text, number, previous)
        if line is None:
            fault = ChainFault(number, why)
            break
        lines.append(line)
        previous = str(line["hash"])
    return Chain(tuple(lines), fault, whole, data[whole:])


def _read_line(text: bytes, number: int, previous: str) -> tuple[dict[str, Any] | None, str]:
    body = text[:-SEAL_BYTES]
    if text[-SEAL_BYTES:] != SEAL.format(hashlib.sha256(body).hexdigest()).encode():
        return None, "it was changed: its hash does not fit"
    try:
        line = json.loads(text)
        if (line["number"], line["previous"]) == (number, previous):
            return line, ""
    except (ValueError, RecursionError, TypeError, KeyError):
        return None, "it cannot be read"
    return None, "the line before it is missing, or lines were moved"
