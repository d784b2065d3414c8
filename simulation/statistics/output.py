"""output: a result as a CSV beside its JSON, and as a table for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from common.command import say, screen

__all__ = ["as_table", "tell", "write_csv"]


def write_csv(out: Path | None, frame: pd.DataFrame) -> None:
    """CSV with all digits, beside and then renamed."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.new")
    frame.to_csv(beside, index=False)
    beside.replace(out)


def as_table(title: str, frame: pd.DataFrame, most: int = 30) -> Table:
    """The first rows, six digits."""
    table = Table(*map(str, frame.columns), title=title)
    for row in frame.head(most).itertuples(index=False):
        table.add_row(*(f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row))
    return table


def tell(result: dict[str, Any], picture: Table, *, as_json: bool, out: Path | None = None) -> None:
    """JSON, or the table with every difference to pooled below it."""
    say(result, picture, as_json=as_json)
    if as_json:
        return
    differences = {key: value for key, value in result.items() if "difference" in key}
    if differences:
        screen.print(f"federated against pooled: {differences}", soft_wrap=True)
    if out is not None:
        screen.print(f"written: {out}", soft_wrap=True)
