"""sheet: the hospital's own spreadsheet, joined to the cases found on disk; names and dates end here.

One row per patient: `patient_id` as in the DICOM files (or the BIDS subject, or the folder's name) and any of the
manifest's clinical columns.  Paths of masks start at the sheet's folder.  `tissue_date` (YYYY-MM-DD) becomes scan_to_tissue_days.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from client.ingest.found_case import FoundCase
from client.ingest.spreadsheet import read_spreadsheet
from common.errors import InputError

__all__ = ["SheetJoin", "join_sheet"]

CLINICAL = ("label", "h3_method", "h3_alteration", "age_years", "sex", "location", "scanner", "scan_to_tissue_days",
            "treated_before_scan", "exclude", "mask_path", "brain_mask_path", "split")  # fmt: skip


@dataclass(frozen=True)
class SheetJoin:
    """cells: what the sheet says of each case, in the cases' order; without_images: rows of nobody on disk."""

    cells: tuple[dict[str, str], ...]
    rows: int
    without_images: int
    without_row: int


def join_sheet(path: Path, cases: Sequence[FoundCase]) -> SheetJoin:
    """InputError `sheet-unreadable`, `sheet-invalid` with all faults at once (values in its local face only)."""
    columns, rows = read_spreadsheet(path, field="sheet")
    faults = [] if "patient_id" in columns else ["column 'patient_id' is missing."]
    faults += [
        f"column {name!r} is unknown. Known: patient_id, tissue_date, {', '.join(CLINICAL)}."
        for name in columns
        if name not in {"patient_id", "tissue_date", *CLINICAL}
    ]
    twice = [name for name, count in Counter(row.get("patient_id", "") for row in rows).items() if count > 1]
    faults += [f"patient_id {name!r} stands there twice." for name in twice]
    faults += [
        f"row {number}, tissue_date: {row['tissue_date']!r} is no date as 2024-06-01."
        for number, row in enumerate(rows, start=2)
        if row.get("tissue_date") and _date(row["tissue_date"]) is None
    ]
    if faults:
        raise InputError(
            "sheet-invalid",
            field="sheet",
            problem=f"The spreadsheet has {len(faults)} fault(s).",
            fix="Mend each one named in the site's own log.",
            local="\n".join(f"    - {fault}" for fault in faults),
        )
    by_patient = {row["patient_id"]: row for row in rows}
    home = path.resolve().parent
    cells = tuple(_cells(by_patient.get(case.patient), case, home) for case in cases)
    known = {case.patient for case in cases}
    return SheetJoin(
        cells,
        rows=len(rows),
        without_images=sum(name not in known for name in by_patient),
        without_row=sum(case.patient not in by_patient for case in cases),
    )


def _cells(row: dict[str, str] | None, case: FoundCase, home: Path) -> dict[str, str]:
    if row is None:
        return {}
    cells = {name: row[name] for name in CLINICAL if row.get(name)}
    cells |= {name: str((home / cells[name]).resolve()) for name in ("mask_path", "brain_mask_path") if name in cells}
    tissue = _date(row.get("tissue_date", ""))
    if tissue is not None and case.study_date is not None and "scan_to_tissue_days" not in cells:
        cells["scan_to_tissue_days"] = str((tissue - case.study_date).days)
    return cells


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None
