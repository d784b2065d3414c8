"""nifti_folders: cases that lie as NIfTI files, one folder per case, known by the names of the files."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from pathlib import Path

from client.ingest.found_case import FoundCase

__all__ = ["find_nifti_cases"]

T1CE = re.compile(r"t1.?(ce|gd|c\b|c[_.]|post|km)|ce-.*t1w|t1w?.?contrast", re.IGNORECASE)
FLAIR = re.compile(r"flair|flr", re.IGNORECASE)
MASK = re.compile(r"tumou?r|(^|[_-])seg|final_seg|lesion", re.IGNORECASE)


def find_nifti_cases(folder: Path, salt: bytes) -> tuple[FoundCase, ...]:
    """Every folder below `folder` that holds NIfTI files directly; its name may be a patient's, so it is hashed."""
    homes = sorted({path.parent for path in folder.rglob("*.nii*") if path.name.endswith((".nii", ".nii.gz"))})
    return tuple(_case(home, salt) for home in homes)


def _case(home: Path, salt: bytes) -> FoundCase:
    files = sorted(path for path in home.iterdir() if path.name.endswith((".nii", ".nii.gz")))
    masks = [f for f in files if MASK.search(f.name)]
    images = {
        "t1ce": [f for f in files if f not in masks and T1CE.search(f.name)],
        "flair": [f for f in files if f not in masks and FLAIR.search(f.name)],
    }
    digest = hmac.new(salt, b"folder:" + home.name.encode(), hashlib.sha256).digest()
    case = FoundCase(
        pseudonym="p-" + base64.b32encode(digest).decode().lower()[:10],
        patient=home.name,
        t1ce_path=_only(images["t1ce"]),
        flair_path=_only(images["flair"]),
        mask_path=_only(masks),
    )
    for name, found in images.items():
        if len(found) != 1:
            case = case.noted(f"{name}: {'ambiguous-series' if found else 'sequence-not-found'}")
    return case


def _only(files: list[Path]) -> str:
    return str(files[0].resolve()) if len(files) == 1 else ""
