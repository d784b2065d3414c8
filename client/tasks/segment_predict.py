"""segment_predict: the automatic mask of every case as a file, with how sure the network was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from client.disk import write_whole
from client.segment.weights import weights_sha256
from client.site import Site
from client.tasks.around_a_case import around_a_case, worker_killed
from client.tasks.segment_cases import SegmentCase, network_images, prepared_case, segment_cases
from client.tasks.segment_train import installed_weights
from client.tasks.side_by_side import side_by_side
from common.errors import InputError, StudyError

__all__ = ["Prediction", "predict_cohort", "predictions_folder"]


@dataclass(frozen=True)
class Prediction:
    """made_with: fingerprint of weights and settings; uncertainty and volume_spread as in client/segment/segment.py."""

    pseudonym: str
    status: Literal["segmented", "no_tumour", "set_aside"]
    made_with: str
    volume_ml: float = 0.0
    uncertainty: float = 0.0
    volume_spread: float = 0.0
    code: str = ""
    reason: str = ""
    cure: str = ""


def predictions_folder(site: Site) -> Path:
    """Where masks go unless another folder is named."""
    return site.settings.cache / "segmentations" / site.protocol.segmentation.weights


def predict_cohort(
    site: Site, folder: Path, *, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> tuple[Prediction, ...]:
    """Masks on the analysis grid as FOLDER/PSEUDONYM.nii.gz, beside each what is known of it as JSON.

    Cases run side by side; what was made with the same weights and settings is not made again; a case that fails is set
    aside by name.
    """
    settings = site.protocol.segmentation
    sha256 = weights_sha256(settings, installed_weights(site))
    looks = settings.model_dump_json(exclude={"training", "review", "second_reader_fraction", "weights_sha256"})
    cases = {case.row.pseudonym: case for case in segment_cases(site)}
    found: dict[str, Prediction] = {}
    for name, case in cases.items():
        known = _known(folder, name, f"{sha256}:{case.images}:{looks}")
        if known is not None:
            found[name] = known
    work = {name: case for name, case in cases.items() if name not in found}
    progress(len(found), len(cases))
    workers = min(site.settings.workers or os.cpu_count() or 1, max(1, len(work)))
    do = partial(_predict_one, site=site, folder=folder, made_with=f"{sha256}:{{images}}:{looks}")
    for name, prediction in side_by_side(work, do, workers=workers):
        found[name] = prediction or _set_aside(name, worker_killed())
        progress(len(found), len(cases))
    return tuple(found[name] for name in cases)


def _known(folder: Path, name: str, made_with: str) -> Prediction | None:
    about, mask = folder / f"{name}.json", folder / f"{name}.nii.gz"
    if not about.exists():
        return None
    prediction = Prediction(**json.loads(about.read_text()))
    same = prediction.made_with == made_with and (prediction.status == "no_tumour" or mask.exists())
    return prediction if same else None


def _predict_one(case: SegmentCase, site: Site, folder: Path, made_with: str) -> Prediction:
    """In a worker process."""
    found = around_a_case(lambda: _predicted(case, site, folder, made_with.replace("{images}", case.images)))
    return found if isinstance(found, Prediction) else _set_aside(case.row.pseudonym, found)


def _predicted(case: SegmentCase, site: Site, folder: Path, made_with: str) -> Prediction:
    """The mask is there before what is known of it."""
    import SimpleITK as sitk
    import torch

    from client.device import choose_device
    from client.image_files import write_image
    from client.segment.segment import segment_whole_tumour
    from client.segment.weights import load_network

    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    name, settings = case.row.pseudonym, site.protocol.segmentation
    device, mask_file = choose_device(site.settings.device), folder / f"{name}.nii.gz"
    images = prepared_case(case, site)
    network = load_network(settings, device=device, installed=installed_weights(site))
    try:
        segmented = segment_whole_tumour(
            *network_images(images), images.brain_mask, settings, network=network, device=device
        )
    except InputError as error:
        if error.code != "no-tumour-found":
            raise
        mask_file.unlink(missing_ok=True)
        prediction = Prediction(name, "no_tumour", made_with, code=error.code, reason=error.problem, cure=error.fix)
    else:
        write_image(segmented.mask, mask_file)
        voxels = int(sitk.GetArrayViewFromImage(segmented.mask).sum())
        volume_ml = voxels * math.prod(segmented.mask.GetSpacing()) / 1000
        sure = (segmented.uncertainty, segmented.volume_spread)
        prediction = Prediction(name, "segmented", made_with, volume_ml, *sure)
    write_whole(folder / f"{name}.json", json.dumps(asdict(prediction), indent=1).encode())
    return prediction


def _set_aside(name: str, error: StudyError) -> Prediction:
    return Prediction(name, "set_aside", "", code=error.code, reason=error.problem, cure=error.fix)
