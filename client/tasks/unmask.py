"""unmask: open this site's shares, of each site one kind only; the secrets are gone afterwards."""

from __future__ import annotations

from client.site import Site
from client.store.sum_sessions import SumSessions
from common.messages.unmask import UnmaskReply, UnmaskRequest

__all__ = ["answer"]


def answer(request: UnmaskRequest, site: Site) -> UnmaskReply:
    """Once for each sum."""
    sessions = SumSessions(site.settings.cache, site.settings.name)
    state, opened = sessions.load(request.session).unmask(request.survivors)
    sessions.keep(state)
    return UnmaskReply(site=site.settings.name, opened=opened)
