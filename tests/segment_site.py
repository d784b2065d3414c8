"""segment_site: hospitals with tiny prepared heads and their true masks, for the segmentation network, made in a second."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml

from client.case import Case, StepRecord
from client.ingest.manifest import COLUMNS
from client.site import Site, open_site
from client.store.prepared_store import PreparedStore
from client.tasks.segment_cases import save_volume, segment_cases
from common.config.protocol import Protocol
from common.config.visual import VisualSettings
from tests.builders import OPEN_DOOR, Federation, small_protocol

EDGE = 40
NETWORK = {"architecture": "unet", "channels": [4, 8, 8, 16]}
TRAINING = {"local_epochs": 1, "rounds": 3, "patch_voxels": 32, "learning_rate": 1e-2}

__all__ = ["NETWORK", "TRAINING", "head", "segment_protocol", "write_segment_federation", "write_segment_site"]


def segment_protocol(training: dict[str, object] | None = None, **segmentation: object) -> Protocol:
    """A network of a few thousand weights."""
    settings = {"network": NETWORK, "training": TRAINING | (training or {}), **segmentation}
    return small_protocol(segmentation=settings, visual=VisualSettings(crop_voxels=16, dtype="float32", channels=16))


def head(seed: int, pseudonym: str = "") -> Case:
    """A brain with a lump that is bright in FLAIR; its mask is true."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((EDGE,) * 3)
    brain = (z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 18**2
    place, radius = rng.integers(13, 27, 3), rng.integers(4, 8)
    lump = (z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2 < radius**2
    pair = [rng.standard_normal(brain.shape) * 0.3 + lump * height for height in (0.5, 3.0)]
    images = [_image(np.where(brain, (p - p[brain].mean()) / p[brain].std(), 0).astype(np.float32)) for p in pair]
    masks = [_image(array.astype(np.uint8)) for array in (brain, lump & brain)]
    return Case(pseudonym, *images, *masks, history=(StepRecord("made", "Made for a test."),), quality=())


def write_segment_site(folder: Path, name: str, protocol: Protocol, cases: int, *, seed: int, without: int = 0) -> Path:
    """A hospital whose images are prepared; a quarter of its cases are test cases, the first `without` have no mask."""
    home = folder / name
    home.mkdir(parents=True)
    rows = []
    for number in range(cases):
        image = home / f"{number}.nii.gz"
        image.write_bytes(f"{name} {number}".encode())
        rows.append(
            dict.fromkeys(COLUMNS, "")
            | {"pseudonym": f"{name}-{number}", "t1ce_path": image.name, "flair_path": image.name}
            | {"mask_path": image.name if number >= without else "", "label": ("altered", "not_altered")[number % 2]}
            | {"split": "test" if number % 4 == 3 else "train"}
        )
    with (home / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "split"])
        writer.writeheader()
        writer.writerows(rows)
    (home / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    settings = {"name": name, "protocol": "protocol.yaml", "manifest": "manifest.csv", "ethics_id": "synthetic"}
    (home / "site.yaml").write_text(yaml.safe_dump({**settings, "workers": 1, "egress": OPEN_DOOR}))
    _fill(open_site(home / "site.yaml"), seed)
    return home / "site.yaml"


def write_segment_federation(folder: Path, protocol: Protocol, sizes: dict[str, int]) -> Federation:
    """A study of the segmentation network over hospitals of these sizes."""
    sites = {
        name: write_segment_site(folder / "sites", name, protocol, n, seed=100 * i)
        for i, (name, n) in enumerate(sizes.items())
    }
    study = folder / "study" / "study.yaml"
    study.parent.mkdir()
    (study.parent / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    content = {"name": "trial", "protocol": "protocol.yaml", "sites": list(sizes), "trains": "segmentation"}
    study.write_text(yaml.safe_dump(content))
    return Federation(study, sites, protocol)


def _fill(site: Site, seed: int) -> None:
    """What `fedmidline-site segment prepare` does, with images made here."""
    store = PreparedStore(site.settings.cache)
    for number, case in enumerate(segment_cases(site)):
        images = head(seed + number, case.row.pseudonym)
        store.save(case.images, images)
        if case.labelled:
            save_volume(case, images, site)


def _image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 2.0))
    return image
