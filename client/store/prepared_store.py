"""prepared_store: preprocessed and segmented cases on the site's disk: what a reader looks at and features are cut from.

The key is the fingerprint of the input files and of the settings that make the images and the automatic mask;
the folder holds images, masks, the transform back to the native T1CE and what was done, and no name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import SimpleITK as sitk

from client.case import Case, StepRecord
from client.image_files import write_image
from common.disk_faults import disk_faults

__all__ = ["PreparedStore"]

IMAGES = ("t1ce", "flair", "brain_mask", "tumour_mask", "network_t1ce", "network_flair", "head_t1ce")
ABOUT, TRANSFORM = "case.json", "to_native.tfm"


class PreparedStore:
    """Folder `prepared` of the cache; a case is written beside and renamed, so it is there whole or not at all."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "prepared"

    def key(self, input_fingerprint: str, preparation_fingerprint: str) -> str:
        """Name of a case's folder."""
        return hashlib.sha256(f"{input_fingerprint}:{preparation_fingerprint}".encode()).hexdigest()[:32]

    def has(self, key: str) -> bool:
        """Whether the case is there."""
        return (self._folder / key).is_dir()

    def path(self, key: str, name: str) -> Path:
        """Where an image lies, by the name of Case's field."""
        return self._folder / key / f"{name}.nii.gz"

    def save(self, key: str, case: Case) -> None:
        """Write a case; images carry nothing but their geometry.  InputError `disk-full`, `folder-read-only`."""
        beside = self._folder / f".{key}"
        try:
            with disk_faults("cache"):
                self._save(key, beside, case)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _save(self, key: str, beside: Path, case: Case) -> None:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for name in IMAGES:
            image = getattr(case, name)
            if image is not None:
                write_image(image, beside / f"{name}.nii.gz")
        if case.to_native is not None:
            sitk.WriteTransform(case.to_native, str(beside / TRANSFORM))
        about = {"history": [asdict(record) for record in case.history], "quality": dict(case.quality)}
        (beside / ABOUT).write_text(json.dumps(about, indent=1))
        shutil.rmtree(self._folder / key, ignore_errors=True)
        beside.rename(self._folder / key)

    def load(self, key: str, pseudonym: str) -> Case:
        """The case as it was saved."""
        about = json.loads((self._folder / key / ABOUT).read_text())
        images = {name: sitk.ReadImage(str(self.path(key, name))) for name in IMAGES if self.path(key, name).exists()}
        history = tuple(
            StepRecord(r["name"], r["prose"], tuple((name, value) for name, value in r["parameters"]))
            for r in about["history"]
        )
        return Case(
            pseudonym=pseudonym,
            **images,
            to_native=self.to_native(key),
            history=history,
            quality=tuple(about["quality"].items()),
        )

    def quality(self, key: str) -> dict[str, float]:
        """The case's measures, without its images."""
        found: dict[str, float] = json.loads((self._folder / key / ABOUT).read_text())["quality"]
        return found

    def to_native(self, key: str) -> sitk.Transform | None:
        """Points of the analysis grid -> points of the native T1CE."""
        path = self._folder / key / TRANSFORM
        return sitk.ReadTransform(str(path)) if path.exists() else None

    def drop(self, key: str) -> None:
        """Forget a case that must be prepared again."""
        shutil.rmtree(self._folder / key, ignore_errors=True)
