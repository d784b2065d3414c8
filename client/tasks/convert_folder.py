"""convert_folder: every series below a folder, identified and converted or refused by name; needs no study.

Counts in = counts out: each file belongs to a series or to a reason, each series is converted, refused or
quarantined.  One bad series never stops the others.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from client.disk import write_whole
from client.ingest.dicom.choose import Candidate, candidates
from client.ingest.dicom.convert import Converted, convert_series, nifti_bytes
from client.ingest.dicom.faults import REFUSALS
from client.ingest.dicom.pseudonym import patient_pseudonym
from client.ingest.dicom.scan import DicomScan, scan_folder
from common.errors import StudyError

__all__ = ["ConvertReport", "SeriesOutcome", "convert_folder"]

SCRATCH = ".scratch"
STOP = {"disk-full", "folder-read-only"}


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of a series.  outputs: file names below the output folder; local: for the hospital's screen."""

    patient: str
    study: int
    days: int | None
    candidate: Candidate
    status: Literal["converted", "refused", "quarantined"]
    code: str = ""
    cure: str = ""
    outputs: tuple[str, ...] = ()
    corner_mm: float | None = None
    placed_by: str = ""
    local: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Numbers and words of closed lists: no text of a header, no date, no UID."""
        series, identification = self.candidate.series, self.candidate.identification
        return {
            "patient": self.patient,
            "study": self.study,
            "days_since_first_study": self.days,
            "series": self.candidate.key,
            "number": series.first.series_number,
            "kind": identification.kind,
            "confidence": identification.confidence,
            "certain": identification.certain,
            "reasons": list(identification.reasons),
            "scanner": series.scanner,
            "files": len(series.headers),
            "exact_copies": series.copies,
            "size": list(series.size),
            "spacing_mm": [round(value, 4) for value in series.spacing_mm],
            "status": self.status,
            "code": self.code,
            "cure": self.cure,
            "outputs": list(self.outputs),
            "two_readers_apart_mm": self.corner_mm,
            "placed_by": self.placed_by,
        }


@dataclass(frozen=True)
class ConvertReport:
    """files: found below the folder; others: those that belong to no series, by reason."""

    files: int
    others: dict[str, int]
    outcomes: tuple[SeriesOutcome, ...]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "files": self.files,
            "files_in_no_series": self.others,
            "counts": dict(Counter(outcome.status for outcome in self.outcomes)),
            "series": [outcome.as_dict() for outcome in self.outcomes],
        }


def convert_folder(
    folder: Path,
    out: Path,
    *,
    salt: bytes,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> ConvertReport:
    """Convert all that can be converted.

    InputError only for what concerns every series: `folder-missing`, `disk-full`, `folder-read-only`.
    """
    scan = scan_folder(folder)
    shutil.rmtree(out / SCRATCH, ignore_errors=True)  # what a killed run left
    found = candidates(scan, salt)
    studies = _studies(scan)
    outcomes = []
    for number, candidate in enumerate(found):
        progress(number, len(found))
        outcomes.append(_one(candidate, out, salt, studies))
    progress(len(found), len(found))
    shutil.rmtree(out / SCRATCH, ignore_errors=True)
    return ConvertReport(scan.files, scan.others, tuple(outcomes))


def _one(candidate: Candidate, out: Path, salt: bytes, studies: dict[str, tuple[int, int | None]]) -> SeriesOutcome:
    first = candidate.series.first
    patient = patient_pseudonym(first, salt) if candidate.fault != "mixed-patients" else "several"
    study, days = studies[first.study_uid]

    def outcome(status: Literal["converted", "refused", "quarantined"], code: str = "", **more: Any) -> SeriesOutcome:
        cure = REFUSALS[code][1] if code in REFUSALS else more.pop("cure", "")
        return SeriesOutcome(patient, study, days, candidate, status, code, cure, **more)

    if candidate.fault:
        return outcome("refused", candidate.fault)
    try:
        converted = convert_series(candidate.series, salt=salt, scratch=out / SCRATCH)
        names = _write(converted, candidate, out, f"{patient}/study-{study}")
    except StudyError as error:
        if error.code in STOP:
            raise
        return outcome("quarantined", error.code, local=error.local)
    except Exception as error:  # noqa: BLE001  # a library's failure on one series must not stop the others
        # Its text may quote a header.
        return outcome("quarantined", "unexpected", cure="Report the type of the error.", local=type(error).__name__)
    difference = converted.difference
    return outcome(
        "converted",
        outputs=names,
        corner_mm=None if difference is None else difference.corner_mm,
        placed_by="one reader" if difference is None else "headers" if converted.by_headers else "two readers",
    )


def _write(converted: Converted, candidate: Candidate, out: Path, place: str) -> tuple[str, ...]:
    names = []
    for volume in converted.volumes:
        more = f"_{volume.name}" if volume.name else ""
        number = candidate.series.first.series_number
        name = f"{place}/series-{number:03d}_{candidate.kind}_{candidate.key}{more}.nii.gz"
        write_whole(out / name, nifti_bytes(volume), field="out")
        names.append(name)
    return tuple(names)


def _studies(scan: DicomScan) -> dict[str, tuple[int, int | None]]:
    """By study UID: its place among the patient's studies, and the days since the first; no date remains."""
    by_patient: dict[str, dict[str, date | None]] = {}
    for series in scan.series:
        by_patient.setdefault(series.first.patient[0], {}).setdefault(series.first.study_uid, series.first.study_date)
    found: dict[str, tuple[int, int | None]] = {}
    for studies in by_patient.values():
        first = min((day for day in studies.values() if day is not None), default=None)
        ordered = sorted(studies.items(), key=lambda item: (item[1] or date.max, item[0]))
        for number, (uid, day) in enumerate(ordered, start=1):
            found[uid] = (number, None if day is None or first is None else (day - first).days)
    return found
