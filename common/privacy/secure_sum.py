"""secure_sum: a sum over sites of which the server reads the sum and nothing else (Bonawitz et al. 2017,
doi 10.1145/3133956.3133982, protocol of figure 4 with signed keys).

    1 advertise   each site draws two X25519 keys and a seed, and signs the public halves      server -> all: keys
    2 share       each checks the signatures against the identities in the protocol, splits
                  its mask key and its seed, one encrypted share for each other site           server -> all: shares
    3 mask        each sends value + stream(seed) +- stream(key shared with each other site)   server: sums
    4 unmask      for a site that answered 3: shares of its seed; for one that did not: of its mask key, never both

Two masks, because one does not do: a server that says "site k has dropped out" gets the key that takes off k's
pairwise masks, and if k's value came after all it would read it.  The second mask stays on.

What holds: with n sites and t = floor(2n/3) + 1 needed, at least 3 of them in the sum.  Fewer than t sites left: no
sum, and nothing learned.  A server that lies about who dropped out, differently to different sites, is not asked to
agree on it with a further exchange (the paper's consistency check); each site opens one of the two masks of each
other, once, for at least t survivors, and counting shows that whatever the server says, what it can open is one sum
over more than n/2 sites.  Not defended: a server that colludes with 2t - n sites or more, and what the sum itself
tells.

Nothing here knows files, clock or network: a state goes in, the next comes out, and the caller keeps it.  A state is
used once for each step; a second answer to the same step is refused, since two values under one mask are a difference
in the clear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field

from common.errors import Refused
from common.privacy.fixed_point import RingArray, add_into
from common.privacy.masks import Mask, add_masks, derive_key, public_half, shared_secret
from common.privacy.shamir import SHARE_BYTES, join_shares, split_secret
from common.privacy.signing import sign, verifies

__all__ = ["FEWEST_SITES", "Advert", "OpenedShares", "SiteSession", "begin", "open_sum", "threshold"]

FEWEST_SITES = 3
Draw = Callable[[int], bytes]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HexShare = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * SHARE_BYTES}}}$")]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Advert(_Value):
    """Public halves of one site for one session, signed by its identity; hexadecimal."""

    box: Hex32
    mask: Hex32
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class OpenedShares(_Value):
    """What one site opens: shares of seeds of those in the sum, of mask keys of those that dropped out; hexadecimal."""

    seeds: dict[str, HexShare]
    keys: dict[str, HexShare]


def threshold(sites: int) -> int:
    """How many must be left at the end."""
    return 2 * sites // 3 + 1


class SiteSession(_Value):
    """A site's secrets for one sum; kept by the hospital between the four steps, and by nobody else.

    fewest: sites in any sum that this one takes part in.  done: the last step answered.  held: of each other site, the shares (of its seed and of its mask key) sent to this
    one.
    """

    session: str
    site: str
    fewest: int
    done: Literal["advertise", "share", "mask", "unmask"] = "advertise"
    box: str
    mask: str
    seed: str
    adverts: dict[str, Advert] = {}
    partners: tuple[str, ...] = ()
    held: dict[str, tuple[str, str]] = {}

    def advert(self, study: str, identity: bytes) -> Advert:
        """Step 1; study: fingerprint of the protocol."""
        box, mask = (public_half(bytes.fromhex(key)).hex() for key in (self.box, self.mask))
        signature = sign(identity, _words(study, self.session, self.site, box, mask))
        return Advert(box=box, mask=mask, signature=signature.hex())

    def share(
        self, adverts: Mapping[str, Advert], *, study: str, identities: Mapping[str, str], draw: Draw
    ) -> tuple[Self, dict[str, str]]:
        """Step 2: the next state, and for every other site its encrypted shares.

        Refused `sum-step`, `sum-too-few-sites`, `sum-keys-foreign` where a key is not signed by the site it is said
        to be of.
        """
        self._require("advertise")
        _require_enough(adverts, self.fewest)
        for site, advert in adverts.items():
            words = _words(study, self.session, site, advert.box, advert.mask)
            if not verifies(identities.get(site, ""), words, bytes.fromhex(advert.signature)):
                raise _refused("sum-keys-foreign", site, "A key is not signed by the site it is said to be of.")
        own = adverts.get(self.site)
        if own is None or public_half(bytes.fromhex(self.mask)).hex() != own.mask:
            raise _refused("sum-keys-foreign", self.site, "This site's own key is missing or another.")
        names, needed = sorted(adverts), threshold(len(adverts))
        seeds = split_secret(bytes.fromhex(self.seed), len(names), needed, draw)
        keys = split_secret(bytes.fromhex(self.mask), len(names), needed, draw)
        state = self.model_copy(update={"done": "share", "adverts": dict(adverts)})
        sealed, held = {}, {}
        for name, seed, key in zip(names, seeds, keys, strict=True):
            if name == self.site:
                held[name] = (seed.hex(), key.hex())
            else:
                sealed[name] = _box(state, self.site, name).encrypt(bytes(12), seed + key, None).hex()
        return state.model_copy(update={"held": held}), sealed

    def masked(self, sealed: Mapping[str, str], blocks: list[RingArray]) -> tuple[Self, list[RingArray]]:
        """Step 3: the next state, and the numbers under both masks; `blocks` are used up.

        sealed: by sender, what each other site encrypted for this one; its senders and this site are the partners.
        Refused `sum-step`, `sum-too-few-sites`, `sum-shares-foreign`.
        """
        self._require("share")
        partners = tuple(sorted({*sealed, self.site}))
        _require_enough(partners, max(self.fewest, threshold(len(self.adverts))))
        held = {**self.held, **{site: self._opened(site, text) for site, text in sealed.items()}}
        state = self.model_copy(update={"done": "mask", "partners": partners, "held": held})
        pairs = [
            Mask(_pair_key(self.mask, self.adverts[other].mask, self.session), subtract=self.site > other)
            for other in partners
            if other != self.site
        ]
        add_masks(blocks, [Mask(_seed_key(bytes.fromhex(self.seed), self.session)), *pairs])
        return state, blocks

    def unmask(self, survivors: Sequence[str]) -> tuple[Self, OpenedShares]:
        """Step 4: the last state, which holds no secret, and the shares.

        Refused `sum-step`, `sum-too-few-sites`, and `sum-survivors` for a list that cannot be true.
        """
        self._require("mask")
        alive = set(survivors)
        if self.site not in alive or not alive <= set(self.partners) or len(alive) != len(survivors):
            raise _refused("sum-survivors", "survivors", "The list of sites in the sum cannot be true.")
        _require_enough(survivors, max(self.fewest, threshold(len(self.adverts))))
        opened = OpenedShares(
            seeds={site: self.held[site][0] for site in self.partners if site in alive},
            keys={site: self.held[site][1] for site in self.partners if site not in alive},
        )
        return self.model_copy(update={"done": "unmask", "box": "", "mask": "", "seed": "", "held": {}}), opened

    def _require(self, before: str) -> None:
        if self.done != before:
            raise _refused("sum-step", "session", "This step of the sum was answered before, or comes too early.")

    def _opened(self, sender: str, text: str) -> tuple[str, str]:
        try:
            both = _box(self, sender, self.site).decrypt(bytes(12), bytes.fromhex(text), None)
        except (InvalidTag, ValueError):
            raise _refused("sum-shares-foreign", sender, "Shares were changed on their way.") from None
        return both[:SHARE_BYTES].hex(), both[SHARE_BYTES:].hex()


def _box(state: SiteSession, sender: str, receiver: str) -> AESGCM:
    """For one direction between two sites; each key encrypts one message, so the nonce may be zero."""
    other = receiver if sender == state.site else sender
    if other not in state.adverts:
        raise _refused("sum-shares-foreign", other, "Shares of a site that advertised no key.")
    secret = shared_secret(bytes.fromhex(state.box), bytes.fromhex(state.adverts[other].box))
    return AESGCM(derive_key(secret, f"shares {state.session} {sender} {receiver}"))


def begin(session: str, site: str, draw: Draw, *, fewest: int = FEWEST_SITES) -> SiteSession:
    """Fresh secrets; draw: so many random bytes, fit for keys; fewest: the study's own, if it is more than 3."""
    box, mask, seed = (draw(32).hex() for _ in range(3))
    return SiteSession(session=session, site=site, fewest=max(fewest, FEWEST_SITES), box=box, mask=mask, seed=seed)


