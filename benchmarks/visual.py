"""visual: how long the network's map of one 128^3 case takes, and what half precision costs.

    python -m benchmarks.visual

The named peer is MONAI's whole U-Net on the same cube, from which a hook would take the map.  Both run on the GPU where
torch finds one.  Effects on a
score: the map's inner product with 200 random directions, in units of its own spread over them.  The last line is JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.radiomics import REAL, load
from client.device import choose_device
from client.features.visual import as_stored, extract_visual
from client.segment.weights import load_network, load_visual_network
from common.config.protocol import Protocol
from common.config.segmentation import SegmentationSettings
from common.config.visual import VisualSettings


def best(run: Callable[[], Any], repeat: int = 3) -> tuple[float, Any]:
    """Best seconds, last result."""
    seconds, found = [], None
    for _ in range(repeat):
        begun = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - begun)
    return min(seconds), found


def main() -> None:
    """Measure and print."""
    device = choose_device("auto")
    case, network = load(REAL), load_network(SegmentationSettings(), device=device)
    images = case["T1CE"], case["FLAIR"], case["mask"]

    def take(settings: VisualSettings) -> Any:
        fitting = load_visual_network(Protocol(name="benchmark", visual=settings), device=device)
        return extract_visual(*images, settings, network=fitting, device=device)

    def whole_network() -> Any:
        with torch.no_grad():
            return network(torch.zeros(1, 2, 128, 128, 128, device=device)).cpu()

    whole_net, _ = best(whole_network)
    summary: dict[str, Any] = {"threads": torch.get_num_threads(), "device": device, "whole_network_s": whole_net}
    print(f"whole U-Net, {device}, {torch.get_num_threads()} threads      {whole_net:6.2f} s")
    for variant in ("bottleneck", "unet2d", "pooled", "random_projection"):
        seconds, found = best(partial(take, VisualSettings.model_validate({"variant": variant})))
        half = as_stored(found, VisualSettings()).astype(np.float64) - found
        scale = np.abs(found)
        relative = np.abs(half[scale > 1e-4]) / scale[scale > 1e-4]
        directions = np.random.default_rng(0).standard_normal((200, found.size)).astype(np.float32)
        effect = np.abs(directions @ half.astype(np.float32)).max() / np.std(directions @ found)
        print(
            f"{variant:<18} {found.size:>9,} values {seconds:6.2f} s   {whole_net / seconds:4.1f} x   "
            f"half precision: value {relative.max():.1e} relative, score {effect:.1e} of its spread"
        )
        summary[variant] = {"seconds": seconds, "value": float(relative.max()), "score": float(effect)}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
