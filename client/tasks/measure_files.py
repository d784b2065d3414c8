"""measure_files: the features of image files as they are, outside any study (`fedmidline-site features`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from client.features.parameter_file import extract_with_parameters, read_parameters
from client.features.radiomics import extract_radiomics
from client.image_files import UNREADABLE
from client.ingest.read_case import has_finite_voxels
from common.catalogue import PAPER_SIGNATURE, SEQUENCES
from common.config.radiomics import PRESET_NAMES, RadiomicsSettings
from common.errors import ConfigError, InputError

__all__ = ["MeasuredFiles", "measure_files"]


@dataclass(frozen=True)
class MeasuredFiles:
    """values: by catalogue name; warnings: what makes some of them doubtful."""

    values: dict[str, float]
    warnings: tuple[str, ...]


def measure_files(
    t1ce: Path,
    flair: Path | None,
    mask: Path,
    *,
    preset: str | None = None,
    parameter_file: Path | None = None,
    signature_only: bool = False,
    label: str | None = None,
) -> MeasuredFiles:
    """Measure with one of a preset and a parameter file; ConfigError where it is neither or both."""
    if (preset is None) == (parameter_file is None):
        raise ConfigError(
            "settings-missing",
            field="--preset, --settings",
            problem="Exactly one of a preset and a parameter file is needed.",
            fix=f"Give --preset with one of {', '.join(PRESET_NAMES)}, or --settings with a file.",
        )
    images = {name: _read(path, name) for name, path in zip(SEQUENCES, (t1ce, flair), strict=True) if path}
    region, chosen = _region(_read(mask, "mask"), label)
    names = tuple(n for n in PAPER_SIGNATURE if n.split("_")[0] in images) if signature_only else None
    if parameter_file is not None:
        return _by_file(images, region, parameter_file, names, chosen)
    settings = RadiomicsSettings(preset=_known(preset))
    found = extract_radiomics(images["T1CE"], images.get("FLAIR"), region, settings, features=names, label=chosen)
    return MeasuredFiles(dict(zip(found.names, map(float, found.values), strict=True)), found.warnings)


def _by_file(
    images: dict[str, sitk.Image],
    region: sitk.Image,
    parameter_file: Path,
    names: tuple[str, ...] | None,
    label: int | None,
) -> MeasuredFiles:
    try:
        text = parameter_file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable("settings", parameter_file, error) from None
    parameters = read_parameters(text, source=str(parameter_file))
    if label is not None:
        parameters = replace(parameters, settings={**parameters.settings, "label": label})
    values: dict[str, float] = {}
    warnings: tuple[str, ...] = ()
    for sequence, image in images.items():
        only = None if names is None else tuple(name for name in names if name.startswith(sequence))
        found, doubts = extract_with_parameters(image, region, parameters, sequence=sequence, only=only)
        values.update(found)
        warnings += doubts
    return MeasuredFiles(values, tuple(dict.fromkeys(warnings)))


def _region(mask: sitk.Image, label: str | None) -> tuple[sitk.Image, int | None]:
    """The mask, and the label to take; `any` merges all labels into 1."""
    if label is None:
        return mask, None
    if label == "any":
        return sitk.Cast(mask != 0, sitk.sitkUInt8), 1
    if not label.isdecimal() or int(label) == 0:
        raise ConfigError(
            "label-not-a-number",
            field="--label",
            problem="A label is a whole number from 1, or `any`.",
            fix="Give --label 1, or --label any.",
        )
    return mask, int(label)


def _read(path: Path, name: str) -> sitk.Image:
    """Any format; NIfTI is read twice, because ITK takes NaN in it for 0 and a truncated file for zeros."""
    try:
        finite = not path.name.endswith((".nii", ".nii.gz")) or has_finite_voxels(path)
        image = sitk.ReadImage(str(path))
    except UNREADABLE as error:
        raise _unreadable(name, path, error) from None
    if not finite:
        raise InputError(
            "image-not-finite",
            field=name,
            problem="The file holds NaN or infinite voxels.",
            fix="Export it again, or mask them out.",
            local=str(path),
        )
    return image


def _unreadable(name: str, path: Path, error: Exception) -> InputError:
    return InputError(
        "file-unreadable",
        field=name,
        problem="The file is missing or of a format that cannot be read.",
        fix="Check the path; images may have any format SimpleITK reads.",
        local=f"{path}: {error}",
    )


def _known(preset: str | None) -> Any:
    if preset not in PRESET_NAMES:
        raise ConfigError(
            "preset-unknown",
            field="--preset",
            problem="There is no preset of this name.",
            fix=f"Choose one of {', '.join(PRESET_NAMES)}.",
        )
    return preset
