"""reference_scale: the protocol of a study with private statistics, made of a protocol and of a model whose scale anybody may
know: one of public or simulated cases, or a release.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.catalogue import PAPER_SIGNATURE
from common.config.protocol import Protocol
from common.errors import InputError, ProtocolMismatch
from server.releases import read_model

__all__ = ["with_reference"]


def with_reference(protocol: Protocol, model_folder: Path, *, noise_multiplier: float) -> str:
    """The protocol as YAML with privacy.record_level.statistics, not yet checked as a whole; what was left at its default is
    left out again.

    ProtocolMismatch `reference-differs` for a model of other features; InputError `privacy-absent` for a protocol without
    privacy.record_level, and those of server/releases.py.
    """
    if protocol.privacy.record_level is None:
        raise InputError(
            "privacy-absent",
            field="privacy.record_level",
            problem="The protocol has no record-level privacy, so its statistics carry no noise either.",
            fix="Add privacy.record_level with target_epsilon or noise_multiplier to the protocol.",
        )
    model, about, _ = read_model(model_folder, field="MODEL")
    if about.get("feature_fingerprint") != protocol.feature_fingerprint() or set(model.signature) != set(
        PAPER_SIGNATURE
    ):
        raise ProtocolMismatch(
            "reference-differs",
            field="features, signature",
            problem="The model was made of features of another kind, or of another signature than the fixed one.",
            fix="Take a model of the same preprocessing, segmentation, radiomics and visual settings, trained with "
            "selection.method fixed_signature.",
        )
    radiomics = zip(model.signature, model.radiomics_mean, model.radiomics_deviation, strict=True)
    visual = zip(model.visual_mean, model.visual_deviation, strict=True)
    statistics: dict[str, Any] = {
        "noise_multiplier": noise_multiplier,
        "radiomics": {name: _rounded(*scale) for name, *scale in sorted(radiomics)},
        "visual": [] if protocol.visual.variant == "none" else [_rounded(*scale) for scale in visual],
    }
    settings = protocol.model_dump(mode="json", exclude_unset=True)
    settings["selection"] = {**settings.get("selection", {}), "method": "fixed_signature"}
    settings["privacy"]["record_level"]["statistics"] = statistics
    return yaml.safe_dump(settings, sort_keys=False)


def _rounded(mean: float, deviation: float) -> list[float]:
    return [float(f"{value:.6g}") for value in (mean, deviation)]
