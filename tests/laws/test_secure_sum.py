"""Secure sums: the sum and nothing else, whoever drops out and whatever the server says."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.errors import Refused
from common.privacy.fixed_point import COUNTS, NARROW, WEIGHTS, WIDE, FixedPoint, add_into, decode, encode, negated
from common.privacy.masks import Mask, add_masks, derive_key, public_half, shared_secret
from common.privacy.secure_sum import Advert, OpenedShares, SiteSession, begin, open_sum, threshold
from common.privacy.shamir import join_shares, split_secret
from common.privacy.signing import identity_of

STUDY, SESSION = "fingerprint", "a" * 32


def _draws(seed: int) -> Callable[[int], bytes]:
    """Bytes that look random and are the same every time; a hospital draws from its operating system."""
    count = itertools.count()
    return lambda size: hashlib.shake_256(f"{seed} {next(count)}".encode()).digest(size)


class Sites:
    """Hospitals that follow the protocol; the server's part is the test's."""

    def __init__(self, names: list[str], seed: int = 0, session: str = SESSION) -> None:
        self.names, self.session, self.draw = sorted(names), session, _draws(seed)
        self.identities = {name: self.draw(32) for name in self.names}
        self.known = {name: identity_of(private) for name, private in self.identities.items()}
        self.states = {name: begin(session, name, self.draw) for name in self.names}

    def advertise(self) -> dict[str, Advert]:
        """Step 1."""
        self.adverts = {name: state.advert(STUDY, self.identities[name]) for name, state in self.states.items()}
        return self.adverts

    def share(self, name: str, adverts: dict[str, Advert] | None = None) -> dict[str, str]:
        """Step 2."""
        self.states[name], sealed = self.states[name].share(
            adverts or self.adverts, study=STUDY, identities=self.known, draw=self.draw
        )
        return sealed

    def mask(self, name: str, sealed: dict[str, dict[str, str]], blocks: list) -> list:
        """Step 3."""
        mine = {sender: shares[name] for sender, shares in sealed.items() if sender != name}
        self.states[name], out = self.states[name].masked(mine, blocks)
        return out

    def unmask(self, name: str, survivors: list[str]) -> OpenedShares:
        """Step 4."""
        self.states[name], opened = self.states[name].unmask(survivors)
        return opened


def _masked(
    sites: Sites, values: dict[str, list], sharing: list[str] | None = None
) -> tuple[list[str], dict[str, list]]:
    """Steps 1 to 3 without a fault."""
    sites.advertise()
    partners = sharing or sites.names
    sealed = {name: sites.share(name) for name in partners}
    return partners, {name: sites.mask(name, sealed, [block.copy() for block in values[name]]) for name in partners}


def _whole(values: dict[str, list], names: list[str]) -> list:
    total = [block.copy() for block in values[names[0]]]
    for name in names[1:]:
        for mine, theirs in zip(total, values[name], strict=True):
            add_into(mine, theirs)
    return total


def _values(names: list[str], rng: np.random.Generator) -> dict[str, list]:
    """Counts, a wide sum and weights for every site."""
    return {
        name: [
            encode(rng.integers(0, 500, 7), COUNTS, field="n"),
            encode(rng.standard_normal(5) * 1e9, WIDE, field="x"),
            encode(rng.standard_normal(11), WEIGHTS, field="w"),
        ]
        for name in names
    }


# Arithmetic


@given(st.binary(min_size=32, max_size=32), st.integers(1, 20), st.data())
def test_any_threshold_of_shares_opens_and_fewer_do_not(secret, needed, data):
    shares = data.draw(st.integers(needed, 20))
    parts = dict(enumerate(split_secret(secret, shares, needed, _draws(1)), start=1))
    places = data.draw(st.permutations(sorted(parts)))

    assert secret == join_shares({place: parts[place] for place in places[:needed]})
    if needed > 1:
        with pytest.raises(ValueError, match="do not open"):
            join_shares({place: parts[place] for place in places[: needed - 1]})


@given(st.lists(st.lists(st.integers(-(2**52), 2**52), min_size=3, max_size=3), min_size=1, max_size=20))
def test_sums_of_counts_are_exact(sites):
    """Modulo 2^64, and no sum of 1,024 sites comes near it."""
    total = np.zeros((3, 1), np.uint64)
    for values in sites:
        add_into(total, encode(np.array(values), COUNTS, field="n"))

    assert [sum(column) for column in zip(*sites, strict=True)] == total[:, 0].view(np.int64).tolist()


@pytest.mark.parametrize("form", [WIDE, NARROW, WEIGHTS], ids=["wide", "narrow", "weights"])
@given(data=st.data())
def test_sums_of_reals_are_off_by_the_stated_error(form: FixedPoint, data):
    """Half a step for each site, and one rounding of the sum; reckoned with fractions, which never round."""
    number = st.floats(-form.range, form.range, exclude_min=True, exclude_max=True)
    sites = data.draw(st.lists(st.lists(number, min_size=4, max_size=4), min_size=1, max_size=8))
    total = np.zeros((4, form.limbs), np.uint64)
    for values in sites:
        add_into(total, encode(np.array(values), form, field="x"))

    found = decode(total, form)

    for column, value in zip(zip(*sites, strict=True), found, strict=True):
        exact = sum(map(Fraction, column))
        step = len(sites) * Fraction(form.largest_error) * 2  # multiplying by the step may round once more
        assert abs(Fraction(value) - exact) <= step + abs(exact) * Fraction(2) ** -51


@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=9))
def test_a_number_and_its_opposite_make_zero(values):
    ring = encode(np.array(values), WIDE, field="x")

    add_into(ring, negated(ring))

    assert not ring.any()


@pytest.mark.parametrize(
    ("value", "form", "code"),
    [
        (np.nan, WIDE, "sum-not-finite"),
        (-np.inf, WEIGHTS, "sum-not-finite"),
        (2.0**17, WEIGHTS, "sum-too-large"),
        (-(2.0**117), WIDE, "sum-too-large"),
        (2.0**53, COUNTS, "sum-too-large"),
        (0.5, COUNTS, "sum-not-whole"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_added(value, form, code):
    with pytest.raises(Refused, match=rf"{code} \[radiomics\]"):
        encode(np.array([1.0, value]), form, field="radiomics")


# The sum, with anybody lost


@settings(max_examples=60)
@given(st.integers(3, 20), st.integers(0, 2**32 - 1), st.data())
def test_the_server_gets_the_sum_of_those_left(count, seed, data):
    """Sites may vanish before sharing, before masking and before unmasking; below the threshold there is no sum."""
    names = [f"site {i:02}" for i in range(count)]
    rng, sites = np.random.default_rng(seed), Sites(names, seed)
    values, needed = _values(names, rng), threshold(count)
    lost = st.lists(st.sampled_from(names), max_size=count, unique=True)
    sharing = sorted(set(names) - set(data.draw(lost)))
    masking = sorted(set(sharing) - set(data.draw(lost)))
    opening = sorted(set(masking) - set(data.draw(lost)))

    sites.advertise()
    sealed = {name: sites.share(name) for name in sharing}
    if len(sharing) < max(3, needed):
        for name in masking:
            with pytest.raises(Refused, match="sum-too-few-sites"):
                sites.mask(name, sealed, [block.copy() for block in values[name]])
        return
    masked = {name: sites.mask(name, sealed, [block.copy() for block in values[name]]) for name in masking}
    if len(masking) < needed:
        for name in opening:
            with pytest.raises(Refused, match="sum-too-few-sites"):
                sites.unmask(name, masking)
        return
    opened = {name: sites.unmask(name, masking) for name in opening}
    expected = _whole(values, masking)
    if len(opening) < needed:
        with pytest.raises(Refused, match="sum-too-few-shares"):
            open_sum(masked, opened, sites.adverts, partners=sharing, session=SESSION)
        return

    total = open_sum(masked, opened, sites.adverts, partners=sharing, session=SESSION)

    for found, wanted in zip(total, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("count", [1, 2])
def test_two_sites_make_no_sum(count):
    """Each would read the other's."""
    sites = Sites([f"site {i}" for i in range(count)])
    sites.advertise()

    with pytest.raises(Refused, match="sum-too-few-sites"):
        sites.share("site 0")


