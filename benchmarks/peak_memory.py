"""peak_memory: the largest sum of proportional set sizes over a process and its children."""

from __future__ import annotations

import threading
import time

import psutil

__all__ = ["PeakMemory"]


class PeakMemory(threading.Thread):
    """Samples four times a second until the process ends; `peak` is in bytes.  root: its number; this one's by default."""

    def __init__(self, root: int | None = None) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._root = psutil.Process(root)

    def run(self) -> None:
        """Sample."""
        while self._root.is_running():
            total = 0
            for process in self._family():
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            time.sleep(0.25)

    def _family(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []
