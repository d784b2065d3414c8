"""radiomics: how much faster than plain PyRadiomics the same values come, and at what memory.

    python -m benchmarks.radiomics [--repeat 5] [--image-folder DIR]

One real whole tumour (T1CE and FLAIR, 1 mm, original and eight wavelet bands, 32 bins).  Every contender runs
in its own process on one core, images already in memory; the named peer is PyRadiomics 3.0.1 without pre-crop.
Peak memory is the process's, and what it adds to the images and libraries.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from client.features.engine.measure import KNOWN_FEATURES, measure_image, measure_shape
from client.features.engine.region import Region
from client.features.engine.roi import find_roi
from client.features.engine.wavelet import cut_out, wavelet_bands, wavelet_names
from client.features.radiomics import engine_settings, extract_radiomics
from common.catalogue import FEATURES_BY_CLASS, PAPER_SIGNATURE, SEQUENCES
from common.config.radiomics import RadiomicsSettings

REAL = Path(__file__).parents[2] / "shared" / "data" / "tcga_fg_6692" / "sri24"
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
TEXTURES = tuple(family for family in KNOWN_FEATURES if family != "shape")

Case = dict[str, sitk.Image]


def load(folder: Path) -> Case:
    """T1CE and FLAIR z-scored in what is not background, and the whole-tumour mask; a made case where there is none."""
    if not folder.exists():
        return _made()
    mask = sitk.Cast(sitk.ReadImage(str(folder / "tumour_majority_vote.nii.gz")) != 0, sitk.sitkUInt8)
    case = {"mask": mask}
    for sequence in SEQUENCES:
        image = sitk.ReadImage(str(folder / f"{sequence.lower()}_brain.nii.gz"), sitk.sitkFloat32)
        voxels = sitk.GetArrayFromImage(image)
        brain = voxels != 0
        scored = np.where(brain, (voxels - voxels[brain].mean()) / voxels[brain].std(), np.float32(0))
        case[sequence] = sitk.GetImageFromArray(scored)
        case[sequence].CopyInformation(mask)
    return case


def _made() -> Case:
    """Smooth noise and an ellipsoid of 30 ml on the same grid, 240 x 240 x 155 voxels of 1 mm."""
    shape, rng = (155, 240, 240), np.random.default_rng(0)
    parts = zip(np.ogrid[: shape[0], : shape[1], : shape[2]], (80, 90, 100), (16, 19, 23), strict=True)
    z, y, x = (((place - middle) / radius) ** 2 for place, middle, radius in parts)
    case = {"mask": sitk.GetImageFromArray(np.asarray(z + y + x < 1, np.uint8))}
    for sequence in SEQUENCES:
        noise = sitk.GetImageFromArray(rng.standard_normal(shape, dtype=np.float32))
        smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(noise, 1.0))
        case[sequence] = sitk.GetImageFromArray(smooth / smooth.std())
    return case


def plain(case: Case, *, signature: bool = False) -> dict[str, float]:
    """PyRadiomics; for the signature it is asked for the wavelet and the 19 features' classes and names only."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    found = {}
    for sequence in SEQUENCES:
        extractor = RadiomicsFeatureExtractor(binCount=32, additionalInfo=False)
        extractor.enableImageTypeByName("Wavelet")
        if signature:
            extractor.disableAllImageTypes()
            extractor.enableImageTypeByName("Wavelet")
            extractor.disableAllFeatures()
            asked: dict[str, set[str]] = defaultdict(set)
            for name in PAPER_SIGNATURE:
                if name.startswith(sequence):
                    asked[name.split("_")[2]].add(name.split("_")[3])
            extractor.enableFeaturesByName(**{family: sorted(names) for family, names in asked.items()})
        for name, value in extractor.execute(case[sequence], case["mask"]).items():
            found[f"{sequence}_{name}"] = float(value)
    return found


def ours(case: Case, *, signature: bool = False) -> dict[str, float]:
    """The engine."""
    names = PAPER_SIGNATURE if signature else None
    result = extract_radiomics(case["T1CE"], case["FLAIR"], case["mask"], RadiomicsSettings(), features=names)
    return dict(zip(result.names, map(float, result.values), strict=True))


