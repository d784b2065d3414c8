"""landmarks: the site's part of the standard scale: percentiles of its training cases' brains, as sums.

Before a study's first round, because a standard scale must be there before a case is prepared.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from client.case import CaseRow
from client.disk import write_whole
from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.manifest import read_manifest
from client.ingest.read_case import input_fingerprint, read_case
from client.site import Site
from client.store.fingerprints import FingerprintBook
from client.store.salt import site_salt
from client.tasks.require_preprocessing import require_preprocessing
from client.tasks.side_by_side import side_by_side
from common.errors import InputError, Refused, StudyError
from common.messages.landmarks import LandmarksReply
from common.stats.landmarks import landmark_table
from common.stats.moments import summarise_sums
from common.tables import split_table

__all__ = ["LandmarksReport", "sum_landmarks"]

SCRATCH = ".scratch"


@dataclass(frozen=True)
class LandmarksReport:
    """reply: for the coordinator; set_aside: pseudonym -> what is wrong, for the hospital's screen."""

    reply: LandmarksReply
    set_aside: dict[str, str]


def sum_landmarks(site: Site, progress: Callable[[int, int], None] = lambda _done, _all: None) -> LandmarksReport:
    """Bring every training case to the atlas and sum its landmarks; goes on where it was stopped.

    InputError `split-missing`: training cases must be known, and the study has not drawn its split yet.
    Refused `too-few-cases` below the protocol's min_cases.
    """
    require_preprocessing(site.protocol.preprocessing)
    rows = [row for row in read_manifest(site.settings.manifest, site=site.settings.name) if not row.excluded_because]
    _require_split(rows, site)
    training = {row.pseudonym: row for row in rows if row.split == "train"}
    book = FingerprintBook(site.settings.cache)
    files = {name: _file(site, book.look_up(row, input_fingerprint)) for name, row in training.items()}
    book.save()
    to_do = {name: (row, files[name]) for name, row in training.items() if not files[name].exists()}
    set_aside: dict[str, str] = {}
    shutil.rmtree(site.settings.cache / SCRATCH, ignore_errors=True)  # what a killed run left
    progress(len(training) - len(to_do), len(training))
    workers = min(site.settings.workers or os.cpu_count() or 1, max(1, len(to_do)))
    for number, (name, fault) in enumerate(side_by_side(to_do, partial(_measure, site=site), workers=workers), start=1):
        if fault is None or fault:
            set_aside[name] = fault or "worker-killed: The operating system ended the process."
        progress(len(training) - len(to_do) + number, len(training))
    shutil.rmtree(site.settings.cache / SCRATCH, ignore_errors=True)
    return LandmarksReport(_reply([training[n] for n in training if n not in set_aside], files, site), set_aside)


def _measure(work: tuple[CaseRow, Path], site: Site) -> str:
    """One case in a worker process: its landmarks to their file; what went wrong, else nothing."""
    import SimpleITK as sitk

    from client.preprocess.normalise import brain_landmarks
    from client.preprocess.preprocess import bring_to_atlas

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    (row, path), scratch = work, site.settings.cache / SCRATCH
    try:
        case = read_case(row, dicom=DicomFolders(salt=site_salt(site.settings.cache), scratch=scratch))
        case = bring_to_atlas(case, site.protocol.preprocessing, scratch)
        found = [brain_landmarks(case, name).tolist() for name in ("T1CE", "FLAIR")]
    except StudyError as error:
        error.case, error.site = row.pseudonym, site.settings.name
        return error.explain()
    write_whole(path, json.dumps(found).encode())
    return ""


def _reply(rows: Sequence[CaseRow], files: dict[str, Path], site: Site) -> LandmarksReply:
    fewest = site.protocol.federation.min_cases
    if len(rows) < fewest:
        raise Refused(
            "too-few-cases",
            site=site.settings.name,
            field="federation.min_cases",
            problem=f"The site has fewer than {fewest} training cases whose landmarks could be measured.",
            fix="Add cases, or leave the scale to the other sites: the site can still take part in the study.",
        )
    landmarks = np.array([json.loads(files[row.pseudonym].read_text()) for row in rows]).reshape(len(rows), -1)
    table = landmark_table(landmarks, np.array([row.altered for row in rows]))
    training, _ = split_table(table, np.array([row.split == "test" for row in rows]))
    sums = summarise_sums(training)
    return LandmarksReply(
        site=site.settings.name,
        preparation=site.protocol.landmarks_fingerprint(),
        cases=sums.count,
        total=tuple(map(float, sums.total)),
    )


def _file(site: Site, fingerprint: str) -> Path:
    """Where a case's landmarks lie, by its files and the settings they are measured with."""
    key = hashlib.sha256(f"{fingerprint}:{site.protocol.landmarks_fingerprint()}".encode()).hexdigest()[:32]
    return site.settings.cache / "landmarks" / f"{key}.json"


def _require_split(rows: Sequence[CaseRow], site: Site) -> None:
    without = [row.pseudonym for row in rows if not row.split]
    if without:
        raise InputError(
            "split-missing",
            site=site.settings.name,
            field="split",
            problem=f"{len(without)} eligible case(s) are neither training nor test cases yet.",
            fix="Fill the manifest's column `split` (train or test): a standard scale is learnt from training cases only.",
            local=", ".join(without[:20]),
        )
