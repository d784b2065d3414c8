"""prepare_cohort: the hospital's pipeline, before any round; read it from top to bottom.

    manifest + site.yaml -> read -> preprocess -> segment (network | imported mask)
                         -> radiomics, visual map -> store, picture

Cases run side by side in processes; one that fails is named and the others go on; what is finished is
never done again.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from client.case import Case, CaseRow, StepRecord, methods_text
from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.manifest import read_manifest
from client.ingest.read_case import input_fingerprint, read_case
from client.site import Site
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook
from client.store.quarantine import Quarantined, write_quarantine
from client.store.salt import site_salt
from common.arrays import FeatureArray
from common.errors import InputError, StudyError
from common.seeds import stream

__all__ = ["CaseOutcome", "PreparationReport", "prepare_cohort"]

SCRATCH = ".scratch"
THREADS = {
    "OMP_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "ANTS_RANDOM_SEED": "1",  # ANTs draws its samples from the clock otherwise
}


@dataclass(frozen=True)
class CaseOutcome:
    """reason: why excluded or quarantined, for the hospital's screen; seconds by stage where it was computed.

    code, column of the manifest, cure: where a case was quarantined.
    """

    pseudonym: str
    status: Literal["prepared", "cached", "excluded", "quarantined"]
    reason: str = ""
    code: str = ""
    column: str = ""
    cure: str = ""
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparationReport:
    """One outcome per case of the manifest, in its order; stays at the site."""

    outcomes: tuple[CaseOutcome, ...]
    methods: str

    def count(self, status: str) -> int:
        """How many cases ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)


def prepare_cohort(
    site: Site,
    *,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _text: None,
    pictures: bool = True,
) -> PreparationReport:
    """Prepare every eligible case of the site.

    A case that fails is quarantined and named in the cache's quarantine.json; the others go on.  InputError for a
    manifest that cannot be used, and for a cache that cannot be written (`disk-full`, `folder-read-only`).
    """
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    store, book = FeatureStore(site.settings.cache), FingerprintBook(site.settings.cache)
    outcomes: dict[str, CaseOutcome] = {}
    work: list[tuple[CaseRow, str]] = []
    for row in rows:
        if row.excluded_because:
            outcomes[row.pseudonym] = CaseOutcome(row.pseudonym, "excluded", row.excluded_because)
            continue
        key = store.key(book.look_up(row, input_fingerprint), site.protocol.feature_fingerprint())
        if store.has(key):
            outcomes[row.pseudonym] = CaseOutcome(row.pseudonym, "cached", warnings=tuple(store.about(key)["warnings"]))
        else:
            work.append((row, key))
    book.save()
    shutil.rmtree(site.settings.cache / SCRATCH, ignore_errors=True)  # what a killed run left
    progress(len(outcomes), len(rows), "")
    for outcome in _work_through(work, site, pictures):
        outcomes[outcome.pseudonym] = outcome
        progress(len(outcomes), len(rows), f"{outcome.pseudonym} {outcome.status}")
    shutil.rmtree(site.settings.cache / SCRATCH, ignore_errors=True)
    write_quarantine(site.settings.cache, [_set_aside(o) for o in outcomes.values() if o.status == "quarantined"])
    keys = (store.key(book.look_up(row, input_fingerprint), site.protocol.feature_fingerprint()) for row in rows)
    methods = next((store.about(key)["methods"] for key in keys if store.has(key)), "")
    return PreparationReport(tuple(outcomes[row.pseudonym] for row in rows), methods)


def _set_aside(outcome: CaseOutcome) -> Quarantined:
    """Without the local face of the error, which may hold a path."""
    reason = outcome.reason.splitlines()[0].partition(": ")[2]
    return Quarantined(outcome.pseudonym, outcome.code, outcome.column, reason, outcome.cure)


