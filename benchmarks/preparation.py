"""preparation: how much sooner than BrainLes-preprocessing a case is ready, at what memory, and how right it is.

    python -m benchmarks.preparation [--peer-environment DIR] [--no-peer]

One real glioma patient as exported (../shared/data/tcga_fg_6692/raw), one process of one thread each, in one run;
seconds are processor time, so that a busy machine does not decide.
The named peer is BrainLes-preprocessing 0.6.14 with its ANTs backend and its own defaults, installed by this
benchmark into an environment of its own (several hundred MB; give DIR to keep it).  Both register FLAIR to T1CE and
T1CE to the same atlas at 1 mm and correct the bias of both sequences.  Ours finds the brain as well and normalises;
the peer's skull strip fetches weights at first use and is left out, so the ratio is a lower bound.
What comes out is compared too: agreement of FLAIR with T1CE and of T1CE with the atlas, measured alike for both, and
Dice of our masks with references that no one here made.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from client.case import CaseRow
from client.ingest.read_case import read_case
from client.preprocess import preprocess as pipeline
from client.preprocess.atlas import load_atlas
from client.preprocess.quality import edge_agreement
from common.config.preprocessing import PreprocessingSettings
from common.config.segmentation import SegmentationSettings
from common.errors import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
RAW, SRI24, MS = DATA / "tcga_fg_6692" / "raw", DATA / "tcga_fg_6692" / "sri24", DATA / "ms_patient07"
PEER = ("torch==2.13.0", "brainles-preprocessing==0.6.14")
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "ANTS_RANDOM_SEED": "1",
}
MEMORY_LIMIT = 3 * 2**30


def ours(folder: Path, settings: PreprocessingSettings) -> dict[str, Any]:
    """Runs in its own process: seconds by stage, peak memory, and the prepared images in `folder`."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    load_atlas(settings.atlas)  # once per worker, not per case
    before, seconds = _peak(), _Stages()
    seconds.watch("register", "estimate_transform", "coarse")
    seconds.watch("bias", "correct_bias", "correct_image")
    seconds.watch("brain", "find_brain")
    begun = time.process_time()
    case = pipeline.preprocess(read_case(_row()), settings)
    seconds["all"] = time.process_time() - begun
    told = {"seconds": dict(seconds), "peak": _peak(), "libraries": before}
    for name in ("t1ce", "flair", "brain_mask"):
        sitk.WriteImage(getattr(case, name), str(folder / f"{name}.nii.gz"))
    return {**told, "brain_dice": round(_dice(case.brain_mask, hd_bet_brain(settings)), 4)}


