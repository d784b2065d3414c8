"""review_site: a hospital with prepared cases that wait for a reader, made in a second, without a real image."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml

from client.case import Case, StepRecord
from client.image_files import write_image
from client.ingest.manifest import COLUMNS, read_manifest
from client.ingest.read_case import input_fingerprint
from client.review.states import ReviewCase
from client.site import Site, open_site
from client.store.fingerprints import FingerprintBook
from client.store.prepared_store import PreparedStore
from client.tasks.case_keys import case_keys, open_queue
from client.tasks.review_case import accept_case, finish_case, open_case
from client.tasks.review_gate import material_of
from tests.builders import small_protocol

SIZE, SPACING = (72, 84, 72), 2.0
TO_NATIVE = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.05, -0.03, 0.08, (3.0, -2.0, 1.0))


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Voxels within, as z y x; arguments are x y z in voxels."""
    z, y, x = np.indices(SIZE[::-1])
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip((x, y, z), centre, radii, strict=True)) <= 1


def on_grid(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([SPACING] * 3)
    image.SetOrigin((-70.0, -80.0, -60.0))
    return image


def prepared_case(seed: int) -> Case:
    """A brain with a bright lump on its left side; the automatic mask is a little too small."""
    rng = np.random.default_rng(seed)
    brain = ellipsoid((36, 42, 36), (30, 36, 28))
    place = (48 + seed % 3, 40, 38)
    lump = ellipsoid(place, (8, 8, 8))
    t1ce, flair = (rng.standard_normal(SIZE[::-1]) * 0.3 + lump * height for height in (1.0, 3.0))
    images = [on_grid(np.where(brain, array, 0).astype(np.float32)) for array in (t1ce, flair)]
    masks = [on_grid(array.astype(np.uint8)) for array in (brain, ellipsoid(place, (7, 7, 7)))]
    history = (StepRecord("made", "Made for a test.", (("seed", str(seed)),)),)
    quality = (("brain_volume_ml", 1000.0), ("uncertainty", 0.1 * seed))
    return Case("", *images, *masks, to_native=TO_NATIVE, history=history, quality=quality)


def write_review_site(folder: Path, cases: int, *, second_reader_fraction: float = 0.0) -> Path:
    """The site's file; half of the cases are altered, and every one waits for a reader."""
    home = folder / "hospital"
    home.mkdir(parents=True)
    segmentation = {"review": "required", "second_reader_fraction": second_reader_fraction}
    protocol = small_protocol(segmentation=segmentation)
    (home / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    path = home / "site.yaml"
    path.write_text(yaml.safe_dump({"name": "hospital", "protocol": "protocol.yaml", "manifest": "manifest.csv"}))
    rows = []
    for number in range(cases):
        (home / f"{number}.nii.gz").write_bytes(f"image {number}".encode())
        cells = {"pseudonym": f"case-{number:02}", "label": ("altered", "not_altered")[number % 2]}
        files = {"t1ce_path": f"{number}.nii.gz", "flair_path": f"{number}.nii.gz"}
        rows.append(dict.fromkeys(COLUMNS, "") | cells | files | {"location": "thalamus", "h3_method": "sequencing"})
    with (home / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    enter_all(open_site(path))
    return path


def enter_all(site: Site) -> None:
    """What `prepare` does for each case, with an image made here."""
    from client.tasks.review_gate import second_readers

    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    book, store, twice = (
        FingerprintBook(site.settings.cache),
        PreparedStore(site.settings.cache),
        second_readers(rows, site),
    )
    for number, row in enumerate(rows):
        key = case_keys(site, book.look_up(row, input_fingerprint), None).preparation
        case = prepared_case(number)
        store.save(key, case)
        material = material_of(case, key, site, warnings=(), second_reader=row.pseudonym in twice)
        open_queue(site).enter(row.pseudonym, material)
    book.save()


def draw_more(mask: Path, voxels: int = 2) -> None:
    """A reader who enlarges the mask by some voxels."""
    image = sitk.ReadImage(str(mask))
    write_image(sitk.BinaryDilate(image, [voxels] * 3), mask)


def read_whole(site: Site, pseudonym: str, reader: str = "R1") -> ReviewCase:
    """Open, draw, finish, accept."""
    draw_more(open_case(site, pseudonym, reader).mask, 1)
    finish_case(site, pseudonym, reader=reader, edit="minor", minutes=2)
    return accept_case(site, pseudonym, by=reader)


def site_file(site: Site) -> Path:
    """What `write_review_site` returned."""
    return site.settings.manifest.with_name("site.yaml")


def unpack(path: Path) -> dict[str, bytes]:
    """A bundle's files, by their paths in it."""
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


__all__ = [
    "draw_more",
    "enter_all",
    "on_grid",
    "prepared_case",
    "read_whole",
    "site_file",
    "unpack",
    "write_review_site",
]