def test_a_site_takes_part_in_no_sum_of_fewer_than_the_study_says():
    """A server that asks five at a time could take differences."""
    names = [f"site {i}" for i in range(5)]
    sites = Sites(names)
    sites.states = {name: begin(SESSION, name, sites.draw, fewest=6) for name in names}
    sites.advertise()

    with pytest.raises(Refused, match=r"sum-too-few-sites .* at least 6"):
        sites.share("site 0")


# A curious server


def _bits(blocks: list) -> np.ndarray:
    return np.concatenate([np.unpackbits(block.reshape(-1).view(np.uint8)) for block in blocks])


def test_what_the_server_sees_is_even_noise():
    """Of a value of zeros: every byte alike often (chi square), as many ones as zeros, nothing shared between sites."""
    names = [f"site {i}" for i in range(4)]
    nothing = {name: [np.zeros((60_000, 1), np.uint64), np.zeros((5_000, 4), np.uint64)] for name in names}
    _, masked = _masked(Sites(names), nothing)

    for name in names:
        count = np.bincount(np.concatenate([block.reshape(-1).view(np.uint8) for block in masked[name]]), minlength=256)
        mean = count.sum() / 256
        assert ((count - mean) ** 2 / mean).sum() < 255 + 5 * np.sqrt(2 * 255)
        bits = _bits(masked[name])
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    for one, two in itertools.combinations(names, 2):
        alike = np.mean(_bits(masked[one]) == _bits(masked[two]))
        assert abs(alike - 0.5) < 5 * 0.5 / np.sqrt(_bits(masked[one]).size)
    # The same value again, in the next session: nothing of the first noise comes back.
    _, again = _masked(Sites(names, seed=1, session="b" * 32), nothing)
    assert abs(np.mean(_bits(masked["site 0"]) == _bits(again["site 0"])) - 0.5) < 0.01