class _Stages(defaultdict[str, float]):
    """Seconds by stage, of the pipeline's own functions."""

    def __init__(self) -> None:
        super().__init__(float)

    def watch(self, stage: str, *names: str) -> None:
        """Book what these functions take."""
        for name in names:
            setattr(pipeline, name, self._timed(stage, getattr(pipeline, name)))

    def _timed(self, stage: str, function: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            begun = time.process_time()
            result = function(*args, **kwargs)
            self[stage] += time.process_time() - begun
            return result

        return run


def _row(brain_mask: str = "") -> CaseRow:
    return CaseRow(
        pseudonym="p",
        t1ce_path=str(RAW / "t1ce.nii.gz"),
        flair_path=str(RAW / "flair.nii.gz"),
        mask_path="",
        brain_mask_path=brain_mask,
        altered=False,
        age_years=None,
        sex="",
        location="",
        scanner="",
        h3_method="",
        split="",
    )


def _peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def hd_bet_brain(settings: PreprocessingSettings) -> sitk.Image:
    """HD-BET's mask of the same image, brought to the same grid by the same transforms."""
    theirs = pipeline.preprocess(
        read_case(_row(str(RAW / "t1ce_brain_mask_hdbet.nii.gz"))),
        settings.model_copy(update={"skull_strip": "imported"}),
    )
    if theirs.brain_mask is None:
        raise ValueError("no brain mask")
    return theirs.brain_mask


def lesion_dice() -> dict[str, float | str]:
    """The shipped network against the vote of five BraTS networks, and against three experts (another disease)."""
    from client.preprocess.steps.zscore import zscored
    from client.segment.segment import segment_whole_tumour
    from client.segment.weights import load_network

    settings = SegmentationSettings()
    network = load_network(settings, device="cpu")
    found: dict[str, float | str] = {}
    for name, folder, files, mask_file in (
        ("glioma, vote of five networks", SRI24, ("t1ce_brain", "flair_brain"), "tumour_majority_vote"),
        ("multiple sclerosis, three experts", MS, ("t1ce_mni", "flair_mni"), "lesions_mni"),
    ):
        truth = sitk.Cast(sitk.ReadImage(str(folder / f"{mask_file}.nii.gz")) != 0, sitk.sitkUInt8)
        images = [sitk.ReadImage(str(folder / f"{file}.nii.gz"), sitk.sitkFloat32) for file in files]
        brain = _stripped(images[0], truth)
        inside = sitk.GetArrayViewFromImage(brain) > 0
        scored = []
        for image in images:
            array = np.where(inside, sitk.GetArrayFromImage(image), 0).astype(np.float32)
            array[inside] = zscored(array[inside].astype(np.float64))
            scored.append(_like(truth, array))
        t1ce, flair = scored
        try:
            segmented = segment_whole_tumour(t1ce, flair, brain, settings, network=network, device="cpu")
            found[name] = round(_dice(segmented.mask, truth), 3)
        except InputError as error:
            found[name] = error.code
    return found


def _stripped(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """What is not background, where the image is stripped already; the atlas' brain where a head is left."""
    array = sitk.GetArrayFromImage(image)
    if np.mean(array == 0) > 0.5:
        return _like(grid, (array != 0).astype(np.uint8))
    mask = sitk.Resample(load_atlas("mni152").mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return _like(grid, sitk.GetArrayFromImage(mask))


def _like(grid: sitk.Image, array: np.ndarray[Any, Any]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(grid)
    return image


def _dice(one: sitk.Image, other: sitk.Image) -> float:
    a, b = (sitk.GetArrayViewFromImage(mask) > 0 for mask in (one, other))
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def agreement(folder: Path, ours: Path) -> dict[str, float]:
    """How well FLAIR lies on T1CE and T1CE on the atlas, for either contender in the same voxels: well inside our
    brain mask, where an image that was stripped looks like one that was not.
    """
    atlas = load_atlas("mni152")
    images = [sitk.ReadImage(str(folder / f"{name}.nii.gz"), sitk.sitkFloat32) for name in ("t1ce", "flair")]
    t1ce, flair, picture = (sitk.Resample(image, atlas.mask) for image in (*images, atlas.brain))
    brain = sitk.Resample(sitk.ReadImage(str(ours / "brain_mask.nii.gz")), atlas.mask) > 0
    inside = sitk.BinaryErode(brain & (atlas.mask > 0), (5, 5, 5))
    return {
        "edge_agreement": round(edge_agreement(t1ce, flair, inside), 3),
        "atlas_agreement": round(edge_agreement(t1ce, picture, inside), 3),
    }


def install_peer(environment: Path) -> Path:
    """Its interpreter; nothing is installed where it is there already."""
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    there = subprocess.run([python, "-c", "import brainles_preprocessing"], check=False, capture_output=True)  # noqa: S603
    if there.returncode:
        print(f"installing {' '.join(PEER)}", flush=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True, stdout=sys.stderr)  # noqa: S603
    return python


def _run(command: list[str]) -> dict[str, Any]:
    """In a process of one core; its last line of output."""
    done = subprocess.run(  # noqa: S603  # ours, or the peer's script beside us
        command, env={**os.environ, **ONE_CORE}, stdout=subprocess.PIPE, check=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-environment", type=Path, help="where the peer is, or is to be, installed")
    parser.add_argument("--no-peer", action="store_true", help="only ours: memory and masks")
    parser.add_argument("--contender", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = PreprocessingSettings()
    if options.contender:
        print(json.dumps(ours(options.contender, settings)))
        return
    if not RAW.exists():
        sys.exit(f"{RAW} is not there: this benchmark needs the real case")
    with tempfile.TemporaryDirectory(prefix="preparation-") as scratch:
        _compare(Path(scratch), options, settings)


def _compare(scratch: Path, options: argparse.Namespace, settings: PreprocessingSettings) -> None:
    folders = {name: scratch / name for name in ("ours", "peer")}
    for folder in folders.values():
        folder.mkdir()
    mine = _run([sys.executable, "-m", "benchmarks.preparation", "--contender", str(folders["ours"])])
    summary: dict[str, Any] = {"ours": mine, "agreement": {"ours": agreement(folders["ours"], folders["ours"])}}
    if not options.no_peer:
        sitk.WriteImage(load_atlas(settings.atlas).head, str(scratch / "atlas.nii.gz"))
        python = install_peer(options.peer_environment or scratch / "environment")
        script = Path(__file__).parent / "peers" / "brainles.py"
        files = [RAW / "t1ce.nii.gz", RAW / "flair.nii.gz", scratch / "atlas.nii.gz", folders["peer"]]
        summary["peer"] = _run([str(python), str(script), *map(str, files)])
        summary["agreement"]["peer"] = agreement(folders["peer"], folders["ours"])
        _print_ratios(summary)
    print(
        f"ours, one worker: {mine['peak'] / 2**30:.2f} GiB (limit 3), of which libraries {mine['libraries'] / 2**30:.2f}"
    )
    print(f"agreement of FLAIR with T1CE and of T1CE with the atlas: {summary['agreement']}")
    summary["within_memory"] = mine["peak"] < MEMORY_LIMIT
    print(f"our brain mask against HD-BET's: Dice {mine['brain_dice']:.3f}")
    summary["lesion_dice"] = lesion_dice()
    for name, value in summary["lesion_dice"].items():
        print(f"the shipped network, trained on synthetic heads alone, on {name}: {value}")
    print(json.dumps(summary))


def _print_ratios(summary: dict[str, Any]) -> None:
    """Stage by stage, and the whole."""
    print("processor seconds          peer     ours")
    summary["ratio"] = {}
    for stage, told in (("register", "registration"), ("bias", "N4"), ("brain", "skull strip"), ("all", "a case")):
        peer, mine = (summary[who]["seconds"].get(stage) for who in ("peer", "ours"))
        if peer and mine:
            summary["ratio"][stage] = peer / mine
        ratio = f"{peer / mine:6.1f} x" if peer and mine else ""
        print(f"  {told:<20} {_seconds(peer)} {_seconds(mine)} {ratio}")
    print(f"  peak memory, GiB     {summary['peer']['peak'] / 2**30:8.2f} {summary['ours']['peak'] / 2**30:8.2f}")


def _seconds(value: float | None) -> str:
    return f"{'not run':>8}" if value is None else f"{value:8.1f}"


if __name__ == "__main__":
    main()
