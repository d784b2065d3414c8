"""review_case: one reader and one case: open it, finish it, accept it or not (`fedmidline-site review ...`)."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from client.review.check_mask import check_mask, read_mask
from client.review.compare import Comparison, compare, dice
from client.review.events import Accepted, Done, Edit, Opened, PutBack, Rejected, Reopened, SentBack, event_of
from client.review.reader_files import ReaderFiles
from client.review.states import ReviewCase, require_open
from client.review.strip import draw_strip
from client.review.viewers import viewer_commands
from client.site import Site
from client.tasks.case_keys import open_queue
from client.tasks.review_gate import reader_files, review_lot
from common.errors import InputError

__all__ = [
    "OpenedCase",
    "accept_case",
    "finish_case",
    "listing",
    "open_case",
    "put_back",
    "reject_case",
    "reopen_case",
    "send_back",
    "work_file",
]


@dataclass(frozen=True)
class OpenedCase:
    """mask: the reader's own copy, to be edited and saved in place; commands: by program."""

    case: ReviewCase
    files: ReaderFiles
    mask: Path
    commands: dict[str, list[str]]


def open_case(site: Site, pseudonym: str, reader: str) -> OpenedCase:
    """Give the case to the reader, with a copy of the automatic mask unless the reader began already."""
    queue = open_queue(site)
    case = queue.find(pseudonym)
    files = reader_files(site, case.material.preparation)
    files.read("t1ce")
    if case.reader != reader or case.state not in ("in_review", "second_read"):
        case = queue.record(pseudonym, event_of(Opened, reader=reader))
    mask = work_file(site, case, reader)
    if not mask.exists():
        mask.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files.automatic, mask)
    return OpenedCase(case, files, mask, viewer_commands(files, mask))


def work_file(site: Site, case: ReviewCase, reader: str) -> Path:
    """Where this reader edits; other material, another file, so that no stale drawing is ever taken up again."""
    folder = site.settings.cache / "review" / "work" / f"{case.pseudonym}-{case.material.automatic[:12]}"
    return folder / reader / "mask.nii.gz"


def finish_case(
    site: Site,
    pseudonym: str,
    *,
    reader: str,
    edit: Edit,
    minutes: float,
    note: str = "",
    mask: Path | None = None,
    confirmed: bool = False,
) -> ReviewCase:
    """Check, compare and keep the reader's mask; mask: default is the copy that `open_case` made.

    InputError as check_mask, and mask-unchanged or mask-changed where the edit grade says otherwise.
    """
    queue = open_queue(site)
    case = queue.find(pseudonym)
    require_open(case, reader)
    files = reader_files(site, case.material.preparation)
    drawn = read_mask(mask or work_file(site, case, reader), files.read("t1ce"), pseudonym=pseudonym)
    found = compare(files.read("automatic"), drawn)
    _require_meant(found, edit, pseudonym)
    checked = check_mask(drawn, files, pseudonym=pseudonym, confirmed=confirmed)
    done = _describe(found, checked.flags, queue.masks.put(checked.mask), reader, edit, minutes, note)
    case = queue.record(pseudonym, done)
    draw_strip(
        files, checked.mask, site.settings.cache / "review" / "pictures" / f"{pseudonym}-{len(case.readings)}.png"
    )
    return case


def accept_case(site: Site, pseudonym: str, *, by: str, reading: int = 1) -> ReviewCase:
    """The mask enters the study; Refused where its file was changed since it was read."""
    queue = open_queue(site)
    for done in queue.find(pseudonym).readings:
        queue.masks.get(done.mask)
    return queue.record(pseudonym, event_of(Accepted, by=by, reading=reading))


def reject_case(site: Site, pseudonym: str, *, by: str, reason: str) -> ReviewCase:
    """The case stays out, with its reason."""
    return open_queue(site).record(pseudonym, event_of(Rejected, by=by, reason=reason))