def test_small_and_large_values_cannot_be_told_apart():
    """The masked value is the value plus noise that does not depend on it."""
    names = [f"site {i}" for i in range(3)]
    rng = np.random.default_rng(2)
    low, high = _values(names, rng), _values(names, rng)
    _, one = _masked(Sites(names), low)
    _, two = _masked(Sites(names), high)

    for a, b, x, y in zip(one["site 1"], two["site 1"], low["site 1"], high["site 1"], strict=True):
        difference, wanted = a.copy(), x.copy()
        add_into(difference, negated(b))
        add_into(wanted, negated(y))
        np.testing.assert_array_equal(difference, wanted)


def test_a_site_said_to_be_lost_keeps_its_value():
    """The server has site 3's answer and says it dropped out: the others open its mask key, and with it all its
    pairwise masks come off.  The seed's mask stays on, so what is left is still noise (the reason for two masks).
    """
    names = [f"site {i}" for i in range(4)]
    nothing = {name: [np.zeros((40_000, 1), np.uint64)] for name in names}
    sites = Sites(names)
    _, masked = _masked(sites, nothing)
    honest = names[:3]

    opened = {name: sites.unmask(name, honest) for name in honest}
    places = {name: i for i, name in enumerate(names, start=1)}
    key = join_shares({places[name]: bytes.fromhex(opened[name].keys["site 3"]) for name in honest})
    assert public_half(key).hex() == sites.adverts["site 3"].mask  # the server really has it

    left = [block.copy() for block in masked["site 3"]]
    for other in honest:
        pair = derive_key(shared_secret(key, bytes.fromhex(sites.adverts[other].mask)), f"pair {SESSION}")
        add_masks(left, [Mask(pair, subtract="site 3" < other)])
    # All pairwise masks are off: with the seed, which only the hospital has, the value's zeros appear.
    check, seed = [block.copy() for block in left], bytes.fromhex(sites.states["site 3"].seed)
    add_masks(check, [Mask(derive_key(seed, f"seed {SESSION}"), subtract=True)])
    assert not check[0].any()
    ones = _bits(left).mean()
    assert abs(ones - 0.5) < 5 * 0.5 / np.sqrt(left[0].size * 64)
    assert all("site 3" not in shares.seeds for shares in opened.values())


@given(st.integers(3, 12), st.data())
def test_lies_about_who_is_lost_open_no_sum_of_few(count, data):
    """Told another list each, sites open one mask of each other and never both; what can be opened is one sum, over
    more than half of the sites and at least three.
    """
    names = [f"site {i:02}" for i in range(count)]
    sites, needed = Sites(names), threshold(count)
    _masked(sites, {name: [np.zeros((1, 1), np.uint64)] for name in names})
    seeds, keys = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    target = data.draw(st.sets(st.sampled_from(names), min_size=1))
    for name in names:
        others = data.draw(st.permutations([other for other in names if other != name]))
        told = sorted(others, key=lambda other: other not in target)[: needed - 1]
        opened = sites.unmask(name, sorted({name, *told}))
        assert not set(opened.seeds) & set(opened.keys)
        for site in opened.seeds:
            seeds[site] += 1
        for site in opened.keys:
            keys[site] += 1

    readable = [name for name in names if seeds[name] >= needed]
    both = [name for name in readable if keys[name] >= needed]
    unsettled = [name for name in names if seeds[name] < needed and keys[name] < needed]
    assert not both
    # A site neither of whose masks can be opened keeps the pairwise masks of everybody else on: then no sum at all.
    if not unsettled:
        assert len(readable) >= max(3, count / 2)