class Stages(defaultdict[str, float]):
    """Seconds by stage."""

    def __init__(self) -> None:
        super().__init__(float)

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Book what happens inside."""
        begun = time.perf_counter()
        yield
        self[name] += time.perf_counter() - begun


def plain_stages(case: Case) -> Stages:
    """What `execute` does, step by step."""
    from radiomics import getFeatureClasses, imageoperations
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    stages, classes = Stages(), getFeatureClasses()
    settings = {"binCount": 32, "label": 1}
    for sequence in SEQUENCES:
        with stages.lap("mask and geometry"):
            image, mask = RadiomicsFeatureExtractor.loadImage(case[sequence], case["mask"], None, **settings)
            box, _ = imageoperations.checkMask(image, mask, **settings)
        with stages.lap("shape"):
            _execute(classes["shape"], imageoperations.cropToTumorMask(image, mask, box), settings)
        with stages.lap("wavelet"):
            filtered = [image, *(band for band, _, _ in imageoperations.getWaveletImage(image, mask, **settings))]
        for each in filtered:
            cropped = imageoperations.cropToTumorMask(each, mask, box)
            for family in TEXTURES:
                with stages.lap(family):
                    _execute(classes[family], cropped, settings)
    return stages


def _execute(kind: Any, cropped: tuple[sitk.Image, sitk.Image], settings: dict[str, Any]) -> None:
    """cropped: the image and its mask."""
    features = kind(*cropped, **settings)
    features.enableAllFeatures()
    features.execute()


def our_stages(case: Case) -> Stages:
    """The same steps; a class on its own cannot share its neighbours with the next, so the sum is above the total."""
    stages, settings = Stages(), engine_settings(RadiomicsSettings())
    with stages.lap("mask and geometry"):
        roi = find_roi(sitk.GetArrayViewFromImage(case["mask"]))
        region = Region(roi.inside, np.array(case["mask"].GetSpacing()[::-1]))
        _ = region.place, region.touching, region.lines, region.neighbour_count
    with stages.lap("shape"):
        measure_shape(region, FEATURES_BY_CLASS["shape"])
    for sequence in SEQUENCES:
        with stages.lap("wavelet"):
            cut = cut_out(sitk.GetArrayViewFromImage(case[sequence]), roi.box, settings)
            filtered = [cut.inner(cut.data)]
            filtered += [band for _, band in wavelet_bands(cut, settings, wavelet_names(settings))]
        for each in filtered:
            for family in TEXTURES:
                with stages.lap(family):
                    measure_image(region.voxels(each), region, settings, {family: FEATURES_BY_CLASS[family]})
    return stages


def read_once(case: Case) -> None:
    """Every voxel of both images and the mask."""
    for image in case.values():
        sitk.GetArrayViewFromImage(image).sum()


CONTENDERS: dict[str, Callable[[Case], Any]] = {
    "plain": plain,
    "ours": ours,
    "plain signature": lambda case: plain(case, signature=True),
    "ours signature": lambda case: ours(case, signature=True),
    "plain stages": plain_stages,
    "our stages": our_stages,
    "read once": read_once,
}


def contend(name: str, folder: Path, repeat: int) -> dict[str, Any]:
    """Runs in its own process: best seconds of `repeat`, peak memory, what was found."""
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    case, run, seconds = load(folder), CONTENDERS[name], []
    if name.startswith("plain"):
        import radiomics.featureextractor  # noqa: F401  # not part of the time of the first call
    before = _peak()
    found = None
    for _ in range(repeat):
        begun = time.perf_counter()
        found = run(case)
        seconds.append(time.perf_counter() - begun)
    return {"seconds": min(seconds), "peak": _peak(), "added": _peak() - before, "found": found}


def _peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_own_process(name: str, folder: Path, repeat: int) -> dict[str, Any]:
    words = ["--contender", name, "--image-folder", str(folder), "--repeat", str(repeat)]
    done = subprocess.run(  # noqa: S603  # our own module
        [sys.executable, "-m", "benchmarks.radiomics", *words],
        env={**os.environ, **ONE_CORE},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-folder", type=Path, default=REAL)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(contend(options.contender, options.image_folder, options.repeat)))
        return
    print(
        "a real whole tumour" if options.image_folder.exists() else f"no images in {options.image_folder}: a made case"
    )
    results = {
        name: _in_own_process(name, options.image_folder, 2 if name.startswith("plain") else options.repeat)
        for name in CONTENDERS
    }
    _report(results)


def _report(results: dict[str, dict[str, Any]]) -> None:
    summary: dict[str, Any] = {}
    for ending, features in (("", "all 1702 features"), (" signature", "the 19 of the signature")):
        peer, mine = results[f"plain{ending}"], results[f"ours{ending}"]
        worst = max(abs(mine["found"][n] - peer["found"][n]) / max(abs(peer["found"][n]), 1e-12) for n in mine["found"])
        print(f"{features}")
        print(
            f"  seconds      plain {peer['seconds']:7.3f}   ours {mine['seconds']:7.3f}   {_ratio(peer, mine):6.1f} x"
        )
        for word, key in (("peak memory", "peak"), ("added memory", "added")):
            print(f"  {word:<12} plain {peer[key] / 2**20:7.0f}   ours {mine[key] / 2**20:7.0f}   MiB")
        print(f"  largest relative difference of a value {worst:.1e}")
        key = ending.strip() or "all"
        summary[key] = {"plain_s": peer["seconds"], "ours_s": mine["seconds"], "ratio": _ratio(peer, mine)}
        summary[key] |= {"plain_peak": peer["peak"], "ours_peak": mine["peak"], "worst_relative": worst}
        summary[key] |= {"plain_added": peer["added"], "ours_added": mine["added"]}
    summary["signature"]["ratio_to_all_of_plain"] = _ratio(results["plain"], results["ours signature"])
    print(f"  against plain with all its features {summary['signature']['ratio_to_all_of_plain']:6.1f} x")
    print("stages of all features, milliseconds")
    peer, mine = results["plain stages"]["found"], results["our stages"]["found"]
    for stage in peer:
        print(
            f"  {stage:<18} plain {peer[stage] * 1e3:7.0f}   ours {mine[stage] * 1e3:7.0f}   {peer[stage] / mine[stage]:6.1f} x"
        )
    summary["stages"] = {stage: {"plain_s": peer[stage], "ours_s": mine[stage]} for stage in peer}
    once = results["read once"]["seconds"]
    summary["read_once_s"] = once
    print(
        f"reading every voxel of both images and the mask once: {once * 1e3:.1f} ms; "
        f"all features take {results['ours']['seconds'] / once:.0f} times, the signature {results['ours signature']['seconds'] / once:.1f} times that"
    )
    print(json.dumps(summary))


def _ratio(peer: dict[str, Any], mine: dict[str, Any]) -> float:
    return float(peer["seconds"] / mine["seconds"])


if __name__ == "__main__":
    main()
