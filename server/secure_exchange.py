"""secure_exchange: one question to all sites, of whose answers the server reads the sum (common/privacy/secure_sum.py).

Four exchanges instead of one: keys, shares, masked answers, shares opened.  A site lost in one of them is named; the
sum is of those whose masked answers came.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from common.errors import StudyError
from common.messages.advertise_keys import AdvertiseKeysReply, AdvertiseKeysRequest
from common.messages.base import Reply, Request
from common.messages.masked import MaskedReply, from_total
from common.messages.masking import Masking
from common.messages.share_keys import ShareKeysReply, ShareKeysRequest
from common.messages.unmask import UnmaskReply, UnmaskRequest
from common.privacy.secure_sum import FEWEST_SITES, open_sum, threshold
from server.state import ALL_SITES

__all__ = ["Answered", "secure_exchange"]


class Answered(Protocol):
    """What came back from one exchange; by site."""

    replies: dict[str, Any]
    roster: dict[str, Any]
    codes: dict[str, str]
    bytes_down: dict[str, int]
    bytes_up: dict[str, int]


Found = TypeVar("Found", bound=Answered)


def secure_exchange(
    ask: Callable[[Request, Sequence[str]], Found], request: Request, sites: Sequence[str], kind: type[Reply]
) -> tuple[Found, Reply | None]:
    """What came back, and the summed reply; without enough sites no reply, and nobody among the replies."""
    session, print_of = secrets.token_hex(16), request.fingerprint
    first = ask(AdvertiseKeysRequest(fingerprint=print_of, session=session), sites)
    adverts = {s: r.advert for s, r in first.replies.items() if isinstance(r, AdvertiseKeysReply)}
    if len(adverts) < FEWEST_SITES:
        return _without_sum([first]), None
    second = ask(ShareKeysRequest(fingerprint=print_of, session=session, adverts=adverts), sorted(adverts))
    sealed = {s: r.sealed for s, r in second.replies.items() if isinstance(r, ShareKeysReply)}
    if len(sealed) < threshold(len(adverts)):
        return _without_sum([first, second]), None
    masking = Masking(session=session, sealed=sealed)
    third = ask(request.model_copy(update={"masking": masking}), sorted(sealed))
    masked = _alike(third, session, kind)
    if len(masked) < threshold(len(adverts)):
        return _without_sum([first, second, third]), None
    survivors = tuple(sorted(masked))
    fourth = ask(UnmaskRequest(fingerprint=print_of, session=session, survivors=survivors), survivors)
    opened = {s: r.opened for s, r in fourth.replies.items() if isinstance(r, UnmaskReply)}
    shapes, names = masked[survivors[0]].shapes, list(masked[survivors[0]].blocks)
    blocks = {site: [reply.blocks[name] for name in sorted(names)] for site, reply in masked.items()}
    stages = [first, second, fourth, third]
    try:
        total = open_sum(blocks, opened, adverts, partners=sorted(sealed), session=session)
        reply = from_total(kind, ALL_SITES, shapes, dict(zip(sorted(names), total, strict=True)), request)
    except StudyError as error:
        return _without_sum(stages, error.code), None
    third.replies = masked
    return _together(stages), reply


def _alike(answers: Answered, session: str, kind: type[Reply]) -> dict[str, MaskedReply]:
    """Masked answers of this session and of the commonest shape; the others are named and count as lost."""
    found = {s: r for s, r in answers.replies.items() if isinstance(r, MaskedReply) and _fits(r, session, kind)}
    forms = {site: tuple(sorted(reply.shapes.items())) for site, reply in found.items()}
    usual = Counter(forms.values()).most_common(1)
    alike = {site: reply for site, reply in found.items() if forms[site] == usual[0][0]}
    for site in set(answers.replies) - set(alike):
        answers.roster[site], answers.codes[site] = "refused", "sum-shape"
    return alike


def _fits(reply: MaskedReply, session: str, kind: type[Reply]) -> bool:
    """Whether its blocks are what they are said to be, and the reply's numbers."""
    if reply.session != session or set(reply.blocks) != set(reply.shapes):
        return False
    if {name.partition(":")[0] for name in reply.shapes} != set(kind.sums):
        return False
    return all(
        block.dtype == np.uint64 and block.shape == (math.prod(reply.shapes[name]), kind.form_of(name).limbs)
        for name, block in reply.blocks.items()
    )


def _without_sum(stages: Sequence[Found], code: str = "sum-too-few-sites") -> Found:
    """Everybody who answered did so in vain."""
    found = _together(stages)
    for site in found.replies:
        found.roster[site], found.codes[site] = "not_asked", code
    found.replies = {}
    return found


def _together(stages: Sequence[Found]) -> Found:
    """The last stage, with the bytes of all, and with those named who were lost on the way."""
    last = stages[-1]
    for stage in stages[:-1]:
        for site, status in stage.roster.items():
            if status != "contributed" and last.roster.get(site, "not_asked") == "not_asked":
                last.roster[site] = status
                if site in stage.codes:
                    last.codes[site] = stage.codes[site]
        for book, more in ((last.bytes_down, stage.bytes_down), (last.bytes_up, stage.bytes_up)):
            for site, size in more.items():
                book[site] = book.get(site, 0) + size
    return last