def open_sum(
    masked: Mapping[str, list[RingArray]],
    opened: Mapping[str, OpenedShares],
    adverts: Mapping[str, Advert],
    *,
    partners: Sequence[str],
    session: str,
) -> list[RingArray]:
    """Runs on the server: the sum of the sites in `masked`.

    partners: the sites that sent shares in step 2.  The first sites' blocks are used up: they become the sum.
    Refused `sum-too-few-shares` where fewer than the threshold opened, `sum-shares-wrong` where they do not fit.
    """
    needed, places = threshold(len(adverts)), {site: i for i, site in enumerate(sorted(adverts), start=1)}
    if len(opened) < needed:
        raise _refused("sum-too-few-shares", "unmask", f"{len(opened)} of at least {needed} sites opened their shares.")
    chosen = sorted(opened)[:needed]
    sites = sorted(masked)
    total = masked[sites[0]]
    for site in sites[1:]:
        for mine, theirs in zip(total, masked[site], strict=True):
            add_into(mine, theirs)
    masks = []
    try:
        for site in sites:
            seed = join_shares({places[name]: bytes.fromhex(opened[name].seeds[site]) for name in chosen})
            masks.append(Mask(_seed_key(seed, session), subtract=True))
        for lost in sorted(set(partners) - set(sites)):
            key = join_shares({places[name]: bytes.fromhex(opened[name].keys[lost]) for name in chosen})
            _require_same(public_half(key).hex(), adverts[lost].mask)
            # What each survivor did with this stream is undone: it subtracted where its name comes later.
            masks += [Mask(_pair_key(key.hex(), adverts[site].mask, session), subtract=site < lost) for site in sites]
    except (ValueError, KeyError):
        raise _refused("sum-shares-wrong", "unmask", "The shares that were opened do not fit together.") from None
    add_masks(total, masks)
    return total


def _seed_key(seed: bytes, session: str) -> bytes:
    return derive_key(seed, f"seed {session}")


def _require_same(found: str, wanted: str) -> None:
    if found != wanted:
        raise ValueError("another key")


def _pair_key(private: str, public: str, session: str) -> bytes:
    return derive_key(shared_secret(bytes.fromhex(private), bytes.fromhex(public)), f"pair {session}")


def _words(study: str, session: str, site: str, box: str, mask: str) -> bytes:
    return "\n".join(("fedmidline keys 1", study, session, site, box, mask)).encode()


def _require_enough(sites: Sequence[str] | Mapping[str, Advert], fewest: int) -> None:
    if len(sites) < fewest:
        raise _refused("sum-too-few-sites", "roster", f"A secure sum here needs at least {fewest} sites.")


def _refused(code: str, field: str, problem: str) -> Refused:
    return Refused(code, field=field, problem=problem, fix="Ask again: every sum begins with fresh keys.")