def test_a_second_answer_is_refused():
    """Two values under one mask are their difference in the clear."""
    names = [f"site {i}" for i in range(3)]
    sites = Sites(names)
    sites.advertise()
    sealed = {name: sites.share(name) for name in names}
    blocks = [np.ones((2, 1), np.uint64)]
    sites.mask("site 0", sealed, blocks)

    with pytest.raises(Refused, match="sum-step"):
        sites.mask("site 0", sealed, blocks)
    with pytest.raises(Refused, match="sum-step"):
        sites.share("site 0")
    sites.unmask("site 0", names)
    with pytest.raises(Refused, match="sum-step"):
        sites.unmask("site 0", names)
    assert ("", "", "", {}) == (
        sites.states["site 0"].box,
        sites.states["site 0"].mask,
        sites.states["site 0"].seed,
        sites.states["site 0"].held,
    )


@pytest.mark.parametrize(
    "survivors", [["site 1", "site 2", "site 3"], ["site 0", "site 1", "site 9"], ["site 0", "site 0", "site 1"]]
)
def test_lists_that_cannot_be_true_are_refused(survivors):
    names = [f"site {i}" for i in range(4)]
    sites = Sites(names)
    _masked(sites, {name: [np.ones((2, 1), np.uint64)] for name in names})

    with pytest.raises(Refused, match="sum-survivors"):
        sites.unmask("site 0", survivors)


# A man in the middle


def test_keys_that_the_server_made_up_are_refused():
    """It signs with an identity of its own, or takes a genuine signature of another session or study."""
    names = [f"site {i}" for i in range(3)]
    sites, forged = Sites(names), Sites(names, seed=5)
    sites.advertise()
    forged.advertise()
    elsewhere = (
        sites.states["site 1"].model_copy(update={"session": "b" * 32}).advert(STUDY, sites.identities["site 1"])
    )
    another_study = sites.states["site 1"].advert("another", sites.identities["site 1"])

    for foreign in (forged.adverts["site 1"], elsewhere, another_study):
        with pytest.raises(Refused, match=r"sum-keys-foreign \[site 1\]"):
            sites.share("site 0", {**sites.adverts, "site 1": foreign})
    with pytest.raises(Refused, match=r"sum-keys-foreign \[stranger\]"):
        sites.share("site 0", {**sites.adverts, "stranger": sites.adverts["site 1"]})
    own = sites.states["site 2"].advert(STUDY, sites.identities["site 2"])
    with pytest.raises(Refused, match="sum-keys-foreign"):
        sites.share("site 0", {**sites.adverts, "site 0": own})


@given(st.integers(0, 2 * (132 + 16) - 1), st.integers(1, 15))
def test_changed_shares_are_refused(place, change):
    names = [f"site {i}" for i in range(3)]
    sites = Sites(names)
    sites.advertise()
    sealed = {name: sites.share(name) for name in names}
    text = sealed["site 1"]["site 0"]
    assume(place < len(text))
    digit = f"{int(text[place], 16) ^ change:x}"
    sealed["site 1"]["site 0"] = text[:place] + digit + text[place + 1 :]

    with pytest.raises(Refused, match=r"sum-shares-foreign \[site 1\]"):
        sites.mask("site 0", sealed, [np.ones((1, 1), np.uint64)])


def test_a_share_that_a_site_made_up_is_found():
    names = [f"site {i}" for i in range(4)]
    sites = Sites(names)
    partners, masked = _masked(sites, {name: [np.ones((2, 1), np.uint64)] for name in names})
    opened = {name: sites.unmask(name, names) for name in names}
    opened["site 1"] = opened["site 1"].model_copy(update={"seeds": {**opened["site 1"].seeds, "site 0": "0" * 132}})

    with pytest.raises(Refused, match="sum-shares-wrong"):
        open_sum(masked, opened, sites.adverts, partners=partners, session=SESSION)


def test_a_state_comes_back_from_the_disk():
    names = [f"site {i}" for i in range(3)]
    sites = Sites(names)
    sites.advertise()
    sites.share("site 0")
    state = sites.states["site 0"]

    assert state == SiteSession.model_validate_json(state.model_dump_json())
