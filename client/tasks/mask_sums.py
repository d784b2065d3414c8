"""mask_sums: put a reply that adds up under this site's masks, where the study sums securely."""

from __future__ import annotations

from client.egress.rules import check_summand
from client.site import Site
from client.store.sum_sessions import SumSessions
from client.tasks.open_gate import rules_of
from common.errors import Refused
from common.messages.base import Reply, Request
from common.messages.masked import MaskedReply, to_blocks

__all__ = ["mask_sums"]

IN_THE_CLEAR = ("qualify", "advertise_keys", "share_keys", "unmask")
"""Who is there, and the sum's own messages."""


def mask_sums(reply: Reply, request: Request, site: Site) -> Reply:
    """The reply itself in a study in the clear, and where it is not about the cases' numbers.

    Refused `secure-sum-only` when a server asks in the clear for what the protocol sums securely, and
    `not-summed-securely` for a message that does not add up: it would tell one site's numbers.  The door sees noise
    afterwards, so its rules on what stands behind the numbers are asked here: errors as `check_summand`.
    """
    if not site.protocol.federation.secure_aggregation or request.action in IN_THE_CLEAR:
        return reply
    name = site.settings.name
    if not reply.sums:
        raise Refused(
            "not-summed-securely",
            site=name,
            field=request.action,
            problem="The protocol lets the server read sums only, and this message does not add up.",
            fix="Do without it, or agree on a protocol without federation.secure_aggregation.",
        )
    if request.masking is None:
        raise Refused(
            "secure-sum-only",
            site=name,
            field=request.action,
            problem="The protocol says that this is summed securely; the server asked in the clear.",
            fix="Ask with masking, or agree on a protocol without federation.secure_aggregation.",
        )
    check_summand(request.action, reply, rules_of(site))
    shapes, blocks = to_blocks(reply)
    sessions = SumSessions(site.settings.cache, name)
    sealed = {sender: shares[name] for sender, shares in request.masking.sealed.items() if name in shares}
    state, masked = sessions.load(request.masking.session).masked(sealed, list(blocks.values()))
    sessions.keep(state)
    return MaskedReply(site=name, session=state.session, shapes=shapes, blocks=dict(zip(blocks, masked, strict=True)))
