"""prepare_cohort: the hospital's pipeline, before any round; read it from top to bottom.

    manifest + site.yaml -> read -> preprocess -> segment (network | imported mask)
                         -> radiomics, visual map -> store, picture

Cases run side by side in processes; one that fails is named and the others go on; what is finished is
never done again.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Literal

from client.case import Case, CaseRow, StepRecord, methods_text
from client.ingest.manifest import read_manifest
from client.ingest.read_case import input_fingerprint, read_case
from client.site import Site
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook
from common.arrays import FeatureArray
from common.errors import InputError, StudyError
from common.seeds import stream

__all__ = ["CaseOutcome", "PreparationReport", "prepare_cohort"]

THREADS = {
    "OMP_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "ANTS_RANDOM_SEED": "1",  # ANTs draws its samples from the clock otherwise
}


@dataclass(frozen=True)
class CaseOutcome:
    """code and local text only where a case failed; seconds by stage where it was computed."""

    pseudonym: str
    status: Literal["prepared", "cached", "excluded", "failed"]
    reason: str = ""
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
    """Prepare every eligible case of the site; InputError only for a manifest that cannot be used."""
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
    progress(len(outcomes), len(rows), "")
    for outcome in _work_through(work, site, pictures):
        outcomes[outcome.pseudonym] = outcome
        progress(len(outcomes), len(rows), f"{outcome.pseudonym} {outcome.status}")
    keys = (store.key(book.look_up(row, input_fingerprint), site.protocol.feature_fingerprint()) for row in rows)
    methods = next((store.about(key)["methods"] for key in keys if store.has(key)), "")
    return PreparationReport(tuple(outcomes[row.pseudonym] for row in rows), methods)


def _work_through(work: list[tuple[CaseRow, str]], site: Site, pictures: bool) -> Iterator[CaseOutcome]:
    """Outcomes as they come."""
    if not work:
        return
    workers = min(site.settings.workers or os.cpu_count() or 1, len(work))
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)  # the workers' libraries read them when they load
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_prepare_case, row, key, site, pictures) for row, key in work]
            for future in as_completed(futures):
                yield future.result()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _prepare_case(row: CaseRow, key: str, site: Site, pictures: bool) -> CaseOutcome:
    """One case in a worker process; its failure is an outcome, not an exception."""
    seconds: dict[str, float] = {}
    try:
        warnings = _pipeline(row, key, site, pictures, seconds)
    except StudyError as error:
        error.case, error.site = row.pseudonym, site.settings.name
        return CaseOutcome(row.pseudonym, "failed", error.explain(), seconds=seconds)
    except Exception:  # noqa: BLE001  # a library's failure on one image must not stop the others
        return CaseOutcome(row.pseudonym, "failed", traceback.format_exc(), seconds=seconds)
    return CaseOutcome(row.pseudonym, "prepared", warnings=warnings, seconds=seconds)


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
    case = read_case(row)
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
    repeats, doubts = _repeats(case, key, site)
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


def _repeats(case: Case, key: str, site: Site) -> tuple[FeatureArray | None, tuple[str, ...]]:
    """The case measured again; a tumour too small to shrink stays without, and says so."""
    from client.features.perturb import measure_repeats

    if not site.protocol.radiomics.perturbations or case.tumour_mask is None:
        return None, ()
    rng = stream(0, "perturb", key)  # of the images and settings alone: the same wherever the case is prepared
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
