"""fold: the replies of one exchange, added up in the order of the sites' names while they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from common.messages.base import Reply
from server.phases.base import Phase

__all__ = ["FoldedReplies"]


class FoldedReplies:
    """Replies by site; where the phase folds, the first site's holds the sum and those folded into it are let go.

    A reply waits until all sites before it have answered or been refused, so the order of arrival changes no bit.
    """

    def __init__(self, phase: Phase, asked: Iterable[str]) -> None:
        self._phase = phase
        self._waiting = deque(sorted(asked))
        self._held: dict[str, Reply] = {}
        self._sites: set[str] = set()
        self._refused: set[str] = set()
        self._first = ""

    @property
    def sites(self) -> tuple[str, ...]:
        """Who contributed, by name."""
        return tuple(sorted(self._sites))

    def add(self, site: str, reply: Reply) -> None:
        """File a reply."""
        self._held[site] = reply
        self._sites.add(site)
        self._fold(all_in=False)

    def refuse(self, site: str) -> None:
        """Forget the site.  What was folded stays in the sum; the driver begins a phase of fixed roster again."""
        self._held.pop(site, None)
        self._sites.discard(site)
        self._refused.add(site)
        self._fold(all_in=False)

    def finish(self) -> dict[str, Reply]:
        """No more will come: what there is, by name."""
        self._fold(all_in=True)
        return dict(sorted(self._held.items()))

    def _fold(self, *, all_in: bool) -> None:
        while self._waiting and (all_in or self._waiting[0] in self._sites | self._refused):
            site = self._waiting.popleft()
            if site not in self._held:
                continue
            if self._first not in self._held:
                self._first = site
                continue
            total = self._phase.fold(self._held[self._first], self._held[site])
            if total is not None:
                self._held[self._first] = total
                del self._held[site]
