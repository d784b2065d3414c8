"""strategies: the protocol's word -> the function; one paper per file."""

from __future__ import annotations

from common.config.training import StrategyName
from server.strategy.coordinate_median import coordinate_median
from server.strategy.fedavg import fedavg
from server.strategy.fedavgm import fedavgm
from server.strategy.feddyn import feddyn
from server.strategy.fedopt import fedadam, fedyogi
from server.strategy.geometric_median import geometric_median
from server.strategy.krum import krum
from server.strategy.norm_clip import norm_clip
from server.strategy.scaffold import scaffold
from server.strategy.trimmed_mean import trimmed_mean
from server.strategy.update import Strategy

__all__ = ["STRATEGIES"]

STRATEGIES: dict[StrategyName, Strategy] = {
    "fedsgd": fedavg,
    "fedavg": fedavg,
    "fedavgm": fedavgm,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedprox": fedavg,
    "scaffold": scaffold,
    "feddyn": feddyn,
    "norm_clip": norm_clip,
    "coordinate_median": coordinate_median,
    "trimmed_mean": trimmed_mean,
    "krum": krum,
    "geometric_median": geometric_median,
}
