"""prepare_cohort: the hospital's pipeline, before any round; read it from top to bottom.

    manifest + site.yaml -> read -> preprocess -> segment (network | imported mask)
                         -> [review by a reader, where the protocol requires it; `prepare` again goes on]
                         -> radiomics, visual map -> store, picture

Cases run side by side in processes; one that fails is named and the others go on; what is finished is
never done again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from client.case import Case, CaseRow, StepRecord, methods_text
from client.ingest.dicom.read_dicom import DicomFolders
from client.ingest.manifest import read_manifest
from client.ingest.read_case import input_fingerprint, inputs_are_there, read_case
from client.site import Site
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore
from client.store.quarantine import Quarantined, write_quarantine
from client.store.salt import site_salt
from client.tasks.around_a_case import around_a_case, worker_killed
from client.tasks.case_keys import CaseKeys, case_keys, feature_keys, keeps_images, open_queue, review_required
from client.tasks.require_preprocessing import require_preprocessing
from client.tasks.segment_cases import network_images
from client.tasks.side_by_side import side_by_side
from common.arrays import FeatureArray
from common.disk_faults import disk_faults
from common.errors import InputError, StudyError
from common.seeds import stream

__all__ = ["CaseOutcome", "PreparationReport", "prepare_cohort"]

SCRATCH = ".scratch"
NETWORK_PROSE = {"unet": "A 2-channel U-Net", "segresnet": "A SegResNet with absent sequences set to zero"}


@dataclass(frozen=True)
class CaseOutcome:
    """reason: why excluded, quarantined or rejected, or where its review stands, for the hospital's screen; seconds by
    stage where it was computed.

    code, column of the manifest, cure: where a case was quarantined.
    """

    pseudonym: str
    status: Literal["prepared", "cached", "to_review", "rejected", "excluded", "quarantined"]
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


@dataclass(frozen=True)
class _Work:
    """One case to prepare, or to go on with: its keys say how far."""

    row: CaseRow
    keys: CaseKeys
    second_reader: bool = False


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
    require_preprocessing(site.protocol.preprocessing)
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    outcomes, work = _sort_out(rows, site)
    shutil.rmtree(site.settings.cache / SCRATCH, ignore_errors=True)  # what a killed run left
    progress(len(outcomes), len(rows), "")
    for outcome in _work_through(work, site, pictures):
        outcomes[outcome.pseudonym] = outcome
        progress(len(outcomes), len(rows), f"{outcome.pseudonym} {outcome.status}")
    shutil.rmtree(site.settings.cache / SCRATCH, ignore_errors=True)
    write_quarantine(site.settings.cache, [_set_aside(o) for o in outcomes.values() if o.status == "quarantined"])
    store = FeatureStore(site.settings.cache)
    keys = feature_keys(rows, site).values()
    methods = next((store.about(key)["methods"] for key in keys if store.has(key)), "")
    return PreparationReport(tuple(outcomes[row.pseudonym] for row in rows), methods)


def _sort_out(rows: tuple[CaseRow, ...], site: Site) -> tuple[dict[str, CaseOutcome], list[_Work]]:
    """The cases there is nothing to do for, and the work."""
    from client.tasks.review_gate import drop_if_changed, second_readers

    store, book, queue = FeatureStore(site.settings.cache), FingerprintBook(site.settings.cache), open_queue(site)
    reviews, twice = (queue.cases(), second_readers(rows, site)) if review_required(site) else ({}, frozenset())
    outcomes: dict[str, CaseOutcome] = {}
    work: list[_Work] = []
    for row in rows:
        name, review = row.pseudonym, reviews.get(row.pseudonym)
        if row.excluded_because:
            outcomes[name] = CaseOutcome(name, "excluded", row.excluded_because)
            continue
        fingerprint = book.look_up(row, input_fingerprint)
        if review is not None and inputs_are_there(row):  # a network drive that is away is not another examination
            review = drop_if_changed(review, case_keys(site, fingerprint, None).preparation, site, queue)
        keys = case_keys(site, fingerprint, review)
        complete = not site.protocol.training.encoder_rate or PreparedStore(site.settings.cache).has(keys.preparation)
        if keys.features and store.has(keys.features) and complete:
            outcomes[name] = CaseOutcome(name, "cached", warnings=tuple(store.about(keys.features)["warnings"]))
        elif review is not None and review.state == "rejected":
            outcomes[name] = CaseOutcome(name, "rejected", review.reason)
        elif review is not None and review.state not in ("draft", "accepted", "invalidated"):
            outcomes[name] = CaseOutcome(name, "to_review", review.state, warnings=review.material.flags)
        else:
            work.append(_Work(row, keys, name in twice))
    book.save()
    return outcomes, work


def _set_aside(outcome: CaseOutcome) -> Quarantined:
    """Without the local face of the error, which may hold a path."""
    reason = outcome.reason.splitlines()[0].partition(": ")[2]
    return Quarantined(outcome.pseudonym, outcome.code, outcome.column, reason, outcome.cure)


def _work_through(work: list[_Work], site: Site, pictures: bool) -> Iterator[CaseOutcome]:
    """Outcomes as they come."""
    workers = min(site.settings.workers or os.cpu_count() or 1, max(1, len(work)))
    cases = {case.row.pseudonym: case for case in work}
    for name, outcome in side_by_side(cases, partial(_prepare_case, site=site, pictures=pictures), workers=workers):
        yield outcome or _quarantined(cases[name].row, site, worker_killed(), {})


def _prepare_case(work: _Work, site: Site, pictures: bool) -> CaseOutcome:
    """One case in a worker process; its failure is an outcome, not an exception."""
    seconds = dict[str, float]()
    found = around_a_case(lambda: _pipeline(work, site, pictures, seconds))
    return found if isinstance(found, CaseOutcome) else _quarantined(work.row, site, found, seconds)


def _quarantined(row: CaseRow, site: Site, error: StudyError, seconds: dict[str, float]) -> CaseOutcome:
    error.case, error.site = row.pseudonym, site.settings.name
    reason = error.explain()
    return CaseOutcome(row.pseudonym, "quarantined", reason, error.code, error.field, error.fix, seconds=seconds)


def _pipeline(work: _Work, site: Site, pictures: bool, seconds: dict[str, float]) -> CaseOutcome:
    """Images and automatic mask; then, at once or when a reader's mask is accepted, the features."""
    # Imported here, in the worker: torch, ANTs and PyRadiomics take seconds to load and a hospital's
    # messages do not need them.
    import SimpleITK as sitk
    import torch

    from client.tasks.case_mosaic import draw_mosaic
    from client.tasks.case_picture import draw_case
    from client.tasks.case_quality import judge, with_mask_measures
    from client.tasks.review_gate import material_of

    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    name, keys, clock = work.row.pseudonym, work.keys, _Clock(seconds)
    prepared = PreparedStore(site.settings.cache)
    if prepared.has(keys.preparation):
        case = prepared.load(keys.preparation, name)
        clock.lap("read")
    else:
        case = with_mask_measures(_segmented(work.row, site, clock))
        if keeps_images(site):
            prepared.save(keys.preparation, case)
            clock.lap("keep")
    if keys.mask:
        record = StepRecord("review", "A radiologist corrected the mask and accepted it, blind to the label.")
        case = with_mask_measures(case.evolve(record, tumour_mask=open_queue(site).masks.get(keys.mask)))
    doubts = judge(dict(case.quality)).reasons
    if pictures:
        folder = site.settings.cache / "pictures"
        with disk_faults("cache"):
            draw_case(case, folder / f"{name}.png")
            draw_mosaic(case, folder / f"{name}.jpg", site.protocol.preprocessing.atlas)
    if not keys.features:
        material = material_of(case, keys.preparation, site, warnings=doubts, second_reader=work.second_reader)
        state = open_queue(site).enter(name, material).state
        return CaseOutcome(name, "to_review", state, warnings=material.flags, seconds=seconds)
    features = _measured(case, keys.features, site, doubts, clock)
    FeatureStore(site.settings.cache).save(keys.features, features)
    clock.lap("write")
    return CaseOutcome(name, "prepared", warnings=features.warnings, seconds=seconds)


