"""find_cases: one case per patient of a DICOM folder: the first examination that holds both sequences."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from client.ingest.dicom.choose import Candidate, candidates, choose
from client.ingest.dicom.identify import Kind
from client.ingest.dicom.pseudonym import patient_pseudonym
from client.ingest.dicom.scan import DicomScan
from client.ingest.found_case import FoundCase
from common.errors import InputError

__all__ = ["find_dicom_cases"]

SHARED = "shared-folder: every case would read all of it; run `convert` first and start from its images"


def find_dicom_cases(scan: DicomScan, salt: bytes) -> tuple[FoundCase, ...]:
    """Every patient of the folder is one case, also where a sequence is missing or a person must choose.

    A series that mixes patients belongs to none: it is left out here and stands in the scan with its fault.
    """
    by_patient: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates(scan, salt):
        if candidate.fault != "mixed-patients":
            by_patient[patient_pseudonym(candidate.series.first, salt)].append(candidate)
    cases = [_case(pseudonym, found) for pseudonym, found in sorted(by_patient.items())]
    shared = Counter(case.t1ce_path for case in cases if case.t1ce_path)
    return tuple(case.noted(SHARED) if shared[case.t1ce_path] > 1 else case for case in cases)


def _case(pseudonym: str, found: Sequence[Candidate]) -> FoundCase:
    studies = _by_study(found)
    picks = [(study, _pick(study, "t1ce"), _pick(study, "flair")) for study in studies]
    whole = [pick for pick in picks if isinstance(pick[1], Candidate) and isinstance(pick[2], Candidate)]
    study, t1ce, flair = (whole or picks)[0]
    first = study[0].series.first
    notes = [f"t1ce: {t1ce}"] if isinstance(t1ce, str) else []
    notes += [f"flair: {flair}"] if isinstance(flair, str) else []
    notes += ["several-examinations: the first is taken"] if len(whole) > 1 else []
    return FoundCase(
        pseudonym=pseudonym,
        patient=first.patient[0],
        t1ce_path=_folder(t1ce, study),
        flair_path=_folder(flair, study),
        t1ce_series=t1ce.key if isinstance(t1ce, Candidate) else "",
        flair_series=flair.key if isinstance(flair, Candidate) else "",
        age_years=first.age_years,
        sex=first.sex,
        scanner=(t1ce if isinstance(t1ce, Candidate) else study[0]).series.scanner,
        study_date=first.study_date,
        notes=tuple(notes),
    )


def _by_study(found: Sequence[Candidate]) -> list[list[Candidate]]:
    """In the order of their dates."""
    studies: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in found:
        studies[candidate.series.first.study_uid].append(candidate)
    return sorted(studies.values(), key=lambda s: (s[0].series.first.study_date or date.max, s[0].key))


def _pick(study: Sequence[Candidate], kind: Kind) -> Candidate | str:
    """The series, or the code of why none could be taken."""
    try:
        return choose(study, kind)
    except InputError as error:
        return error.code


def _folder(picked: Candidate | str, study: Sequence[Candidate]) -> str:
    """Where the series lies; the examination's folder where a person has to choose in it; empty where there is none."""
    if isinstance(picked, str):
        if picked == "sequence-not-found":
            return ""
        paths: Sequence[Path] = [path for candidate in study for path in candidate.series.paths]
    else:
        paths = picked.series.paths
    return os.path.commonpath([path.resolve().parent for path in paths])
