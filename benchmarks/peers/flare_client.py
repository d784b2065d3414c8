"""flare_client: what each of NVIDIA FLARE's clients does: take the array, add one, send it back."""

import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

flare.init()
while flare.is_running():
    model = flare.receive()
    flare.send(FLModel(params={name: array + 1 for name, array in model.params.items()}, params_type=ParamsType.FULL))
