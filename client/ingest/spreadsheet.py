"""spreadsheet: a table as rows of text, from CSV or from the first sheet of an XLSX workbook."""

from __future__ import annotations

import csv
import zipfile
from datetime import date, datetime
from pathlib import Path

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from common.errors import InputError

__all__ = ["read_spreadsheet"]


def read_spreadsheet(path: Path, *, site: str = "", field: str = "manifest") -> tuple[list[str], list[dict[str, str]]]:
    """Columns, and the cells of every row by column; empty cells are empty texts, empty rows are left out.

    InputError `<field>-unreadable`.
    """
    try:
        lines = _xlsx(path) if path.suffix.lower() in {".xlsx", ".xlsm"} else _csv(path)
    except (OSError, UnicodeDecodeError, csv.Error, InvalidFileException, zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            f"{field}-unreadable",
            site=site,
            field=field,
            problem=f"The {field} cannot be read.",
            fix="Check the path in the site file; the file must be CSV in UTF-8, or XLSX.",
            local=f"{path}: {type(error).__name__}",
        ) from None
    columns = [cell.strip() for cell in lines[0]] if lines else []
    rows = [dict(zip(columns, _padded(line, len(columns)), strict=False)) for line in lines[1:] if any(line)]
    return columns, rows


def _padded(line: list[str], length: int) -> list[str]:
    return [cell.strip() for cell in line] + [""] * (length - len(line))


def _csv(path: Path) -> list[list[str]]:
    """Excel of some countries writes semicolons between the cells."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.readline()
        file.seek(0)
        return list(csv.reader(file, delimiter=";" if head.count(";") > head.count(",") else ","))


def _xlsx(path: Path) -> list[list[str]]:
    book = load_workbook(path, read_only=True, data_only=True)
    try:
        return [[_text(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    finally:
        book.close()


def _text(cell: object) -> str:
    """As a person would type it: 34 and not 34.0; a day as 2024-06-01."""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.date().isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
