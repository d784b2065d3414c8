"""case_keys: under which keys a case's images and features lie, and which cases may enter a study.

Where the protocol requires a review, a case has a features' key only while a reader's mask of exactly these
images is accepted, and the mask is part of the key: a reopened, changed or outdated mask is another key or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from client.case import CaseRow
from client.review.queue import ReviewQueue
from client.review.states import ReviewCase
from client.site import Site
from client.store.feature_store import FeatureStore
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore

__all__ = ["CaseKeys", "case_keys", "feature_keys", "keeps_images", "open_queue", "review_required"]


@dataclass(frozen=True)
class CaseKeys:
    """preparation: of the images and the automatic mask; features: empty while the case may not enter a study;
    mask: fingerprint of the accepted mask the features are measured in, empty for the automatic one.
    """

    preparation: str
    features: str
    mask: str = ""


def open_queue(site: Site) -> ReviewQueue:
    """The site's review folder in its cache."""
    return ReviewQueue(site.settings.cache / "review", clock=lambda: datetime.now(UTC))


def review_required(site: Site) -> bool:
    """Whether only accepted masks may enter."""
    return site.protocol.segmentation.review == "required"


def keeps_images(site: Site) -> bool:
    """Whether the prepared images are needed after the features: by a reader, or by an encoder that learns."""
    return review_required(site) or site.protocol.training.encoder_rate > 0


def case_keys(site: Site, input_fingerprint: str, review: ReviewCase | None) -> CaseKeys:
    """The case's keys; review: where it stands in the queue."""
    store, protocol = FeatureStore(site.settings.cache), site.protocol
    preparation = PreparedStore(site.settings.cache).key(input_fingerprint, protocol.preparation_fingerprint())
    if not review_required(site):
        return CaseKeys(preparation, store.key(input_fingerprint, protocol.feature_fingerprint()))
    if review is None or review.state != "accepted" or review.material.preparation != preparation:
        return CaseKeys(preparation, "")
    mask = review.accepted_mask
    return CaseKeys(preparation, store.key(f"{input_fingerprint}:{mask}", protocol.feature_fingerprint()), mask)


def feature_keys(rows: Sequence[CaseRow], site: Site) -> dict[str, str]:
    """The features' key by pseudonym, for every eligible case that may enter a study."""
    book = FingerprintBook(site.settings.cache)
    reviews: Mapping[str, ReviewCase] = open_queue(site).cases() if review_required(site) else {}
    keys: dict[str, str] = {}
    for row in rows:
        found = None if row.excluded_because else book.find(row)
        key = case_keys(site, found, reviews.get(row.pseudonym)).features if found else ""
        if key:
            keys[row.pseudonym] = key
    return keys
