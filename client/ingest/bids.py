"""bids: cases of a BIDS dataset: T1w with a contrast agent (`ce-`), FLAIR, and a tumour mask among the derivatives.

Source: BIDS specification 1.10, MRI and derivatives.  BIDS labels are pseudonyms already; they are kept.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from client.ingest.found_case import FoundCase
from common.errors import InputError

__all__ = ["find_bids_cases"]

SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}


def find_bids_cases(folder: Path) -> tuple[FoundCase, ...]:
    """One case per subject: its first session that has both sequences.

    InputError `not-bids` when the folder has no subject.
    """
    people = _participants(folder)
    subjects = sorted(path for path in folder.glob("sub-*") if path.is_dir())
    if not subjects:
        raise InputError(
            "not-bids",
            field="bids",
            problem="The folder holds no subject (`sub-...`).",
            fix="Give the dataset's top folder.",
        )
    return tuple(_case(folder, subject, people.get(subject.name, {})) for subject in subjects)


def _case(folder: Path, subject: Path, person: dict[str, str]) -> FoundCase:
    sessions = sorted(path for path in subject.glob("ses-*") if path.is_dir()) or [subject]
    found = [(s, _images(s, "T1w", contrast=True), _images(s, "FLAIR", contrast=None)) for s in sessions]
    whole = [each for each in found if each[1] and each[2]]
    session, t1ce, flair = (whole or found)[0]
    mask = _masks(folder, subject, session)
    case = FoundCase(
        pseudonym=subject.name,
        patient=subject.name,
        t1ce_path=_only(t1ce),
        flair_path=_only(flair),
        mask_path=_only(mask),
        age_years=_age(person.get("age", "")),
        sex=SEXES.get(person.get("sex", "").lower(), ""),
        scanner=person.get("scanner", ""),
    )
    for name, files in (("t1ce", t1ce), ("flair", flair)):
        if not files:
            case = case.noted(f"{name}: sequence-not-found")
        elif len(files) > 1:
            case = case.noted(f"{name}: ambiguous-series")
    return case.noted("several-examinations: the first is taken") if len(whole) > 1 else case


def _images(session: Path, suffix: str, *, contrast: bool | None) -> list[Path]:
    files = [f for f in sorted((session / "anat").glob(f"*_{suffix}.nii*")) if f.name.endswith((".nii", ".nii.gz"))]
    return [f for f in files if contrast is None or ("_ce-" in f.name) == contrast]


def _masks(folder: Path, subject: Path, session: Path) -> list[Path]:
    """Masks that are labelled as tumour or lesion; a brain mask is none."""
    places = (folder / "derivatives").glob(f"*/{subject.name}")
    below = [place / session.name if session != subject else place for place in places]
    found = [file for place in below for file in sorted(place.rglob("*_mask.nii.gz"))]
    return [file for file in found if any(word in file.name.lower() for word in ("tumour", "tumor", "lesion"))]


def _only(files: Iterable[Path]) -> str:
    files = list(files)
    return str(files[0].resolve()) if len(files) == 1 else ""


def _participants(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "participants.tsv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row.get("participant_id", ""): {k: v or "" for k, v in row.items() if k} for row in rows}


def _age(text: str) -> int | None:
    try:
        return min(90, int(float(text)))
    except ValueError:
        return None
