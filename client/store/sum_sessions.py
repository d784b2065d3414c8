"""sum_sessions: a site's secrets for the secure sum under way, between the messages that need them.

A Flower client is a new process for every message.  A step is written down as done before its answer leaves, so that
after a kill it is not answered twice; the sum then goes on without this site.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from client.disk import write_whole
from common.errors import Refused
from common.privacy.secure_sum import SiteSession

__all__ = ["SumSessions"]


class SumSessions:
    """One site's, in its cache."""

    def __init__(self, cache: Path, site: str) -> None:
        self._folder = cache / "sums" / site

    def begin(self, state: SiteSession) -> None:
        """Keep a new one; whatever was left of others is void."""
        if self._folder.exists():
            for old in self._folder.glob("*.json"):
                old.unlink(missing_ok=True)
        self.keep(state)

    def keep(self, state: SiteSession) -> None:
        """For this account's eyes only."""
        write_whole(self._path(state.session), state.model_dump_json().encode())

    def load(self, session: str) -> SiteSession:
        """Refused `sum-unknown` for one that this site has not begun, or not kept."""
        try:
            return SiteSession.model_validate_json(self._path(session).read_bytes())
        except (OSError, ValidationError):
            raise Refused(
                "sum-unknown",
                field="session",
                problem="The site has not begun this secure sum.",
                fix="Ask again: every sum begins with fresh keys.",
            ) from None

    def _path(self, session: str) -> Path:
        return self._folder / f"{session}.json"
