"""share_keys: check whose keys these are, and split this site's secrets among them."""

from __future__ import annotations

import secrets

from client.site import Site
from client.store.sum_sessions import SumSessions
from common.messages.share_keys import ShareKeysReply, ShareKeysRequest

__all__ = ["answer"]


def answer(request: ShareKeysRequest, site: Site) -> ShareKeysReply:
    """The identities are those of the site's own copy of the protocol."""
    sessions = SumSessions(site.settings.cache, site.settings.name)
    state, sealed = sessions.load(request.session).share(
        request.adverts,
        study=request.fingerprint,
        identities=site.protocol.federation.site_keys,
        draw=secrets.token_bytes,
    )
    sessions.keep(state)
    return ShareKeysReply(site=site.settings.name, sealed=sealed)
