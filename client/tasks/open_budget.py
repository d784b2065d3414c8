"""open_budget: the site's privacy ledger, and the noise that belongs to one of its lines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from client.egress.budget import Booking, Budget, BudgetLimit
from client.site import Site
from client.store.secret import kept_secret
from common.errors import InputError
from common.privacy.masks import derive_key
from common.privacy.noise import KEY_BYTES, NoiseStream, repeatable_key

__all__ = ["limit_of", "noise_of", "open_budget"]


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
        return NoiseStream(repeatable_key(site.protocol.seed, settings.name, spending.round))
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
