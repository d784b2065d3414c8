"""qualify: the site says whether it runs this protocol and with how many cases."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from client.site import Site
from client.store.cohort import SiteCohort
from client.store.prepared_store import PreparedStore
from client.store.split_book import SplitBook
from client.tasks.load_cohort import case_design, load_cohort
from client.tasks.require_noise import require_noise
from common.arrays import CaseFlags, FeatureVector
from common.errors import ProtocolMismatch, Refused
from common.messages.qualify import QualifyReply, QualifyRequest

__all__ = ["answer"]

PACKAGES = ("flwr", "torch", "numpy", "scipy", "pyradiomics", "PyWavelets", "SimpleITK", "antspyx")


def answer(request: QualifyRequest, site: Site) -> QualifyReply:
    """Refuse another protocol (naming the fields), other feature values, one class only, or too few cases."""
    name, protocol = site.settings.name, site.protocol
    if request.fingerprint != protocol.fingerprint():
        fields = _differences(request.protocol, protocol.model_dump(mode="json"))
        raise ProtocolMismatch(
            "protocol-differs",
            field=", ".join(fields),
            site=name,
            problem="The site's protocol differs from the study's in these fields.",
            fix="Install the study's protocol file at the site.",
        )
    if request.trains == "segmentation":
        require_noise("segment_round", site)
        return _with_masks(site)
    phantom = _check_values(site)
    cohort = load_cohort(site, visual=False)
    training = _by_class(cohort.training.table.altered)
    if min(training) == 0:
        raise Refused(
            "one-class-only",
            field="label",
            site=name,
            problem="All of the site's training cases have the same label.",
            fix="A site needs altered and not altered cases.",
        )
    if sum(training) < protocol.federation.min_cases:
        raise Refused(
            "too-few-cases",
            field="federation.min_cases",
            site=name,
            problem=f"The site has fewer than {protocol.federation.min_cases} training cases.",
            fix="Add cases, or agree on a lower minimum in the protocol.",
        )
    _remember_split(site, cohort.training.pseudonyms, cohort.test.pseudonyms)
    return QualifyReply(
        site=name,
        # Labels of training cases are part of what record-level privacy hides; how many cases there are is not.
        training_cases=training if protocol.privacy.record_level is None else (sum(training),),
        test_cases=_by_class(cohort.test.table.altered),
        batches=_batches(site, cohort),
        versions={"python": platform.python_version(), **_versions()},
        phantom=phantom,
    )


def _remember_split(site: Site, training: Iterable[str], test: Iterable[str]) -> None:
    """So that a case which this study learns from is never tested by a later one that goes on from it."""
    sides = dict.fromkeys(training, False) | dict.fromkeys(test, True)
    protocol, settings = site.protocol, site.settings
    fraction = protocol.split.test_fraction
    SplitBook(settings.cache, site=settings.name, seed=protocol.seed, test_fraction=fraction).remember(sides)


def _with_masks(site: Site) -> QualifyReply:
    """Counts of the cases the segmentation network may learn from and be judged by; refuses as `training_volumes`."""
    from client.tasks.segment_cases import segment_cases, training_volumes

    fitted = set(training_volumes(site).names)
    ready = PreparedStore(site.settings.cache)
    cases = [case for case in segment_cases(site) if case.labelled and ready.has(case.images)]

    tested = {case.row.pseudonym for case in cases if case.test}
    _remember_split(site, fitted, tested)

    def counts(pseudonyms: set[str]) -> tuple[int, int]:
        return _by_class(np.array([case.row.altered for case in cases if case.row.pseudonym in pseudonyms], dtype=bool))

    return QualifyReply(
        site=site.settings.name,
        training_cases=counts(fitted),
        test_cases=counts(tested),
        versions={"python": platform.python_version(), **_versions()},
    )


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def _batches(site: Site, cohort: SiteCohort) -> tuple[str, ...]:
    if site.protocol.harmonisation.method != "combat":
        return ()
    return tuple(sorted(set(case_design(site, cohort.training.pseudonyms).batch)))


def _check_values(site: Site) -> FeatureVector:
    """The site's features of the phantom; ProtocolMismatch `features-differ` names the one that differs most."""
    from client.features.phantom import check_phantom, measure_phantom  # SimpleITK, for this message only

    difference = check_phantom(site.protocol.radiomics)
    if difference is not None:
        raise ProtocolMismatch(
            "features-differ",
            field=difference.feature,
            site=site.settings.name,
            problem=f"On the reference phantom the site's value differs by {difference.relative:.1e} of the expected one; "
            f"{difference.features} feature(s) differ.",
            fix="Install the packages as pinned in requirements.txt.",
        )
    return measure_phantom(site.protocol.radiomics)


def _by_class(altered: CaseFlags) -> tuple[int, int]:
    return int(np.sum(altered)), int(np.sum(~altered))


def _differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """Names of the settings in which two protocols differ, without their values."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return [
            name
            for key in sorted(set(theirs) | set(ours))
            if not (path == "" and key == "name")
            for name in _differences(theirs.get(key), ours.get(key), f"{path}{key}.")
        ]
    return [] if theirs == ours else [path.rstrip(".")]
