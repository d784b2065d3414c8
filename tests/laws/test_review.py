"""The review's laws: no way round the reader, and the log is the whole truth."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.review.events import (
    Accepted,
    Done,
    Drafted,
    Event,
    Invalidated,
    Opened,
    PutBack,
    Rejected,
    Released,
    Reopened,
    SentBack,
)
from client.review.log import ReviewLog
from client.review.queue import ReviewQueue, draw_second_readers
from client.review.states import FROM, advance
from common.errors import InputError, StudyError

READERS = st.sampled_from(["R1", "R2", "R3"])
PRINTS = st.sampled_from(["a" * 64, "b" * 64, "c" * 64])


def drafted(**changes: object) -> Drafted:
    values: dict[str, object] = {"preparation": "p", "brain": "a" * 64, "automatic": "b" * 64}
    return Drafted.model_validate(values | {"volume_ml": 20.0, "components": 1} | changes)


def done(reader: str, mask: str = "c" * 64) -> Done:
    return Done(
        reader=reader,
        edit="minor",
        minutes=5,
        mask=mask,
        dice=0.9,
        hd95_mm=2.0,
        volume_ml=21,
        volume_change_ml=1,
        added_voxels=1,
        removed_voxels=0,
    )


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.booleans().map(lambda twice: drafted(second_reader=twice)),
    st.just(Released()),
    READERS.map(lambda r: Opened(reader=r)),
    st.just(PutBack()),
    st.builds(done, READERS, PRINTS),
    READERS.map(lambda r: SentBack(by=r, reason="edge")),
    st.builds(Accepted, by=READERS, reading=st.sampled_from([1, 2])),
    READERS.map(lambda r: Rejected(by=r, reason="artefact")),
    READERS.map(lambda r: Reopened(by=r, reason="doubt")),
    st.just(Invalidated(reason="brain")),
)
# Mostly sensible walks: unguided events are refused too often to reach the deep states.
SENSIBLE = [drafted(), Released(), Opened(reader="R1"), done("R1"), Accepted(by="R1")]
TWICE = [
    drafted(second_reader=True),
    Released(),
    Opened(reader="R1"),
    done("R1"),
    Opened(reader="R2"),
    done("R2", "a" * 64),
    Accepted(by="R3", reading=2),
]
WALKS = st.tuples(st.sampled_from([SENSIBLE, TWICE]), st.integers(0, 7), st.lists(EVENTS, max_size=12)).map(
    lambda t: [*t[0][: t[1]], *t[2]]
)


def clock():
    ticks = count()
    return lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(ticks))


@given(WALKS)
def test_only_a_read_mask_is_ever_accepted(walk):
    """Whatever is tried in whatever order: an accepted mask was drawn by a reader, by two where two were drawn."""
    case = None
    for event in walk:
        before = case
        try:
            case = advance(case, event, pseudonym="p")
        except InputError:
            assert case is before
            continue
        assert (before.state if before else None) in FROM[event.kind]
        assert bool(case.accepted_mask) == (case.state == "accepted")
        if case.state == "accepted":
            assert case.accepted_mask in {r.mask for r in case.readings}
            assert len({r.reader for r in case.readings}) == (2 if case.material.second_reader else 1)
        if case.state in ("draft", "needs_review", "in_review"):
            assert case.readings == ()


@given(WALKS)
def test_the_log_alone_rebuilds_the_queue(walk):
    """A second process that reads the file sees what the first one sees; refused events leave no line."""
    with TemporaryDirectory() as folder:
        queue = ReviewQueue(Path(folder), clock())
        written = 0
        for event in walk:
            try:
                live = queue.record("p", event)
            except InputError:
                assert written == len(queue.history())
                continue
            written += 1
            assert live == ReviewQueue(Path(folder), clock()).cases()["p"]


@given(st.data())
def test_a_changed_log_is_noticed(data):
    """Any line altered, dropped, doubled or moved, and any number cut off the end."""
    with TemporaryDirectory() as folder:
        queue = ReviewQueue(Path(folder), clock())
        for event in TWICE:
            queue.record("p", event)
        path = Path(folder) / "log.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        place = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["alter", "drop", "double", "swap", "cut"]))
        if kind == "alter":
            body = json.loads(lines[place])
            body["case"] = "q"
            lines[place] = json.dumps(body).encode() + b"\n"
        elif kind == "drop":
            del lines[place]
        elif kind == "double":
            lines.insert(place, lines[place])
        elif kind == "swap":
            other = (place + 1) % len(lines)
            lines[place], lines[other] = lines[other], lines[place]
        else:
            del lines[place:]
        path.write_bytes(b"".join(lines))

        with pytest.raises(StudyError, match="review-log-broken"):
            queue.history()


@given(st.integers(1, 200))
def test_half_a_line_never_counts(kept):
    """Killed while writing: the event did not happen, and the next one is written as if it never had."""
    with TemporaryDirectory() as folder:
        queue = ReviewQueue(Path(folder), clock())
        queue.record("p", drafted(), Released())
        before, path = queue.cases(), Path(folder) / "log.jsonl"
        head = (Path(folder) / "log.head").read_text()
        whole = path.read_bytes()
        queue.record("p", Opened(reader="R1"))
        torn = path.read_bytes()[len(whole) :][:kept].rstrip(b"\n")
        path.write_bytes(whole + torn)
        (Path(folder) / "log.head").write_text(head)

        assert before == queue.cases()
        assert queue.record("p", Opened(reader="R2")).reader == "R2"
        assert len(ReviewLog(Path(folder), clock()).read()) == 3


@given(st.sets(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=40), st.floats(0, 1))
def test_the_second_readers_share_is_kept_and_drawn_by_lot(names, fraction):
    """At least the share, at most one case more, the same for any order of the manifest."""
    lots = {name: hash((name, 1)) % 997 / 997 for name in names}

    chosen = draw_second_readers(sorted(names), fraction, lots.__getitem__)

    assert fraction * len(names) - 1e-6 <= len(chosen) <= fraction * len(names) + 1
    assert chosen == draw_second_readers(sorted(names, reverse=True), fraction, lots.__getitem__)
