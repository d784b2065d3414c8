"""open_budget: the site's privacy ledger, and the noise that belongs to one of its lines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from client.egress.budget import Booking, Budget, BudgetLimit, Spending
from client.site import Site
from client.store.secret import kept_secret
from common.config.privacy import RecordLevelSettings
from common.errors import InputError, Refused
from common.messages.base import Reply
from common.messages.harmoniser import Harmoniser
from common.messages.records import digest, to_records
from common.privacy.masks import derive_key
from common.privacy.noise import KEY_BYTES, NoiseStream, repeatable_key

__all__ = ["answered_privately", "limit_of", "noise_of", "open_budget"]

Answer = TypeVar("Answer", bound=Reply)


def answered_privately(
    site: Site,
    spending: Spending,
    harmoniser: Harmoniser,
    asked: RecordLevelSettings,
    answer: Callable[[NoiseStream], Answer],
    *,
    cases: int,
) -> Answer:
    """Spent before the noise is drawn, noted before the reply leaves; the same request again gives the same reply.

    Refused `privacy-harmonised` where features are wanted that other cases have moved, and `privacy-delta-too-large`.
    """
    if harmoniser.method != "none":
        raise Refused(
            "privacy-harmonised",
            site=site.settings.name,
            field="harmonisation.method",
            problem="Features harmonised by the site's own cases are wanted, so that clipping one case bounds nothing.",
            fix="Start from a model without harmonisation.",
        )
    if asked.delta * cases >= 1:
        raise Refused(
            "privacy-delta-too-large",
            site=site.settings.name,
            field="privacy.record_level.delta",
            problem="A delta of one over the number of training cases would allow to publish a case as it is.",
            fix="Agree on a smaller delta, or leave the site out.",
        )
    budget = open_budget(site, lambda: datetime.now(UTC))
    booking: Booking | None = budget.book(spending)
    while booking is not None:
        reply = answer(noise_of(booking, site))
        booking = budget.settle(booking, digest(to_records(reply)))
    return reply


def open_budget(site: Site, clock: Callable[[], datetime]) -> Budget:
    """Several sites of a simulation share a cache; each has a ledger of its own."""
    return Budget(site.settings.cache / "budget" / f"{site.settings.name}.jsonl", clock, limit_of(site))


def limit_of(site: Site) -> BudgetLimit:
    """The strictest of site and protocol."""
    own, privacy = site.settings.budget, site.protocol.privacy
    deltas = [own.delta] + ([privacy.record_level.delta] if privacy.record_level is not None else [])
    return BudgetLimit(min(own.epsilon, privacy.epsilon_limit or own.epsilon), min(deltas))


def noise_of(booking: Booking, site: Site) -> NoiseStream:
    """The same for the same booking; nobody outside the site can make it, unless site.yaml says `repeatable`."""
    settings, spending = site.settings, booking.spending
    if settings.budget.noise == "repeatable":
        return NoiseStream(repeatable_key(site.protocol.seed, spending.action, settings.name, spending.round))
    secret = kept_secret(settings.cache / "budget" / f"{settings.name}.secret")
    if len(secret) != KEY_BYTES:
        raise InputError(
            "noise-secret-invalid",
            site=settings.name,
            field="cache",
            problem="The secret that the site's noise comes from is damaged.",
            fix="Delete the site's .secret file under budget in its cache; a new one is drawn.",
        )
    return NoiseStream(derive_key(secret, f"privacy noise {booking.stream}"))
