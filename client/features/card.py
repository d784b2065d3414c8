"""card: what the features are: settings, versions, fingerprint, and where they differ from the IBSI definitions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from common.catalogue import FEATURES_BY_CLASS, SEQUENCES
from common.config.radiomics import RadiomicsSettings

__all__ = ["card_markdown", "feature_card", "feature_versions"]

PACKAGES = ("pyradiomics", "numpy", "scipy", "PyWavelets", "SimpleITK")

NOTES: dict[str, str] = {
    "discretisation": "A fixed bin width starts at a multiple of the width, not at the ROI's minimum as IBSI's fixed bin "
    "size does. A fixed bin count is IBSI's fixed bin number.",
    "wavelet": "Undecimated, separable, one level, periodic border. It is not the IBSI 2 filter: no rotation "
    "invariance, and the letters are axes x, y, z of the image. Its coefficients have changed between PyRadiomics versions.",
    "shape": "Mesh of marching cubes at half a voxel. VoxelVolume is IBSI's approximate volume; the three "
    "Maximum2DDiameter are not in IBSI. The same for both sequences, since they share one mask.",
    "firstorder": "Kurtosis is not reduced by 3. TotalEnergy is not in IBSI. Entropy and Uniformity are IBSI's "
    "intensity-histogram entropy and uniformity, after discretisation.",
    "glcm": "Symmetrical; every feature is the mean over thirteen directions (four in two dimensions), not taken from a "
    "merged matrix. SumAverage is twice JointAverage. MCC is not in IBSI 1. Correlation of a constant ROI is 1.",
    "gldm": "IBSI's neighbouring grey-level dependence matrix with coarseness 0 and distance 1; its size counts the voxel itself.",
    "glrlm": "Mean over directions; a direction without two voxels in a line is left out.",
    "glszm": "Zones connect by face, edge or corner.",
    "ngtdm": "A voxel without neighbours in the ROI counts with difference 0. Coarseness of a constant ROI is 10^6.",
    "resampling": "None: images and masks are resampled once, before, by the preprocessing protocol.",
    "re-segmentation": "None: no outlier filter, no intensity range.",
}


def feature_versions() -> dict[str, str]:
    """What every row of features was computed with."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def feature_card(settings: RadiomicsSettings, *, fingerprint: str) -> dict[str, Any]:
    """fingerprint: of all settings that change a feature (`Protocol.feature_fingerprint`)."""
    return {
        "features": len(settings.names()),
        "sequences": list(SEQUENCES),
        "filters": list(settings.filters),
        "classes": {family: len(names) for family, names in FEATURES_BY_CLASS.items()},
        "definition": "PyRadiomics 3.0.1, equal to its own extractor to a relative 1e-9",
        "settings": settings.model_dump(mode="json"),
        "fingerprint": fingerprint,
        "versions": feature_versions(),
        "notes": dict(NOTES),
    }


def card_markdown(card: Mapping[str, Any]) -> str:
    """The same for people; sections `stability` and `redundancy` where the card has them."""
    lines = [
        "# Feature card",
        "",
        f"{card['features']} radiomics features of {' and '.join(card['sequences'])}: {card['definition']}.",
        f"Fingerprint of the settings: `{card['fingerprint']}`",
        "",
        *_table("Settings", card["settings"]),
        *_table("Versions", card["versions"]),
        *_table("Features per image, by class", card["classes"]),
        "## Where they differ from IBSI",
        *[f"- **{topic}**: {note}" for topic, note in card["notes"].items()],
        "",
    ]
    for section, title in (("redundancy", "Redundancy"), ("stability", "Stability")):
        if section in card:
            lines += _table(title, card[section])
    return "\n".join(lines)


def _table(title: str, rows: Mapping[str, Any]) -> list[str]:
    return [
        f"## {title}",
        "",
        "| | |",
        "|---|---|",
        *[f"| {key} | {_cell(value)} |" for key, value in rows.items()],
        "",
    ]


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "<br>".join(", ".join(map(str, row)) if isinstance(row, list | tuple) else str(row) for row in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
