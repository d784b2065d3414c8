"""learning_encoder: where the encoder learns (training.encoder_rate), a case's visual features change with every round:
they are cut and computed from the prepared images whenever a task needs them.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TypeVar

from client.device import choose_device
from client.features.visual import cut_out
from client.ingest.manifest import read_manifest
from client.segment.weights import load_network
from client.site import Site
from client.store.cohort import ScoredCases, TestCases, TrainingCases
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore
from client.tasks.case_keys import case_keys, open_queue, review_required
from client.tasks.segment_cases import network_images
from client.training.backbone import Backbone, encoder_part
from common.errors import Refused
from common.messages.model import ModelState

__all__ = ["backbone_of", "with_learned_maps"]

Cases = TypeVar("Cases", TrainingCases, TestCases)


def with_learned_maps(cases: Cases, model: ModelState, site: Site) -> Cases:
    """The cases with the features of this model's encoder; as they are where it is frozen, or without a case."""
    if not encoder_part(model.weights) or not len(cases.table):
        return cases
    return replace(cases, visual=backbone_of(cases, site).maps(model.weights))


def backbone_of(cases: ScoredCases, site: Site) -> Backbone:
    """The cases' cubes and the protocol's network.

    Refused `images-missing` where a case's prepared images are not there: it was prepared before the protocol let the
    encoder learn, or its features came from a table.
    """
    protocol, store = site.protocol, PreparedStore(site.settings.cache)
    device = choose_device(site.settings.device)
    rows = {row.pseudonym: row for row in read_manifest(site.settings.manifest, site=site.settings.name)}
    queue, book = open_queue(site), FingerprintBook(site.settings.cache)
    reviews = queue.cases() if review_required(site) else {}
    cubes, absent = [], []
    for name in cases.pseudonyms:
        known = book.find(rows[name])
        keys = None if known is None else case_keys(site, known, reviews.get(name))
        if keys is None or not store.has(keys.preparation):
            absent.append(name)
            continue
        case = store.load(keys.preparation, name)
        mask = queue.masks.get(keys.mask) if keys.mask else case.tumour_mask
        cubes.append(cut_out(*network_images(case), mask, protocol.visual))
    if absent:
        raise Refused(
            "images-missing",
            site=site.settings.name,
            field="training.encoder_rate",
            problem=f"The prepared images of {len(absent)} case(s) are not there.",
            fix="Run `fedmidline-site prepare` under this protocol; cases from tables have no images and cannot take part.",
            local=", ".join(absent),
        )
    # A copy: its weights are swapped while it runs, and sites in threads of one process share the loaded one.
    installed = site.settings.cache / "weights"
    network = deepcopy(load_network(protocol.segmentation, device=device, installed=installed))
    return Backbone(network, tuple(cubes), protocol.visual.variant == "pooled", device)
