"""brainles: BrainLes-preprocessing on one case; runs in the peer's own environment.

python brainles.py T1CE FLAIR ATLAS FOLDER

Its default parameters: ANTs rigid co-registration, ANTs rigid atlas registration and atlas correction, N4 of both
sequences on the atlas grid.  No skull strip: its weights are downloaded at first use.  Prints processor seconds by stage.
"""

import json
import resource
import sys
import time
from pathlib import Path

import SimpleITK as sitk
from brainles_preprocessing.modality import CenterModality, Modality
from brainles_preprocessing.n4_bias_correction import SitkN4BiasCorrector
from brainles_preprocessing.preprocessor import AtlasCentricPreprocessor
from brainles_preprocessing.registration import ANTsRegistrator

sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
t1ce, flair, atlas, folder = sys.argv[1:]
out = Path(folder)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
outputs = {name: out / f"{name}.nii.gz" for name in ("t1ce", "flair")}
pipeline = AtlasCentricPreprocessor(
    center_modality=CenterModality("t1ce", t1ce, raw_skull_output_path=outputs["t1ce"], n4_bias_correction=True),
    moving_modalities=[Modality("flair", flair, raw_skull_output_path=outputs["flair"], n4_bias_correction=True)],
    registrator=ANTsRegistrator(),
    n4_bias_corrector=SitkN4BiasCorrector(),
    atlas_image_path=atlas,
    temp_folder=out / "temporary",
    use_gpu=False,
)
seconds = {"register": 0.0, "bias": 0.0}


def timed(name: str, stage: str) -> None:
    """Book what the method takes under its stage."""
    method = getattr(pipeline, name)

    def run(*args: object, **kwargs: object) -> None:
        begun = time.process_time()
        method(*args, **kwargs)
        seconds[stage] += time.process_time() - begun

    setattr(pipeline, name, run)


for name in ("run_coregistration", "run_atlas_registration", "run_atlas_correction"):
    timed(name, "register")
timed("run_n4_bias_correction", "bias")
begun = time.process_time()
pipeline.run(log_file=out / "log.txt")
seconds["all"] = time.process_time() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak": peak * 1024, "libraries": before * 1024}))
