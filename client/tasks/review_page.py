"""review_page: what one reader may do on the local page, wired to the queue (`fedmidline-site review page`)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from client.image_files import write_image
from client.review.check_mask import read_mask
from client.review.states import ReviewCase, require_open
from client.site import Site
from client.tasks.case_keys import open_queue
from client.tasks.review_case import accept_case, finish_case, open_case, put_back, reject_case, work_file
from client.tasks.review_gate import reader_files, review_lot

__all__ = ["ReaderDesk"]


class ReaderDesk:
    """One reader at the page: sees the cases that are this reader's to read, and nothing of a label or a colleague."""

    def __init__(self, site: Site, reader: str) -> None:
        self._site, self._reader = site, reader

    def queue(self) -> dict[str, Any]:
        """Cases to read, most urgent first, and how many are finished."""
        queue = open_queue(self._site)
        mine = queue.waiting_for(self._reader, review_lot(self._site, "review-order"))
        own = [case for case in queue.cases().values() if self._reader in {done.reader for done in case.readings}]
        return {
            "reader": self._reader,
            "cases": [{"case": c.pseudonym, "flags": list(c.material.flags)} for c in mine],
            "finished": len(own),
        }

    def open(self, pseudonym: str) -> dict[str, Any]:
        """Take the case."""
        opened = open_case(self._site, pseudonym, self._reader)
        return {"case": pseudonym, "flags": list(opened.case.material.flags)}

    def image(self, pseudonym: str, name: str) -> bytes:
        """Only of a case that this reader has open; z-scores are 0 outside the brain, which is shown as black."""
        case = self._mine(pseudonym)
        if name == "mask":
            return work_file(self._site, case, self._reader).read_bytes()
        files = reader_files(self._site, case.material.preparation)
        image = files.read(name)
        lowest = float(np.percentile(sitk.GetArrayViewFromImage(image), 0.5))
        return _as_bytes(sitk.Mask(sitk.Clamp(image, sitk.sitkFloat32, lowest), files.read("brain"), lowest))

    def save(self, pseudonym: str, mask: bytes) -> dict[str, Any]:
        """Take what was drawn, on the images' own grid."""
        case = self._mine(pseudonym)
        grid = reader_files(self._site, case.material.preparation).read("t1ce")
        work = work_file(self._site, case, self._reader)
        with tempfile.TemporaryDirectory(prefix="drawn-", dir=work.parent) as folder:
            ending = ".nii.gz" if mask[:2] == b"\x1f\x8b" else ".nii"
            drawn = Path(folder) / f"mask{ending}"
            drawn.write_bytes(mask)
            write_image(read_mask(drawn, grid, pseudonym=pseudonym), work)
        return {"saved": True}

    def accept(self, pseudonym: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Finish the reading; accept it unless a second reader is still to read the case."""
        case = finish_case(
            self._site,
            pseudonym,
            reader=self._reader,
            edit=entry["edit"],
            minutes=entry["minutes"],
            note=str(entry.get("note", "")),
            confirmed=entry.get("confirmed") is True,
        )
        flags = list(case.readings[-1].flags)
        if not case.material.second_reader:
            case = accept_case(self._site, pseudonym, by=self._reader)
        return {"state": case.state, "flags": flags}

    def send_back(self, pseudonym: str, entry: dict[str, Any]) -> dict[str, Any]:
        """To the queue for another reader, or out of the study with the reason."""
        self._mine(pseudonym)
        if entry["out"] is True:
            return {"state": reject_case(self._site, pseudonym, by=self._reader, reason=str(entry["reason"])).state}
        return {"state": put_back(self._site, pseudonym, reader=self._reader).state}

    def _mine(self, pseudonym: str) -> ReviewCase:
        case = open_queue(self._site).find(pseudonym)
        require_open(case, self._reader)
        return case


def _as_bytes(image: sitk.Image) -> bytes:
    with tempfile.TemporaryDirectory(prefix="shown-") as folder:
        path = Path(folder) / "image.nii"
        write_image(image, path)
        return path.read_bytes()
