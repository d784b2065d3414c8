"""flare_job: the equal task on NVIDIA FLARE's simulator; runs in the peer's own environment.

python flare_job.py FOLDER NUMBERS SITES ROUNDS
"""

import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.sim_env import SimEnv

folder = Path(sys.argv[1])
numbers, sites, rounds = (int(text) for text in sys.argv[2:])
start = folder / "start.npy"
np.save(start, np.zeros(numbers, np.float32))
recipe = NumpyFedAvgRecipe(
    name="equal",
    initial_ckpt=str(start),
    min_clients=sites,
    num_rounds=rounds,
    train_script=str(Path(__file__).with_name("flare_client.py")),
)
recipe.execute(SimEnv(num_clients=sites, workspace_root=str(folder / "workspace")))
found = [np.load(path) for path in folder.rglob("*.npy") if path != start]
if not any(array.shape == (numbers,) and np.all(array == rounds) for array in found):
    raise SystemExit("another result")