def _segmented(row: CaseRow, site: Site, clock: _Clock) -> Case:
    """Read > preprocess > segment."""
    from client.device import choose_device
    from client.preprocess.preprocess import preprocess
    from client.segment.segment import segment_whole_tumour
    from client.segment.weights import load_network

    settings = site.protocol.segmentation
    cache = site.settings.cache
    case = read_case(row, dicom=DicomFolders(salt=site_salt(cache), scratch=cache / SCRATCH))
    clock.lap("read")
    case = preprocess(case, site.protocol.preprocessing, scratch=cache / SCRATCH)
    clock.lap("preprocess")
    if settings.source == "network":
        device = choose_device(site.settings.device)
        network = load_network(settings, device=device, installed=cache / "weights")
        sure: tuple[tuple[str, float], ...] = ()
        try:
            found = segment_whole_tumour(
                *network_images(case), case.brain_mask, settings, network=network, device=device
            )
            mask, sure = found.mask, (("uncertainty", found.uncertainty), ("volume_spread", found.volume_spread))
        except InputError as error:
            if not review_required(site) or error.code != "no-tumour-found":
                raise
            # The reader draws what the network missed.
            mask = case.brain_mask * 0  # type: ignore[operator]  # preprocess has set it
        record = StepRecord("segment", f"{NETWORK_PROSE[settings.network.architecture]} segmented the whole tumour.")
        case = case.evolve(record, tumour_mask=mask, quality=(*case.quality, *sure))
    elif case.tumour_mask is None:
        raise InputError(
            "mask-missing",
            field="mask_path",
            problem="The protocol takes imported masks and this case has none.",
            fix="Name it in the manifest, or set segmentation.source to network.",
        )
    clock.lap("segment")
    return case


def _measured(case: Case, key: str, site: Site, doubts: tuple[str, ...], clock: _Clock) -> CaseFeatures:
    """Radiomics and the visual map of the case's mask; key: of the features, names the perturbations' stream."""
    from client.device import choose_device
    from client.features.card import feature_versions
    from client.features.radiomics import extract_radiomics
    from client.features.visual import as_stored, extract_visual
    from client.segment.weights import load_visual_network

    protocol, device = site.protocol, choose_device(site.settings.device)
    radiomics = extract_radiomics(case.t1ce, case.flair, case.tumour_mask, protocol.radiomics)
    clock.lap("radiomics")
    repeats, more_doubts = _repeats(case, key, site)
    clock.lap("repeats")
    network = load_visual_network(protocol, device=device, installed=site.settings.cache / "weights")
    images = network_images(case)
    visual = extract_visual(*images, case.tumour_mask, protocol.visual, network=network, device=device)
    clock.lap("visual")
    return CaseFeatures(
        radiomics=radiomics.values,
        visual=as_stored(visual, protocol.visual),
        methods=methods_text(case.history),
        warnings=(*radiomics.warnings, *more_doubts, *doubts),
        quality=dict(case.quality),
        repeats=repeats,
        provenance={**feature_versions(), "feature_fingerprint": protocol.feature_fingerprint()},
    )


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


class _Clock:
    """Wall-clock seconds by stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap."""
        now = time.monotonic()
        self._seconds[stage], self._last = now - self._last, now
