"""shamir: a secret in n shares, any t of which give it back and fewer tell nothing (Shamir 1979,
doi 10.1145/359168.359176).

Over the integers modulo the Mersenne prime 2^521 - 1, so that 32 bytes fit into one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["SECRET_BYTES", "SHARE_BYTES", "join_shares", "split_secret"]

PRIME = 2**521 - 1
SHARE_BYTES = 66
SECRET_BYTES = 32


def split_secret(secret: bytes, shares: int, needed: int, draw: Callable[[int], bytes]) -> tuple[bytes, ...]:
    """Shares number 1 to `shares`; draw: so many random bytes, fit for keys."""
    if len(secret) != SECRET_BYTES or not 1 <= needed <= shares:
        raise ValueError("a secret of 32 bytes, and between one share and all of them to open it")
    # 16 bytes more than the prime's, so that the remainder is even to 2^-128.
    rest = [int.from_bytes(draw(SHARE_BYTES + 16)) % PRIME for _ in range(needed - 1)]
    coefficients = [int.from_bytes(secret), *rest]
    return tuple(_value(coefficients, place).to_bytes(SHARE_BYTES) for place in range(1, shares + 1))


def join_shares(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from exactly as many shares as were needed, or more, by their numbers.

    ValueError where what comes out cannot be a secret: too few shares, or a wrong one, are found almost always.
    """
    places = {place: int.from_bytes(share) for place, share in shares.items()}
    secret = 0
    for place, value in places.items():
        above, below = 1, 1
        for other in places:
            if other != place:
                above = above * other % PRIME
                below = below * (other - place) % PRIME
        secret = (secret + value * above * pow(below, -1, PRIME)) % PRIME
    if secret >= 1 << (8 * SECRET_BYTES):
        raise ValueError("these shares do not open the secret")
    return secret.to_bytes(SECRET_BYTES)


def _value(coefficients: list[int], place: int) -> int:
    """Of the polynomial at a place, by Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % PRIME
    return value
