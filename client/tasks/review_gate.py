"""review_gate: between the automatic mask and the features, where the protocol wants a reader's mask."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from client.case import Case, CaseRow
from client.review.check_mask import describe_mask
from client.review.events import Drafted, Invalidated
from client.review.queue import Lot, ReviewQueue, draw_second_readers
from client.review.reader_files import ReaderFiles
from client.review.states import ReviewCase
from client.site import Site
from client.store.prepared_store import PreparedStore
from common.seeds import stream

__all__ = ["drop_if_changed", "material_of", "reader_files", "review_lot", "second_readers"]


def review_lot(site: Site, purpose: str) -> Lot:
    """Every pseudonym's own number in [0, 1)."""
    return lambda pseudonym: float(stream(site.protocol.seed, site.settings.name, purpose, pseudonym).random())


def second_readers(rows: Sequence[CaseRow], site: Site) -> frozenset[str]:
    """Who of the eligible cases is read twice."""
    eligible = [row.pseudonym for row in rows if not row.excluded_because]
    return draw_second_readers(
        eligible, site.protocol.segmentation.second_reader_fraction, review_lot(site, "second-reader")
    )


def reader_files(site: Site, preparation: str) -> ReaderFiles:
    """Where a reader's four images lie."""
    store = PreparedStore(site.settings.cache)
    t1ce, flair, brain, automatic = (
        store.path(preparation, name) for name in ("t1ce", "flair", "brain_mask", "tumour_mask")
    )
    return ReaderFiles(t1ce, flair, brain, automatic)


def material_of(case: Case, preparation: str, site: Site, *, warnings: tuple[str, ...], second_reader: bool) -> Drafted:
    """What the queue is told of a case that lies in the prepared store."""
    if case.tumour_mask is None:
        raise ValueError("a draft needs an automatic mask")
    files = reader_files(site, preparation)
    volume, components, flags = describe_mask(case.tumour_mask)
    return Drafted(
        preparation=preparation,
        brain=_file_hash(files.brain),
        automatic=_file_hash(files.automatic),
        volume_ml=volume,
        components=components,
        # The warnings of the case's quality may name a part of the mask's shape already.
        flags=tuple(
            dict.fromkeys((*warnings, *flags, *(() if components else ("no tumour was found automatically",))))
        ),
        uncertainty=dict(case.quality).get("uncertainty", 0.0),
        second_reader=second_reader,
    )


def drop_if_changed(review: ReviewCase, preparation: str, site: Site, queue: ReviewQueue) -> ReviewCase:
    """Invalidate a review whose images are no longer those the reader saw; the case is then prepared anew."""
    if review.state == "invalidated":
        return review
    files, store, material = reader_files(site, preparation), PreparedStore(site.settings.cache), review.material
    reason = ""
    if material.preparation != preparation:
        reason = "input files or preparation settings changed"
    elif not store.has(preparation):
        reason = "the prepared images are gone"
    elif _file_hash(files.brain) != material.brain:
        reason = "the brain mask changed"
    elif _file_hash(files.automatic) != material.automatic:
        reason = "the automatic mask changed"
    if not reason:
        return review
    if material.preparation == preparation:
        store.drop(preparation)
    return queue.record(review.pseudonym, Invalidated(reason=reason))


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
