"""manifest: the site's list of cases; every fault of the file at once (METHOD R5-R9, section 6)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from client.case import CaseRow
from client.ingest.spreadsheet import read_spreadsheet
from client.ingest.withdrawals import withdrawn_cases
from common.errors import InputError

__all__ = ["COLUMNS", "EXCLUSIONS", "OPTIONAL", "read_manifest"]

COLUMNS = (
    "pseudonym",
    "t1ce_path",
    "flair_path",
    "mask_path",
    "label",
    "h3_method",
    "age_years",
    "sex",
    "location",
    "scanner",
    "scan_to_tissue_days",
    "treated_before_scan",
)
OPTIONAL = ("brain_mask_path", "split", "t1ce_series", "flair_series", "h3_alteration", "exclude")
EXCLUSIONS = {
    "other_tumour": "another intracranial tumour",
    "other_cns_disease": "another disease of the central nervous system",
    "severe_artefact": "severe artefact",
    "no_consent": "no consent",
    "withdrawn": "consent withdrawn",
    "not_assessable": "not assessable",
    "no_pathology": "no pathology",
}
"""R6-R9: what a person may write into the column `exclude`, and what the flow diagram calls it."""


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


class _Row(BaseModel):
    """One line; cells that may be empty say so."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)
    pseudonym: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    t1ce_path: str
    flair_path: str
    mask_path: str
    label: Literal["altered", "not_altered"]
    h3_method: Literal["ihc", "sequencing", "both", "unknown", ""]
    age_years: Annotated[Annotated[float, Field(ge=0, le=120)] | None, BeforeValidator(_empty_is_none)]
    sex: Literal["male", "female", ""]
    location: Literal[
        "thalamus",
        "brainstem",
        "medulla",
        "corpus_callosum",
        "basal_ganglia",
        "third_ventricle",
        "fourth_ventricle",
        "pineal",
        "other",
        "",
    ]
    scanner: str
    scan_to_tissue_days: Annotated[float | None, BeforeValidator(_empty_is_none)]
    treated_before_scan: Literal["no", "yes", ""]
    brain_mask_path: str = ""
    split: Literal["train", "test", ""] = ""
    t1ce_series: str = ""
    flair_series: str = ""
    h3_alteration: Literal["", "h3.3_k27m", "h3.1_or_h3.2_k27m", "ezhip", "egfr", "unspecified"] = ""
    exclude: Literal[
        "", "other_tumour", "other_cns_disease", "severe_artefact", "no_consent", "withdrawn", "not_assessable",
        "no_pathology",
    ] = ""  # fmt: skip


def read_manifest(path: Path, *, site: str) -> tuple[CaseRow, ...]:
    """All cases of the manifest (CSV or XLSX), in the order of their pseudonyms.

    Paths in it start at the manifest's folder.  A case that the protocol's criteria exclude, or that was withdrawn
    (client/ingest/withdrawals.py), stays in the list with the reason.  InputError `manifest-invalid` names every faulty row, field and value.
    """
    rows, faults = _read_rows(path, site)
    parsed: list[CaseRow] = []
    seen: set[str] = set()
    for number, cells in enumerate(rows, start=2):
        try:
            row = _Row.model_validate(cells)
        except ValidationError as error:
            faults += [_describe(number, fault) for fault in error.errors()]
            continue
        if row.pseudonym in seen:
            faults.append(f"row {number}, pseudonym: {row.pseudonym!r} stands there twice. Give each case its own.")
        seen.add(row.pseudonym)
        parsed.append(_to_case_row(row, path.parent))
    if faults:
        raise InputError(
            "manifest-invalid",
            site=site,
            field="manifest",
            problem=f"The manifest has {len(faults)} fault(s).",
            fix="Mend each row named in the site's own log.",
            local=f"{path.name}:\n" + "\n".join(f"    - {fault}" for fault in faults),
        )
    gone = withdrawn_cases(path)
    marked = [replace(r, excluded_because=EXCLUSIONS["withdrawn"]) if r.pseudonym in gone else r for r in parsed]
    return tuple(sorted(marked, key=lambda row: row.pseudonym))


def _read_rows(path: Path, site: str) -> tuple[list[dict[str, str]], list[str]]:
    """Cells by column, and what is wrong with the columns."""
    columns, rows = read_spreadsheet(path, site=site)
    missing = [name for name in COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in (*COLUMNS, *OPTIONAL)]
    faults = [f"column {name!r} is missing. Add it; its cells may be empty where unknown." for name in missing]
    faults += [f"column {name!r} is unknown. Known: {', '.join((*COLUMNS, *OPTIONAL))}." for name in unknown]
    if not rows and not faults:
        faults.append("the file lists no case.")
    return ([] if missing or unknown else rows), faults


def _describe(number: int, fault: ErrorDetails) -> str:
    field = ".".join(str(part) for part in fault["loc"])
    return f"row {number}, {field}: got {fault['input']!r}. {fault['msg']}."


def _to_case_row(row: _Row, folder: Path) -> CaseRow:
    def place(text: str) -> str:
        return str((folder / text).resolve()) if text else ""

    return CaseRow(
        pseudonym=row.pseudonym,
        t1ce_path=place(row.t1ce_path),
        flair_path=place(row.flair_path),
        mask_path=place(row.mask_path),
        brain_mask_path=place(row.brain_mask_path),
        altered=row.label == "altered",
        age_years=row.age_years,
        sex=row.sex,
        location=row.location,
        scanner=row.scanner,
        h3_method=row.h3_method,
        split=row.split,
        excluded_because=_exclusion(row),
        t1ce_series=row.t1ce_series,
        flair_series=row.flair_series,
        scan_to_tissue_days=row.scan_to_tissue_days,
    )


def _exclusion(row: _Row) -> str:
    """The paper's criteria (R6-R9), the first that holds; an empty reason means eligible."""
    if row.exclude:
        return EXCLUSIONS[row.exclude]
    if bool(row.t1ce_path) != bool(row.flair_path):  # without either, its features come from a table
        return "T1CE or FLAIR is missing"
    if row.treated_before_scan == "yes":
        return "treated before the scan"
    if row.location == "other":
        return "not in a midline location"
    return ""
