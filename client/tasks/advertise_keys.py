"""advertise_keys: draw fresh keys for one secure sum and sign their public halves."""

from __future__ import annotations

import secrets

from client.site import Site
from client.store.identity import site_identity
from client.store.sum_sessions import SumSessions
from common.errors import Refused
from common.messages.advertise_keys import AdvertiseKeysReply, AdvertiseKeysRequest
from common.privacy.secure_sum import begin
from common.privacy.signing import identity_of

__all__ = ["answer"]


def answer(request: AdvertiseKeysRequest, site: Site) -> AdvertiseKeysReply:
    """Refused `identity-unknown` where the protocol does not name this site's key."""
    name, cache = site.settings.name, site.settings.cache
    identity = site_identity(cache, name)
    if site.protocol.federation.site_keys.get(name) != identity_of(identity):
        raise Refused(
            "identity-unknown",
            site=name,
            field="federation.site_keys",
            problem="The protocol does not name this site's identity.",
            fix="Put what `fedmidline-site identity` prints into the study's protocol.",
        )
    state = begin(request.session, name, secrets.token_bytes, fewest=site.protocol.federation.min_sites)
    SumSessions(cache, name).begin(state)
    return AdvertiseKeysReply(site=name, advert=state.advert(request.fingerprint, identity))
