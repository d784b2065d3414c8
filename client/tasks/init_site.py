"""init_site: a new hospital's site.yaml and manifest, filled as far as its own disk and spreadsheet tell.

What is written holds pseudonyms, intervals, and paths; the list that leads back from a pseudonym to a patient is
written only where the hospital names a place for it.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client.disk import write_whole
from client.ingest.bids import find_bids_cases
from client.ingest.dicom.faults import fault_of
from client.ingest.dicom.find_cases import find_dicom_cases
from client.ingest.dicom.scan import scan_folder
from client.ingest.found_case import FoundCase, number_apart
from client.ingest.manifest import COLUMNS, OPTIONAL
from client.ingest.nifti_folders import find_nifti_cases
from client.ingest.sheet import SheetJoin, join_sheet
from client.store.salt import site_salt
from common.config.egress import MESSAGES
from common.errors import InputError, Refused

__all__ = ["InitReport", "Sources", "init_site"]

SITE_FILE = """\
# {name}: this hospital's own settings.  The file stays here; paths start at its folder.
name: {name}
protocol: {protocol}            # the study's protocol, the same at every site
manifest: manifest.csv          # one row per case; CSV or XLSX
cache: cache                    # prepared cases, the salt of the pseudonyms, the audit log; keep it on a local disk
workers: 0                      # cases prepared side by side; 0 takes one process per core
device: auto                    # a GPU where there is one

# Without these three no study is answered (set `ethics: warn` to be reminded only).
ethics_id: ""                   # the number of the approval
consent_basis: ""               # consent | guardian_consent | broad_consent | waiver
approval_date: ""               # 2024-06-01
accrual_start: ""               # 2016-08, month of the first case
accrual_end: ""                 # 2023-09, month of the last case

# What the door lets out; `fedmidline-site egress` shows what left (docs/privacy.md).
egress:
  allow: [{messages}]
  min_cell: 10                  # smallest count of persons that may be told, zero is below it
  min_cases: 10                 # fewest cases behind a sum or an update
  cross_border: allow           # or forbid_counts_by_h3, where the law keeps them in the country
"""


@dataclass(frozen=True)
class Sources:
    """Where cases are looked for; all None writes an empty template."""

    dicom: Path | None = None
    bids: Path | None = None
    nifti: Path | None = None
    sheet: Path | None = None
    key_list: Path | None = None


@dataclass(frozen=True)
class InitReport:
    """What was written and what a person must still do; files_in_no_series and refused_series for DICOM only."""

    folder: Path
    cases: tuple[FoundCase, ...]
    sheet: SheetJoin | None
    files_in_no_series: dict[str, int]
    refused_series: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        complete = sum(bool(case.t1ce_path and case.flair_path and not case.notes) for case in self.cases)
        return {
            "written": ["site.yaml", "manifest.csv"],
            "cases": len(self.cases),
            "both_sequences_certain": complete,
            "to_decide": {case.pseudonym: list(case.notes) for case in self.cases if case.notes},
            "files_in_no_series": self.files_in_no_series,
            "refused_series": self.refused_series,
            "sheet": None
            if self.sheet is None
            else {
                "rows": self.sheet.rows,
                "rows_without_images": self.sheet.without_images,
                "cases_without_row": self.sheet.without_row,
            },
        }


def init_site(folder: Path, *, name: str, protocol: str, sources: Sources) -> InitReport:
    """Write site.yaml and manifest.csv into `folder`.

    Refused `already-there` rather than overwrite; InputError of the scanners and of the spreadsheet.
    """
    for file in ("site.yaml", "manifest.csv"):
        if (folder / file).exists():
            raise Refused(
                "already-there",
                field=file,
                problem="The folder has a site file or a manifest already.",
                fix="Choose another folder, or move the file away.",
            )
    salt = site_salt(folder / "cache")
    cases, others, refused = _find(sources, salt)
    cases = _apart(cases)
    joined = join_sheet(sources.sheet, cases) if sources.sheet is not None else None
    rows = [
        {**_own_cells(case), **extra}
        for case, extra in zip(cases, joined.cells if joined else ({},) * len(cases), strict=True)
    ]
    if sources.key_list is not None:
        key = [{"pseudonym": case.pseudonym, "patient_id": case.patient} for case in cases]
        write_whole(sources.key_list, _csv(("pseudonym", "patient_id"), key), field="key-list")
    write_whole(folder / "manifest.csv", _csv((*COLUMNS, *_used(rows)), rows), field="manifest")
    site_file = SITE_FILE.format(name=name, protocol=protocol, messages=", ".join(MESSAGES))
    write_whole(folder / "site.yaml", site_file.encode(), field="site.yaml")
    return InitReport(folder, cases, joined, others, refused)


def _find(sources: Sources, salt: bytes) -> tuple[tuple[FoundCase, ...], dict[str, int], dict[str, int]]:
    if sum(place is not None for place in (sources.dicom, sources.bids, sources.nifti)) > 1:
        raise InputError(
            "several-sources",
            field="init",
            problem="More than one source of cases is named.",
            fix="Name one of --dicom, --bids and --nifti.",
        )
    if sources.dicom is not None:
        scan = scan_folder(sources.dicom)
        refused = Counter(fault_of(series) for series in scan.series if fault_of(series))
        return find_dicom_cases(scan, salt), scan.others, dict(sorted(refused.items()))
    if sources.bids is not None:
        return find_bids_cases(sources.bids), {}, {}
    if sources.nifti is not None:
        return find_nifti_cases(sources.nifti, salt), {}, {}
    return (), {}, {}


def _apart(cases: tuple[FoundCase, ...]) -> tuple[FoundCase, ...]:
    names = number_apart([case.pseudonym for case in cases])
    return tuple(replace(case, pseudonym=name) for case, name in zip(cases, names, strict=True))


def _own_cells(case: FoundCase) -> dict[str, str]:
    return {
        "pseudonym": case.pseudonym,
        "t1ce_path": case.t1ce_path,
        "flair_path": case.flair_path,
        "mask_path": case.mask_path,
        "age_years": "" if case.age_years is None else str(case.age_years),
        "sex": case.sex,
        "scanner": case.scanner,
        "t1ce_series": case.t1ce_series,
        "flair_series": case.flair_series,
    }


def _used(rows: list[dict[str, str]]) -> tuple[str, ...]:
    """Optional columns that some row fills."""
    return tuple(name for name in OPTIONAL if any(row.get(name) for row in rows))


def _csv(columns: tuple[str, ...], rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator=os.linesep)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
