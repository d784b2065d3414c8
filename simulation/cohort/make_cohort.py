"""make_cohort: write a synthetic cohort: images, true masks and a manifest.

Deterministic from the seed, whatever the number of workers: every case draws from streams of its own name.
A case is written beside and renamed when whole; a second call goes on where the first was interrupted.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from client.ingest.manifest import COLUMNS as MANIFEST_COLUMNS
from common.errors import Refused
from common.seeds import stream
from simulation.cohort.anatomy import Volume, sculpt_head
from simulation.cohort.demographics import draw_ages, draw_sexes
from simulation.cohort.render import render_scene
from simulation.cohort.scanner import SCANNERS, acquire, draw_motion
from simulation.cohort.settings import CohortSettings
from simulation.cohort.tumour import draw_location, grow_tumour
from simulation.cohort.write_dicom import STUDY_DATE, patient_id, write_series

__all__ = ["COLUMNS", "CohortSettings", "make_cohort"]

COLUMNS = (*MANIFEST_COLUMNS, "brain_mask_path")
SHEET_COLUMNS = ("patient_id", "label", "h3_method", "age_years", "sex", "location", "tissue_date", "treated_before_scan",
                 "mask_path", "brain_mask_path")  # fmt: skip
SHARES = {None: (0.4, 0.3, 0.3), True: (0.60, 0.25, 0.15), False: (0.15, 0.25, 0.60)}


@dataclass(frozen=True)
class _Person:
    pseudonym: str
    altered: bool
    age_years: int
    sex: str
    location: str
    scanner: str
    h3_method: str
    scan_to_tissue_days: int


def make_cohort(
    folder: Path,
    settings: CohortSettings,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write (or finish writing) the cohort; returns the manifest's path.

    progress(done, all) is called after every case.  Refused when the folder holds another cohort.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, settings)
    people = _people(settings)
    missing = [p for p in people if not (folder / "truth" / p.pseudonym).exists()]
    done = len(people) - len(missing)
    if missing:
        with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_make_case, folder, settings, person) for person in missing]
            for future in as_completed(futures):
                future.result()
                done += 1
                if progress:
                    progress(done, len(people))
    return _write_manifest(folder, settings, people)


def _claim(folder: Path, settings: CohortSettings) -> None:
    """One folder, one cohort."""
    card = folder / "cohort.json"
    text = json.dumps(settings.as_dict(), indent=1)
    if not card.exists():
        card.write_text(text)
    elif card.read_text() != text:
        raise Refused(
            "another-cohort-here",
            field="cohort.json",
            problem="The folder holds a cohort of other settings.",
            fix="Choose another folder, or delete this one.",
            local=str(folder),
        )


def _people(settings: CohortSettings) -> list[_Person]:
    """All cases with their demographics, in the shuffled order that gives them their pseudonyms."""
    rng = stream(settings.seed, "people")
    drafts: list[tuple[bool, int, str, str, str]] = []
    for altered, cases in ((True, settings.altered), (False, settings.not_altered)):
        ages, sexes = draw_ages(altered, cases, rng), draw_sexes(altered, cases, rng)
        shares = np.array(SHARES[altered if settings.scanner_shortcut else None])
        ends = np.rint(np.cumsum(shares) * cases).astype(int)
        scanners = rng.permutation(np.repeat(list(SCANNERS), np.diff(ends, prepend=0)))
        for age, sex, scanner in zip(ages, sexes, scanners, strict=True):
            drafts.append((altered, age, sex, draw_location(altered, settings.effect, rng), str(scanner)))
    people = []
    for number, place in enumerate(rng.permutation(len(drafts)), start=1):
        altered, age, sex, location, scanner = drafts[place]
        method = str(rng.choice(["ihc", "sequencing", "both"], p=[0.5, 0.2, 0.3]))
        days = int(rng.integers(1, 30))
        people.append(_Person(f"case-{number:04d}", altered, age, sex, location, scanner, method, days))
    return people


def _make_case(folder: Path, settings: CohortSettings, person: _Person) -> None:
    """Render, acquire and write one case; its truth folder is renamed last and says that it is whole."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    rng = stream(settings.seed, "case", person.pseudonym)
    head = sculpt_head(rng, 2.0 if settings.size == "small" else 1.0)
    tumour = grow_tumour(head, person.location, altered=person.altered, effect=settings.effect, rng=rng)
    scenes = dict(zip(("t1ce", "flair"), render_scene(head, tumour, rng), strict=True))
    scanner = SCANNERS[person.scanner]
    motions = {"t1ce": draw_motion(rng, 1.5, 1.5), "flair": draw_motion(rng, 2.0, 2.0)}
    images = {
        name: acquire(scene, head.grid, scanner, scanner.spacing_mm(name, settings.size), motions[name], rng)
        for name, scene in scenes.items()
    }
    images_folder = _fresh(folder / "images" / f".{person.pseudonym}")
    for name, image in images.items():
        sitk.WriteImage(image, str(images_folder / f"{name}.nii.gz"))
        if settings.dicom:
            write_series(image, images_folder / name, scanner=scanner, sequence=name, pseudonym=person.pseudonym)
    truth = _fresh(folder / "truth" / f".{person.pseudonym}")
    for name, mask in (("tumour", tumour.whole), ("brain", (head.depth_mm <= 0).astype(np.float32))):
        on_t1ce = _on_grid_of(images["t1ce"], mask, head.grid, motions["t1ce"])
        sitk.WriteImage(on_t1ce, str(truth / f"{name}.nii.gz"), useCompression=True)
    for temporary in (images_folder, truth):
        final = temporary.with_name(person.pseudonym)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)


def _on_grid_of(reference: sitk.Image, mask: Volume, grid: sitk.Image, motion: sitk.Transform) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(grid)
    return sitk.Resample(image, reference, motion, sitk.sitkNearestNeighbor, 0)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write_manifest(folder: Path, settings: CohortSettings, people: list[_Person]) -> Path:
    path = folder / "manifest.csv"
    ending = "" if settings.dicom else ".nii.gz"
    beside = path.with_suffix(".new")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for p in people:
            cells = {
                **asdict(p),
                "t1ce_path": f"images/{p.pseudonym}/t1ce{ending}",
                "flair_path": f"images/{p.pseudonym}/flair{ending}",
                "mask_path": f"truth/{p.pseudonym}/tumour.nii.gz",
                "brain_mask_path": f"truth/{p.pseudonym}/brain.nii.gz",
                "label": "altered" if p.altered else "not_altered",
                "treated_before_scan": "no",
            }
            writer.writerow(cells)
    beside.replace(path)
    if settings.dicom:
        _write_sheet(folder, people)
    return path


def _write_sheet(folder: Path, people: list[_Person]) -> None:
    """What a hospital has beside its DICOM: `fedmidline-site init --dicom images --sheet clinical.csv`."""
    with (folder / "clinical.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SHEET_COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for p in people:
            days = timedelta(days=p.scan_to_tissue_days)
            writer.writerow({
                **asdict(p),
                "patient_id": patient_id(p.pseudonym),
                "label": "altered" if p.altered else "not_altered",
                "tissue_date": (STUDY_DATE + days).isoformat(),
                "treated_before_scan": "no",
                "mask_path": f"truth/{p.pseudonym}/tumour.nii.gz",
                "brain_mask_path": f"truth/{p.pseudonym}/brain.nii.gz",
            })  # fmt: skip
