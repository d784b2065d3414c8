"""peak_memory: the most that this process and its children held together."""

from __future__ import annotations

import threading
import time

import psutil

__all__ = ["PeakMemory"]


class PeakMemory(threading.Thread):
    """Largest sum of proportional set sizes over this process and its children, in bytes, sampled four times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        """Sample until the process ends."""
        while True:
            total = 0
            here = psutil.Process()
            for process in [here, *here.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            time.sleep(0.25)
