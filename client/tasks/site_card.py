"""site_card: one page for the ethics office: what leaves the hospital, what does not, and counts that disclose nobody.

What leaves is read from the messages themselves: every module of common/messages says it in its docstring.
Counts below 10, zeros included, are withheld, and with them as many others as it takes that none can be worked out
from the total (METHOD 3.3; UK LLC's rule).  What is shown is rounded to fives, so that the cards of two days do not
tell one person apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from client.case import CaseRow
from client.ingest.manifest import EXCLUSIONS, read_manifest
from client.site import Site
from client.tasks.open_gate import rules_of
from common.config.egress import MESSAGES
from common.privacy.small_cells import MIN_CELL, round_to, withheld_levels

__all__ = ["SafeTable", "render_card", "safe_table", "what_leaves"]

FILES = ("landmarks",)
"""What a person may hand over before the study begins."""
AGES = ("under 18", "18-39", "40-59", "60 and over", "not stated")
LOCATIONS = ("thalamus", "brainstem", "medulla", "corpus_callosum", "basal_ganglia", "third_ventricle",
             "fourth_ventricle", "pineal", "not stated")  # fmt: skip
EXCLUDED = (*EXCLUSIONS.values(), "T1CE or FLAIR is missing", "treated before the scan", "not in a midline location")


@dataclass(frozen=True)
class SafeTable:
    """shown: counts in fives; None for a withheld one."""

    title: str
    shown: dict[str, int | None]


def safe_table(title: str, levels: Sequence[str], found: Iterable[str]) -> SafeTable:
    """Counts of the levels known beforehand; a total below the limit withholds all of them."""
    counts = Counter(found)
    # Nobody without a statement is no statement about anybody; kept, that zero would hide another level.
    levels = [level for level in levels if level != "not stated" or counts[level]]
    cells = {level: (counts[level],) for level in levels}
    withheld = withheld_levels(cells, min_cell=MIN_CELL)
    return SafeTable(title, {level: None if level in withheld else round_to(counts[level]) for level in levels})


def what_leaves(names: Sequence[str] = MESSAGES) -> dict[str, str]:
    """By message: the sentence after `Leaves the site:` in its module."""
    told: dict[str, str] = {}
    for action in names:
        words = " ".join((import_module(f"common.messages.{action}").__doc__ or "").split())
        told[action] = words.partition("Leaves the site: ")[2]
    return told


def render_card(site: Site, *, today: str) -> str:
    """The page: self-contained HTML, no script, nothing fetched; InputError for a manifest that cannot be used."""
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    eligible = [row for row in rows if not row.excluded_because]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("site_card.html").render(
        settings=site.settings,
        protocol=site.protocol,
        fingerprint=site.protocol.fingerprint(),
        missing=site.settings.missing_ethics(),
        today=today,
        listed=_rounded(len(rows)),
        eligible=_rounded(len(eligible)),
        tables=_tables(rows, eligible),
        leaves=what_leaves(),
        files=what_leaves(FILES),
        min_cell=MIN_CELL,
        door=rules_of(site),
    )


def _tables(rows: Sequence[CaseRow], eligible: Sequence[CaseRow]) -> list[SafeTable]:
    scanners = sorted({row.scanner or "not stated" for row in eligible})
    return [
        safe_table("Flow (R6-R9)", ("eligible", *EXCLUDED), (row.excluded_because or "eligible" for row in rows)),
        safe_table("Class", ("altered", "not altered"), ("altered" if r.altered else "not altered" for r in eligible)),
        safe_table("Age, years", AGES, (_age(row.age_years) for row in eligible)),
        safe_table("Sex", ("female", "male", "not stated"), (row.sex or "not stated" for row in eligible)),
        safe_table("Location", LOCATIONS, (row.location or "not stated" for row in eligible)),
        safe_table("Scanner", scanners, (row.scanner or "not stated" for row in eligible)),
        safe_table(
            "Reference standard",
            ("ihc", "sequencing", "both", "unknown", "not stated"),
            (row.h3_method or "not stated" for row in eligible),
        ),
    ]


def _age(years: float | None) -> str:
    if years is None:
        return "not stated"
    return next(name for limit, name in zip((18, 40, 60, 999), AGES, strict=False) if years < limit)


def _rounded(count: int) -> str:
    """A total in fives."""
    return f"fewer than {MIN_CELL}" if count < MIN_CELL else f"about {round_to(count)}"