def _work_through(work: list[tuple[CaseRow, str]], site: Site, pictures: bool) -> Iterator[CaseOutcome]:
    """Outcomes as they come."""
    if not work:
        return
    workers = min(site.settings.workers or os.cpu_count() or 1, len(work))
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)  # the workers' libraries read them when they load
    try:
        left = {row.pseudonym: (row, key) for row, key in work}
        for outcome in _side_by_side(list(left.values()), workers, site, pictures):
            del left[outcome.pseudonym]
            yield outcome
        # A worker that was killed takes its neighbours' work with it: each of them gets a process of its own.
        for row, key in left.values():
            alone = list(_side_by_side([(row, key)], 1, site, pictures))
            yield alone[0] if alone else _killed(row)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _side_by_side(work: list[tuple[CaseRow, str]], workers: int, site: Site, pictures: bool) -> Iterator[CaseOutcome]:
    """Outcomes as they come; those whose worker was killed are missing."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            futures = [pool.submit(_prepare_case, row, key, site, pictures) for row, key in work]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            return


def _killed(row: CaseRow) -> CaseOutcome:
    """The operating system ended the worker twice, the second time with nothing beside it."""
    fix = "Give the machine more memory, or set `workers: 1` in the site file; the same command goes on."
    reason = f"worker-killed: The operating system ended the process that prepared the case.\n  fix:   {fix}"
    return CaseOutcome(row.pseudonym, "quarantined", reason, "worker-killed", cure=fix)


def _prepare_case(row: CaseRow, key: str, site: Site, pictures: bool) -> CaseOutcome:
    """One case in a worker process; its failure is an outcome, not an exception."""
    seconds: dict[str, float] = {}
    try:
        warnings = _pipeline(row, key, site, pictures, seconds)
    except StudyError as error:
        error.case, error.site = row.pseudonym, site.settings.name
        return CaseOutcome(
            row.pseudonym, "quarantined", error.explain(), error.code, error.field, error.fix, seconds=seconds
        )
    except Exception as error:  # noqa: BLE001  # a library's failure on one image must not stop the others
        return CaseOutcome(
            row.pseudonym,
            "quarantined",
            _place_of(error),
            "unexpected",
            cure="Report the place of the error.",
            seconds=seconds,
        )
    return CaseOutcome(row.pseudonym, "prepared", warnings=warnings, seconds=seconds)


def _place_of(error: Exception) -> str:
    """Type and lines of the code, without the text: a library may quote a header or a file name in it."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    lines = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"unexpected: {type(error).__name__} at {lines}"


def _pipeline(row: CaseRow, key: str, site: Site, pictures: bool, seconds: dict[str, float]) -> tuple[str, ...]:
    # Imported here, in the worker: torch, ANTs and PyRadiomics take seconds to load and a hospital's
    # messages do not need them.
    import SimpleITK as sitk
    import torch

    from client.device import choose_device
    from client.features.card import feature_versions
    from client.features.radiomics import extract_radiomics
    from client.features.visual import as_stored, extract_visual
    from client.preprocess.preprocess import preprocess
    from client.segment.segment import segment_whole_tumour
    from client.segment.weights import load_network
    from client.tasks.case_picture import draw_case

    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    protocol, device = site.protocol, choose_device(site.settings.device)
    clock = _Clock(seconds)
    cache = site.settings.cache
    case = read_case(row, dicom=DicomFolders(salt=site_salt(cache), scratch=cache / SCRATCH))
    clock.lap("read")
    case = preprocess(case, protocol.preprocessing)
    clock.lap("preprocess")
    network_images = (case.network_t1ce or case.t1ce, case.network_flair or case.flair)
    if protocol.segmentation.source == "network":
        mask = segment_whole_tumour(*network_images, case.brain_mask, protocol.segmentation, device=device)
        case = case.evolve(StepRecord("segment", "A 2-channel U-Net segmented the whole tumour."), tumour_mask=mask)
    elif case.tumour_mask is None:
        raise InputError(
            "mask-missing",
            field="mask_path",
            problem="The protocol takes imported masks and this case has none.",
            fix="Name it in the manifest, or set segmentation.source to network.",
        )
    clock.lap("segment")
    radiomics = extract_radiomics(case.t1ce, case.flair, case.tumour_mask, protocol.radiomics)
    clock.lap("radiomics")
    repeats, doubts = _repeats(case, site)
    clock.lap("repeats")
    network = load_network(protocol.segmentation, device=device)
    visual = extract_visual(*network_images, case.tumour_mask, protocol.visual, network=network, device=device)
    clock.lap("visual")
    warnings = (*radiomics.warnings, *doubts, *_doubts(case))
    features = CaseFeatures(
        radiomics=radiomics.values,
        visual=as_stored(visual, protocol.visual),
        methods=methods_text(case.history),
        warnings=warnings,
        quality=dict(case.quality),
        repeats=repeats,
        provenance={**feature_versions(), "feature_fingerprint": protocol.feature_fingerprint()},
    )
    if pictures:
        draw_case(case, site.settings.cache / "pictures" / f"{row.pseudonym}.png")
    FeatureStore(site.settings.cache).save(key, features)
    clock.lap("write")
    return warnings


def _repeats(case: Case, site: Site) -> tuple[FeatureArray | None, tuple[str, ...]]:
    """The case measured again; a tumour too small to shrink stays without, and says so."""
    from client.features.perturb import measure_repeats

    if not site.protocol.radiomics.perturbations or case.tumour_mask is None:
        return None, ()
    rng = stream(site.protocol.seed, site.settings.name, "perturb", case.pseudonym)
    try:
        return measure_repeats(case.t1ce, case.flair, case.tumour_mask, site.protocol.radiomics, rng), ()
    except InputError as error:
        return None, (f"stability not measured: {error.code}",)


def _doubts(case: Case) -> tuple[str, ...]:
    """Quality outside what is plausible for a head."""
    volume = dict(case.quality)["brain_volume_ml"]
    return () if 800 <= volume <= 2200 else (f"brain mask of {volume:.0f} ml; check the picture",)


class _Clock:
    """Wall-clock seconds by stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap."""
        now = time.monotonic()
        self._seconds[stage], self._last = now - self._last, now
