"""table: features that somebody already has (PyRadiomics' CSV, MIRP's, or any) as rows of the catalogue.

A wide table carries the catalogue's names (`T1CE_wavelet-HHH_firstorder_Variance`); a table of one sequence, as
PyRadiomics' batch command writes it, carries them without the sequence; a mapping names the rest
(`site_configs/mappings/mirp.yaml` for MIRP).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.catalogue import SEQUENCES
from common.errors import InputError

__all__ = ["FeatureRows", "TableSource", "read_mapping", "read_tables"]


@dataclass(frozen=True)
class TableSource:
    """sequence: put before every column's name where the table has one sequence only, else empty."""

    path: Path
    sequence: str = ""


@dataclass(frozen=True)
class FeatureRows:
    """values: by pseudonym, in the order of names; ignored: columns that are no feature of the catalogue."""

    names: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    ignored: tuple[str, ...]


def read_tables(
    sources: tuple[TableSource, ...],
    names: tuple[str, ...],
    *,
    id_column: str = "pseudonym",
    mapping: Mapping[str, str] | None = None,
) -> FeatureRows:
    """Join the tables by pseudonym; a case counts only when it stands in all of them.

    mapping: their column -> catalogue name; in a table of one sequence it may be without the sequence.
    InputError: table-unreadable, table-without-id, table-incomplete (names the features), table-not-finite
    (the cell stands in the local message), table-row-twice, table-column-twice.
    """
    wanted, cells, ignored = set(names), dict[str, dict[str, float]](), list[str]()
    present: list[set[str]] = []
    columns_seen: set[str] = set()
    for source in sources:
        rows, columns = _read(source.path)
        if id_column not in columns:
            raise _fault("table-without-id", id_column, "A table has no column of pseudonyms.", "Name it with --id.")
        ours = {column: _name(column, source, mapping or {}) for column in columns if column != id_column}
        taken = [name for name in ours.values() if name in wanted]
        if len(set(taken)) < len(taken) or columns_seen & set(taken):
            raise _fault("table-column-twice", "", "Two columns mean the same feature.", "Mend the mapping.")
        columns_seen |= set(taken)
        ignored += [column for column, name in ours.items() if name not in wanted]
        seen: set[str] = set()
        for row in rows:
            pseudonym = row[id_column].strip()
            if pseudonym in seen:
                raise _fault("table-row-twice", id_column, "A case stands there twice.", "Keep one row.", pseudonym)
            seen.add(pseudonym)
            into = cells.setdefault(pseudonym, {})
            into.update({name: _number(row[c], c, pseudonym) for c, name in ours.items() if name in wanted})
        present.append(seen)
    missing = [name for name in names if name not in columns_seen]
    if missing:
        raise _fault(
            "table-incomplete",
            ", ".join(missing[:5]),
            f"{len(missing)} of the protocol's {len(names)} features have no column.",
            "Add them, map them with --mapping, or agree on a protocol with fewer features.",
        )
    whole = set.intersection(*present)
    values = {case: tuple(cells[case][name] for name in names) for case in sorted(whole)}
    return FeatureRows(names, values, tuple(dict.fromkeys(ignored)))


def read_mapping(path: Path) -> dict[str, str]:
    """`their column: catalogue name` lines of a YAML file; InputError `mapping-invalid`."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found, reason = None, str(error)
    else:
        reason = "not lines of `column: name`"
    if not isinstance(found, dict) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise _fault(
            "mapping-invalid",
            "--mapping",
            "The mapping cannot be read.",
            "Write one `their column: catalogue name` per line.",
            f"{path}: {reason}",
        )
    return found


def _read(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            return [{key: value or "" for key, value in row.items() if key} for row in reader], list(reader.fieldnames)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _fault(
            "table-unreadable", "--table", "A table cannot be read.", "It must be CSV in UTF-8.", f"{path}: {error}"
        ) from None


def _name(column: str, source: TableSource, mapping: Mapping[str, str]) -> str:
    name = mapping.get(column, column)
    whole = not source.sequence or (column in mapping and name.startswith(tuple(f"{word}_" for word in SEQUENCES)))
    return name if whole else f"{source.sequence}_{name}"


def _number(text: str, column: str, pseudonym: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _fault(
            "table-not-finite",
            column,
            "A cell holds no finite number.",
            "Fill it, or remove the case from the table.",
            f"{pseudonym}: {text!r}",
        )
    return value


def _fault(code: str, field: str, problem: str, fix: str, local: str = "") -> InputError:
    return InputError(code, field=field, problem=problem, fix=fix, local=local)
