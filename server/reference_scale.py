"""reference_scale: the protocol of a study with private statistics, made of a protocol and of what is known of cases that
anybody may know: public or simulated ones, or a release.

    a model's folder     the scale of its signature                       the fixed signature, found before
    a study's folder     the scale of every feature, and their ranking    votes among the best of them
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from common.catalogue import PAPER_SIGNATURE
from common.config.privacy import VotesSettings
from common.config.protocol import Protocol
from common.errors import InputError, ProtocolMismatch
from common.stats.selection import ranking
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.releases import read_model

__all__ = ["with_candidates", "with_reference"]

Scales = Iterable[tuple[float, float]]


def with_reference(protocol: Protocol, model_folder: Path, *, noise_multiplier: float) -> str:
    """The protocol as YAML with privacy.record_level.statistics for the fixed signature, not yet checked as a whole; what
    was left at its default is left out again.

    ProtocolMismatch `reference-differs` for a model of other features; InputError `privacy-absent` for a protocol without
    privacy.record_level, and those of server/releases.py.
    """
    _require_privacy(protocol)
    model, about, _ = read_model(model_folder, field="MODEL")
    same = about.get("feature_fingerprint") == protocol.feature_fingerprint()
    if not same or set(model.signature) != set(PAPER_SIGNATURE):
        raise _differs(
            "The model was made of features of another kind, or of another signature than the fixed one.",
            "Take a model of the same preprocessing, segmentation, radiomics and visual settings, trained with "
            "selection.method fixed_signature.",
        )
    radiomics = zip(model.signature, zip(model.radiomics_mean, model.radiomics_deviation, strict=True), strict=True)
    visual = zip(model.visual_mean, model.visual_deviation, strict=True)
    return _written(protocol, "fixed_signature", dict(radiomics), visual, {"noise_multiplier": noise_multiplier})


def with_candidates(
    protocol: Protocol, study_folder: Path, *, noise_multiplier: float, votes: VotesSettings, candidates: int
) -> str:
    """The same with votes among the `candidates` best features of a study without private statistics.

    Errors as above, `reference-unfinished` and those of server/checkpoint.py.
    """
    _require_privacy(protocol)
    if not (study_folder / CHECKPOINT).is_file():
        raise InputError(
            "reference-absent",
            field="MODEL",
            problem="For votes the scale of every feature is wanted, which no model holds but a study's checkpoint.",
            fix="Name the folder of a study of public or simulated cases, with its study.yaml and checkpoint.",
            local=str(study_folder),
        )
    state = load_checkpoint(study_folder / CHECKPOINT)
    moments, selection = state.moments, state.selection
    if moments is None or selection is None or not selection.scores.any():
        raise InputError(
            "reference-unfinished",
            field="MODEL",
            problem="The study has not ranked its features: it is not finished, or its signature was not chosen on its cases.",
            fix="Let it finish, or take one with selection.method mutual_information.",
        )
    if state.protocol.feature_fingerprint() != protocol.feature_fingerprint():
        raise _differs(
            "The study was made of features of another kind.",
            "Take a study of the same preprocessing, segmentation, radiomics and visual settings.",
        )
    names = protocol.radiomics.names()
    best = ranking(names, selection.scores)[:candidates]
    radiomics = {names[i]: (moments.radiomics_mean[i], moments.radiomics_deviation[i]) for i in best}
    visual = zip(moments.visual_mean, moments.visual_deviation, strict=True)
    beside = {"noise_multiplier": noise_multiplier, "votes": votes.model_dump(mode="json")}
    return _written(protocol, "votes", radiomics, visual, beside)


def _written(
    protocol: Protocol, method: str, radiomics: dict[str, tuple[float, float]], visual: Scales, beside: dict[str, Any]
) -> str:
    statistics: dict[str, Any] = {
        **beside,
        "radiomics": {name: _rounded(*scale) for name, scale in sorted(radiomics.items())},
        "visual": [] if protocol.visual.variant == "none" else [_rounded(*scale) for scale in visual],
    }
    settings = protocol.model_dump(mode="json", exclude_unset=True)
    settings["selection"] = {**settings.get("selection", {}), "method": method}
    settings["privacy"]["record_level"]["statistics"] = statistics
    return yaml.safe_dump(settings, sort_keys=False)


def _require_privacy(protocol: Protocol) -> None:
    if protocol.privacy.record_level is None:
        raise InputError(
            "privacy-absent",
            field="privacy.record_level",
            problem="The protocol has no record-level privacy, so its statistics carry no noise either.",
            fix="Add privacy.record_level with target_epsilon or noise_multiplier to the protocol.",
        )


def _differs(problem: str, fix: str) -> ProtocolMismatch:
    return ProtocolMismatch("reference-differs", field="features, signature", problem=problem, fix=fix)


def _rounded(mean: float, deviation: float) -> list[float]:
    return [float(f"{value:.6g}") for value in (mean, deviation)]
