"""quality_page: every case of the site with its verdict and its slices, on one page that stays in the hospital.

Self-contained HTML, most suspicious first; nothing is fetched and nothing is sent.  It shows no label and no clinical
column, so a reader may look at it and stay blind.
"""

from __future__ import annotations

import base64
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from client.case import CaseRow
from client.ingest.manifest import read_manifest
from client.site import Site
from client.store.feature_store import FeatureStore
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore
from client.store.quarantine import Quarantined, read_quarantine
from client.tasks.case_keys import CaseKeys, case_keys, open_queue, review_required
from client.tasks.case_quality import MEASURES, Verdict, judge

__all__ = ["CaseQuality", "SiteQuality", "look_at_quality", "render_quality"]


@dataclass(frozen=True)
class CaseQuality:
    """measures: by name, of the mask that counts now (automatic, or accepted by a reader)."""

    pseudonym: str
    stage: str
    measures: dict[str, float]
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "case": self.pseudonym,
            "stage": self.stage,
            "verdict": self.verdict.word,
            "reasons": list(self.verdict.reasons),
            "suspicion": round(self.verdict.suspicion, 3),
            "measures": {name: round(value, 4) for name, value in self.measures.items()},
        }


@dataclass(frozen=True)
class SiteQuality:
    """listed = excluded + not yet prepared + set aside + cases."""

    listed: int
    excluded: dict[str, int]
    waiting: tuple[str, ...]
    set_aside: tuple[Quarantined, ...]
    cases: tuple[CaseQuality, ...]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; pseudonyms, codes and numbers."""
        return {
            "cases_in_the_manifest": self.listed,
            "excluded": self.excluded,
            "not_yet_prepared": list(self.waiting),
            "set_aside": [
                {"case": q.pseudonym, "code": q.code, "reason": q.reason, "cure": q.cure} for q in self.set_aside
            ],
            "verdicts": dict(Counter(case.verdict.word for case in self.cases)),
            "cases": [case.as_dict() for case in self.cases],
        }


def look_at_quality(site: Site) -> SiteQuality:
    """Read what `prepare` measured, most suspicious first; computes nothing anew."""
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    aside = {q.pseudonym: q for q in read_quarantine(site.settings.cache)}
    found: list[CaseQuality] = []
    waiting: list[str] = []
    book = FingerprintBook(site.settings.cache)
    reviews = open_queue(site).cases() if review_required(site) else {}
    for row in (row for row in rows if not row.excluded_because):
        fingerprint = book.find(row)
        keys = case_keys(site, fingerprint, reviews.get(row.pseudonym)) if fingerprint else None
        case = _measured(row, keys, site) if keys else None
        if case is not None:
            found.append(case)
            aside.pop(row.pseudonym, None)
        elif row.pseudonym not in aside:
            waiting.append(row.pseudonym)
    listed = {row.pseudonym for row in rows}
    return SiteQuality(
        len(rows),
        dict(sorted(Counter(row.excluded_because for row in rows if row.excluded_because).items())),
        tuple(waiting),
        tuple(q for name, q in aside.items() if name in listed),
        tuple(sorted(found, key=lambda case: (-case.verdict.suspicion, case.pseudonym))),
    )


def render_quality(site: Site, quality: SiteQuality) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pictures = site.settings.cache / "pictures"
    return environment.get_template("quality_page.html").render(
        name=site.settings.name,
        protocol=site.protocol.name,
        quality=quality,
        columns=MEASURES,
        pictures={case.pseudonym: _as_address(pictures / f"{case.pseudonym}.jpg") for case in quality.cases},
        atlas=_atlas_address(site.protocol.preprocessing.atlas) if quality.cases else "",
    )


def _measured(row: CaseRow, keys: CaseKeys, site: Site) -> CaseQuality | None:
    """From the features, where there are any, else from the images a reader is to look at."""
    features, prepared = FeatureStore(site.settings.cache), PreparedStore(site.settings.cache)
    if keys.features and features.has(keys.features):
        measures, stage = features.about(keys.features)["quality"], "prepared"
    elif prepared.has(keys.preparation):
        measures, stage = prepared.quality(keys.preparation), "for a reader"
    else:
        return None
    return CaseQuality(row.pseudonym, stage, measures, judge(measures))


def _as_address(picture: Path) -> str:
    """The picture itself as an address; empty where none was drawn."""
    if not picture.exists():
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _atlas_address(atlas: str) -> str:
    from client.tasks.case_mosaic import draw_atlas  # SimpleITK and nilearn, for this page only

    with tempfile.TemporaryDirectory(prefix="atlas-") as folder:
        draw_atlas(atlas, Path(folder) / "atlas.jpg")
        return _as_address(Path(folder) / "atlas.jpg")
