"""site: what only this hospital knows; it never leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["SiteSettings"]


class SiteSettings(Settings):
    """A hospital's private settings.  Relative paths start at the folder of the file itself.

    manifest: CSV, one row per case (see client/ingest/manifest.py for its columns).
    cache: folder for prepared cases; images and features stay in it.
    workers: processes that prepare cases side by side; 0 takes one per core.
    device: `auto` takes a GPU where torch finds one.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    protocol: Path
    manifest: Path
    cache: Path = Path("cache")
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    ethics_id: str = ""
