"""Folding replies while they arrive: the order of arrival changes no bit, and the sum is numpy's over the stack."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.messages.moments import MomentsReply
from common.messages.qualify import QualifyReply
from common.messages.quantiles import QuantilesReply
from server.fold import FoldedReplies
from server.phases.harmonise import Harmonise
from server.phases.select import Select


def moments_of(site, seed):
    rng = np.random.default_rng(seed)
    return MomentsReply(
        site=site,
        count=seed + 3,
        radiomics=rng.standard_normal(7) * 10.0 ** rng.integers(-8, 9, 7),
        visual=rng.random(5),
    )


def folded(phase, replies, order, *, missing=()):
    gathered = FoldedReplies(phase, [*replies, *missing])
    for site in order:
        gathered.add(site, replies[site])
    return gathered.finish()


@given(st.permutations(range(7)), st.integers(0, 2**16))
def test_the_order_of_arrival_changes_no_bit(order, seed):
    names = [f"site-{i}" for i in range(7)]
    replies = {name: moments_of(name, seed + i) for i, name in enumerate(names)}

    (total,) = folded(Harmonise(), replies, [names[i] for i in order], missing=["site-3a", "zurich"]).values()

    assert total.count == sum(r.count for r in replies.values())
    np.testing.assert_array_equal(total.radiomics, np.sum([replies[n].radiomics for n in names], axis=0))
    np.testing.assert_array_equal(total.visual, np.sum([replies[n].visual for n in names], axis=0))


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_counts_are_added_and_do_not_overflow(order):
    """A site sends the smallest type that holds its own counts."""
    replies = {s: QuantilesReply(site=s, counts=np.full((2, 1, 64), 60_000, np.uint16)) for s in "abc"}

    (total,) = folded(Select(), replies, order).values()

    assert np.all(total.counts == 180_000)


def test_only_those_whose_turn_it_is_are_let_go():
    """What waits is what has overtaken a site that is still out; a refusal opens the way."""
    replies = {s: moments_of(s, i) for i, s in enumerate("abcd")}
    gathered = FoldedReplies(Harmonise(), "abcd")
    held = []
    for site in "bdc":
        gathered.add(site, replies[site])
        held.append(len(gathered._held))
    gathered.refuse("a")
    held.append(len(gathered._held))

    assert held == [1, 2, 3, 1]
    assert gathered.sites == ("b", "c", "d")
    assert gathered.finish()["b"].count == sum(replies[s].count for s in "bcd")


def test_a_phase_that_wants_every_reply_gets_every_reply():
    replies = {
        s: QualifyReply(site=s, training_cases=(2, 3), test_cases=(1, 1), versions={}) for s in ("bern", "aachen")
    }

    found = folded(Harmonise(), replies, ["bern", "aachen"])

    assert list(found) == ["aachen", "bern"]
    assert found == replies
