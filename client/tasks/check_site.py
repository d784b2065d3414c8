"""check_site: what the hospital brings, case by case, before anything is computed; opens no connection.

in the manifest = excluded (R6-R9, by reason) + set aside (by code) + ready
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.inspect_case import CaseLook, inspect_case
from client.ingest.manifest import read_manifest
from client.site import Site
from client.store.feature_store import FeatureStore
from client.store.fingerprints import FingerprintBook
from client.store.salt import site_salt
from client.tasks.case_keys import feature_keys
from client.tasks.require_preprocessing import require_preprocessing
from common.config.protocol import Protocol

__all__ = ["SiteCheck", "check_site"]

SECONDS_PER_CASE = 90.0
"""Of one core for one clinical case, with reserve (shared/notes: N4, two registrations, network, 1702 features)."""

PREPARED_BYTES = 34e6
"""Of five compressed images and two masks on a grid of 1 mm; four and two took 3.7 MB at 2 mm."""


@dataclass(frozen=True)
class SiteCheck:
    """excluded: by reason; looks: of every eligible case; prepared: how many of the ready ones are finished."""

    site: Site
    listed: int
    excluded: dict[str, int]
    looks: tuple[CaseLook, ...]
    prepared: int

    @property
    def ready(self) -> list[CaseLook]:
        """Eligible and readable."""
        return [look for look in self.looks if look.fault is None]

    @property
    def set_aside(self) -> list[CaseLook]:
        """Eligible, but not as they are."""
        return [look for look in self.looks if look.fault is not None]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; pseudonyms, codes and numbers."""
        site, eligible = self.site, [look.row for look in self.looks]
        return {
            "site": site.settings.name,
            "protocol": site.protocol.name,
            "protocol_fingerprint": site.protocol.fingerprint(),
            "cases": self.listed,
            "altered": sum(row.altered for row in eligible),
            "not_altered": sum(not row.altered for row in eligible),
            "excluded": self.excluded,
            "eligible": len(eligible),
            "set_aside": [
                {
                    "pseudonym": look.row.pseudonym,
                    "code": look.fault.code,
                    "field": look.fault.field,
                    "reason": look.fault.problem,
                    "cure": look.fault.fix,
                }
                for look in self.set_aside
                if look.fault is not None
            ],
            "ready": len(self.ready),
            "prepared": self.prepared,
            "balanced": self.listed == sum(self.excluded.values()) + len(self.set_aside) + len(self.ready),
            "ethics_missing": list(site.settings.missing_ethics()),
            "reference_standard": _counted(row.h3_method or "not stated" for row in eligible),
            "masks": sum(bool(row.mask_path) for row in eligible),
            "scanners": _counted(row.scanner or "not stated" for row in eligible),
            "scanners_of_the_images": _counted(
                i.scanner for look in self.ready for i in look.images.values() if i.scanner
            ),
            "sequences": {name: self._sequence(name) for name in ("t1ce", "flair")},
            "estimate": self._estimate(),
        }

    def _sequence(self, name: str) -> dict[str, Any]:
        images = [look.images[name] for look in self.ready if name in look.images]  # none where a table gave features
        if not images:
            return {"found": 0}
        return {
            "found": len(images),
            "sources": _counted(image.source for image in images),
            "named_or_certain": sum(image.confidence >= 1 for image in images),
            "lowest_confidence": min(image.confidence for image in images),
            "spacing_mm": [_span([image.spacing_mm[axis] for image in images]) for axis in range(3)],
            "slices": _span([float(image.size[2]) for image in images]),
        }

    def _estimate(self) -> dict[str, float]:
        """Of what is still to prepare."""
        settings, protocol = self.site.settings, self.site.protocol
        workers = settings.workers or os.cpu_count() or 1
        to_do = len(self.ready) - self.prepared
        place = settings.cache
        while not place.exists():
            place = place.parent
        return {
            "cases_to_prepare": to_do,
            "minutes": round(np.ceil(to_do / workers) * SECONDS_PER_CASE / 60, 1),
            "disk_gb": round(to_do * _bytes_per_case(protocol) / 1e9, 3),
            "disk_free_gb": round(shutil.disk_usage(place).free / 1e9, 1),
        }


def check_site(site: Site, progress: Callable[[int, int], None] = lambda _done, _all: None) -> SiteCheck:
    """Read the manifest and every eligible case's headers; InputError only for a manifest that cannot be used,
    ConfigError where this machine lacks the protocol's atlas or skull-strip program.
    """
    settings = site.settings
    require_preprocessing(site.protocol.preprocessing)
    rows = read_manifest(settings.manifest, site=settings.name)
    eligible = [row for row in rows if not row.excluded_because]
    dicom = DicomFolders(salt=site_salt(settings.cache), scratch=settings.cache / ".scratch")
    book, looks = FingerprintBook(settings.cache), []
    for number, row in enumerate(eligible):
        progress(number, len(eligible))
        known = not (row.t1ce_path or row.flair_path) and book.find(row) is not None  # imported from a table
        looks.append(CaseLook(row, {}) if known else inspect_case(row, dicom))
    progress(len(eligible), len(eligible))
    store = FeatureStore(settings.cache)
    return SiteCheck(
        site,
        listed=len(rows),
        excluded=dict(sorted(Counter(r.excluded_because for r in rows if r.excluded_because).items())),
        looks=tuple(looks),
        prepared=sum(
            store.has(key) for key in feature_keys([look.row for look in looks if look.fault is None], site).values()
        ),
    )


def _bytes_per_case(protocol: Protocol) -> int:
    """Visual map, radiomics with their repeats, two pictures, and what a reader looks at."""
    size = 2 if protocol.visual.dtype == "float16" else 4
    radiomics = 8 * len(protocol.radiomics.names()) * (1 + protocol.radiomics.perturbations)
    images = 0.0
    if protocol.segmentation.review == "required":  # for the readers
        images = PREPARED_BYTES / protocol.preprocessing.spacing_mm**3
    return int(protocol.visual.length * size + radiomics + images + 300_000)


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _span(values: list[float]) -> dict[str, float]:
    low, middle, high = (round(float(v), 3) for v in (min(values), np.median(values), max(values)))
    return {"min": low, "median": middle, "max": high}