def reopen_case(site: Site, pseudonym: str, *, by: str, reason: str) -> ReviewCase:
    """An ended review begins again; features of the accepted mask no longer count."""
    return open_queue(site).record(pseudonym, event_of(Reopened, by=by, reason=reason))


def send_back(site: Site, pseudonym: str, *, by: str, reason: str) -> ReviewCase:
    """A finished reading is to be done again."""
    return open_queue(site).record(pseudonym, event_of(SentBack, by=by, reason=reason))


def put_back(site: Site, pseudonym: str, *, reader: str) -> ReviewCase:
    """The reader leaves the case to others, unread."""
    queue = open_queue(site)
    case = queue.find(pseudonym)
    if case.reader != reader:
        raise InputError(
            "case-taken",
            case=pseudonym,
            field="reader",
            problem="Another reader has this case open.",
            fix="Only that reader can put it back.",
        )
    return queue.record(pseudonym, PutBack())


def listing(site: Site) -> list[dict[str, Any]]:
    """The queue in its order, a row per case.

    What a first reader found is not shown while a second reader is still to read the case.
    """
    queue = open_queue(site)
    since = {
        line.pseudonym: datetime.fromisoformat(line.at) for line in queue.history() if line.event.kind == "released"
    }
    rows = []
    for case in queue.ordered(review_lot(site, "review-order")):
        hidden = case.material.second_reader and len(case.readings) < 2
        waited = datetime.now(UTC) - since[case.pseudonym] if case.pseudonym in since else None
        rows.append(
            {
                "case": case.pseudonym,
                "state": case.state,
                "flags": list(case.material.flags),
                "uncertainty": round(case.material.uncertainty, 3),
                "automatic_ml": round(case.material.volume_ml, 1),
                "parts": case.material.components,
                "days": waited.days if waited else 0,
                "reader": case.reader,
                "second_reader_wanted": case.waits_for_second,
                "readings": [] if hidden else [_as_row(done) for done in case.readings],
                "agreement": _agreement(site, case),
                "reason": case.reason,
            }
        )
    return rows


def _as_row(done: Done) -> dict[str, Any]:
    return done.model_dump(mode="json", exclude={"kind", "mask"})


def _agreement(site: Site, case: ReviewCase) -> float | None:
    """Dice of the two readers."""
    if len(case.readings) < 2:
        return None
    masks = [sitk.GetArrayFromImage(open_queue(site).masks.get(done.mask)) > 0 for done in case.readings]
    return round(dice(masks[0], masks[1]), 4)


def _require_meant(found: Comparison, edit: Edit, pseudonym: str) -> None:
    """An untouched mask must be said to be untouched, and the reverse (MedPerf's EXACT_MATCH_IDENTIFIED)."""
    if found.identical and edit != "none":
        raise InputError(
            "mask-unchanged",
            case=pseudonym,
            field="edit",
            problem="The mask is identical to the automatic one.",
            fix="If that is meant, say --edit none; otherwise save the drawing first.",
        )
    if not found.identical and edit == "none":
        raise InputError(
            "mask-changed",
            case=pseudonym,
            field="edit",
            problem="The mask differs from the automatic one.",
            fix="Say --edit minor or --edit major.",
            local=f"{found.added_voxels} voxels added, {found.removed_voxels} removed",
        )


def _describe(
    found: Comparison, flags: tuple[str, ...], mask: str, reader: str, edit: Edit, minutes: float, note: str
) -> Done:
    return event_of(
        Done,
        reader=reader,
        edit=edit,
        minutes=minutes,
        mask=mask,
        dice=found.dice,
        hd95_mm=None if math.isnan(found.hd95_mm) else found.hd95_mm,
        volume_ml=found.volume_ml,
        volume_change_ml=found.volume_change_ml,
        added_voxels=found.added_voxels,
        removed_voxels=found.removed_voxels,
        flags=flags,
        note=note,
    )
