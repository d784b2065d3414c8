"""viewers: the command line of the programs readers draw with, for one case."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from client.review.reader_files import ITK_SNAP_LABELS, ReaderFiles

__all__ = ["launch", "viewer_commands"]


def viewer_commands(files: ReaderFiles, mask: Path) -> dict[str, list[str]]:
    """Program -> command: T1CE as the main image, FLAIR over it, the mask to be edited and saved in place."""
    labels = mask.with_name("labels.txt")
    labels.write_text(ITK_SNAP_LABELS)
    code = (
        f"t = slicer.util.loadVolume({str(files.t1ce)!r}); f = slicer.util.loadVolume({str(files.flair)!r}); "
        f"m = slicer.util.loadSegmentation({str(mask)!r}); "
        "slicer.util.setSliceViewerLayers(background=t, foreground=f, foregroundOpacity=0, fit=True)"
    )
    return {
        "itksnap": ["itksnap", "-g", str(files.t1ce), "-o", str(files.flair), "-s", str(mask), "-l", str(labels)],
        "Slicer": ["Slicer", "--python-code", code],
    }


def launch(commands: dict[str, Sequence[str]] | dict[str, list[str]]) -> str:
    """Start the first program that is installed, and leave it running; its name, or empty where none is."""
    for name, command in commands.items():
        program = shutil.which(command[0])
        if program:
            subprocess.Popen([program, *command[1:]], start_new_session=True)  # noqa: S603  # found by which, arguments are our own paths
            return name
    return ""
