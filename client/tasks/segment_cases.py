"""segment_cases: the cases the segmentation network sees: their images, their true masks, training or test.

    manifest -> read -> preprocess -> images in the prepared store -> where there is a true mask: a small volume

A true mask is the one that a reader accepted where the protocol requires a review, else the manifest's.  A case without
one is segmented but never trained on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from client.case import Case, CaseRow
from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.manifest import read_manifest
from client.ingest.read_case import input_fingerprint, read_case
from client.site import Site
from client.store.cohort import split_cases
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore
from client.store.salt import site_salt
from client.store.volume_store import VolumeStore
from client.tasks.around_a_case import around_a_case, worker_killed
from client.tasks.case_keys import case_keys, open_queue, review_required
from client.tasks.side_by_side import side_by_side
from common.errors import InputError, Refused, StudyError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from client.training.patches import TrainingVolumes

__all__ = [
    "CaseImages",
    "SegmentCase",
    "network_images",
    "prepare_images",
    "prepared_case",
    "save_volume",
    "segment_cases",
    "training_volumes",
    "true_mask",
]


@dataclass(frozen=True)
class SegmentCase:
    """images: its key in the prepared store; mask: fingerprint of a reader's accepted mask, empty for the manifest's;
    labelled: whether there is a true mask; volume: its key in the volume store.
    """

    row: CaseRow
    images: str
    mask: str
    labelled: bool
    test: bool
    volume: str


@dataclass(frozen=True)
class CaseImages:
    """Whether a case's images are ready; else code, reason and cure."""

    pseudonym: str
    status: Literal["ready", "set_aside"]
    code: str = ""
    reason: str = ""
    cure: str = ""


def segment_cases(site: Site) -> tuple[SegmentCase, ...]:
    """All eligible cases, in the manifest's order.

    The split is the manifest's where every row has one, else drawn over all eligible cases by the protocol's seed as the
    classifier's is; the two agree unless a case was quarantined on the way to its features.
    """
    rows = [row for row in read_manifest(site.settings.manifest, site=site.settings.name) if not row.excluded_because]
    if not rows:
        return ()
    book, images, volumes = _stores(site)
    reviewed = review_required(site)
    reviews = open_queue(site).cases() if reviewed else {}
    found = []
    for row, test in zip(rows, split_cases(rows, site.settings, site.protocol), strict=True):
        fingerprint = book.look_up(row, input_fingerprint)
        keys = case_keys(site, fingerprint, reviews.get(row.pseudonym))
        key = keys.preparation if reviewed else images.key(fingerprint, site.protocol.image_fingerprint())
        labelled = bool(keys.mask) if reviewed else bool(row.mask_path)
        volume = volumes.key(key, keys.mask, site.protocol.segmentation.working_mm)
        found.append(SegmentCase(row, key, keys.mask, labelled, bool(test), volume))
    book.save()
    return tuple(found)


def prepare_images(
    site: Site,
    cases: Sequence[SegmentCase],
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[CaseImages, ...]:
    """Images of all these cases, and the volumes of those with a true mask; what is there is not done again.

    A case that fails is set aside by name and the others go on.
    """
    _, images, volumes = _stores(site)
    work = {
        case.row.pseudonym: case
        for case in cases
        if not images.has(case.images) or (case.labelled and not volumes.has(case.volume))
    }
    outcomes = {case.row.pseudonym: CaseImages(case.row.pseudonym, "ready") for case in cases}
    done = len(cases) - len(work)
    progress(done, len(cases))
    workers = min(site.settings.workers or os.cpu_count() or 1, max(1, len(work)))
    for name, outcome in side_by_side(work, partial(_prepare_one, site=site), workers=workers):
        outcomes[name] = outcome or _set_aside(name, worker_killed())
        done += 1
        progress(done, len(cases))
    return tuple(outcomes[case.row.pseudonym] for case in cases)


def prepared_case(case: SegmentCase, site: Site) -> Case:
    """The case with its images on the analysis grid, computed where they are not in the store."""
    store = PreparedStore(site.settings.cache)
    if store.has(case.images):
        return store.load(case.images, case.row.pseudonym)
    if review_required(site):
        raise InputError(
            "nothing-prepared",
            case=case.row.pseudonym,
            field="cohort",
            problem="The case's images are not prepared.",
            fix="Run `fedmidline-site prepare` first: the protocol requires a review.",
        )
    from client.preprocess.preprocess import preprocess  # ANTs takes seconds

    cache = site.settings.cache
    folders = DicomFolders(salt=site_salt(cache), scratch=cache / ".scratch")
    found = preprocess(read_case(case.row, dicom=folders), site.protocol.preprocessing)
    store.save(case.images, found)
    return found


def true_mask(case: SegmentCase, images: Case, site: Site) -> sitk.Image:
    """On the analysis grid."""
    mask = open_queue(site).masks.get(case.mask) if case.mask else images.tumour_mask
    if mask is None:
        raise ValueError("only a labelled case has a true mask")
    return mask


def network_images(case: Case) -> tuple[sitk.Image, sitk.Image]:
    """What the network sees: the branch without bias correction, where there is one."""
    return case.network_t1ce or case.t1ce, case.network_flair or case.flair


def training_volumes(site: Site) -> TrainingVolumes:
    """The training cases whose volumes lie in the store; opens no test case.

    Refused `no-training-masks`, or `too-few-cases` below federation.min_cases.
    """
    from client.training.patches import TrainingVolumes, Volume

    store = VolumeStore(site.settings.cache)
    cases = [c for c in segment_cases(site) if c.labelled and not c.test and store.has(c.volume)]
    fewest, name = site.protocol.federation.min_cases, site.settings.name
    if not cases:
        raise Refused(
            "no-training-masks",
            site=name,
            field="mask_path",
            problem="No training case of the site has a true mask that is ready for the network.",
            fix="Name masks in the manifest, or accept reviewed ones, then run `fedmidline-site segment prepare`.",
        )
    if len(cases) < fewest:
        raise Refused(
            "too-few-cases",
            site=name,
            field="federation.min_cases",
            problem=f"The site has fewer than {fewest} training cases with a true mask.",
            fix="Add cases, or agree on a lower minimum in the protocol.",
        )
    return TrainingVolumes(tuple(Volume(*store.load(c.volume)) for c in cases), tuple(c.row.pseudonym for c in cases))


def _prepare_one(case: SegmentCase, site: Site) -> CaseImages:
    """In a worker process."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    fault = around_a_case(lambda: _images_and_volume(case, site))
    return CaseImages(case.row.pseudonym, "ready") if fault is None else _set_aside(case.row.pseudonym, fault)


def _images_and_volume(case: SegmentCase, site: Site) -> None:
    images = prepared_case(case, site)
    if case.labelled:
        save_volume(case, images, site)


def _set_aside(name: str, error: StudyError) -> CaseImages:
    return CaseImages(name, "set_aside", error.code, error.problem, error.fix)


def save_volume(case: SegmentCase, images: Case, site: Site) -> None:
    """Both sequences and the mask at the network's voxel size, cut to the brain; InputError `mask-outside-brain`."""
    import SimpleITK as sitk

    from client.segment.segment import brain_box, to_spacing

    spacing = site.protocol.segmentation.working_mm
    everything = (*network_images(images), images.brain_mask, true_mask(case, images, site))
    arrays = [sitk.GetArrayFromImage(to_spacing(image, spacing)) for image in everything]
    box = brain_box(arrays[2] > 0.5)
    mask = (arrays[3] > 0.5)[box]
    if not mask.any():
        raise InputError(
            "mask-outside-brain",
            case=case.row.pseudonym,
            field="mask_path",
            problem="Nothing of the mask lies in the brain at the network's voxel size.",
            fix="Check that the mask belongs to this case, or draw it anew.",
        )
    VolumeStore(site.settings.cache).save(case.volume, np.stack([a[box] for a in arrays[:2]]), mask)


def _stores(site: Site) -> tuple[FingerprintBook, PreparedStore, VolumeStore]:
    cache = site.settings.cache
    return FingerprintBook(cache), PreparedStore(cache), VolumeStore(cache)
