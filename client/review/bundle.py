"""bundle: cases on their way to a reader's workstation and back, sealed.

A bundle is one .tgz: per case T1CE, FLAIR and the mask to edit, a table for the reader's entries, and `seal.json`
with the hash of every file under a key that only this site holds.  On the way back masks and entries may differ,
nothing else.  A fault of one case sets that case aside by name; a fault of the seal refuses the whole.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from client.review.reader_files import ITK_SNAP_LABELS, ReaderFiles
from common.errors import InputError, Refused

__all__ = ["Bundle", "BundledCase", "open_bundle", "write_bundle"]

LARGEST_FILE = 512 * 2**20
LARGEST_BUNDLE = 8 * 2**30
MOST_FILES = 10_000
ENTRIES = "readings.csv"
COLUMNS = ("case", "edit", "minutes", "note")
README = """\
One folder per case: t1ce.nii.gz, flair.nii.gz, and mask.nii.gz, which you correct and save in place.
The mask is the whole tumour with its oedema, label 1.  Do not rename, resample or add files.
Write into readings.csv for every case you finished: edit (none, minor or major), minutes, a note if you like.
Leave edit empty for a case you have not read.  Pack the folder again as .tgz and send it back.
"""


@dataclass(frozen=True)
class BundledCase:
    """mask: the returned file; automatic: hash of the mask that was sent; edit: empty where it was not read."""

    pseudonym: str
    mask: Path
    automatic: str
    edit: str
    minutes: str
    note: str


@dataclass(frozen=True)
class Bundle:
    """cases that came back whole, and the fault of every case that did not."""

    reader: str
    cases: tuple[BundledCase, ...]
    faults: dict[str, InputError] = field(default_factory=dict)


def write_bundle(cases: Mapping[str, ReaderFiles], *, reader: str, name: str, key: bytes, path: Path) -> None:
    """Seal these cases for the reader; nothing of the site, the label or the first reader is in it."""
    contents: dict[str, bytes] = {
        "README.txt": README.encode(),
        "labels.txt": ITK_SNAP_LABELS.encode(),
        ENTRIES: ("".join([",".join(COLUMNS) + "\r\n", *(f"{p},,,\r\n" for p in cases)])).encode(),
    }
    for pseudonym, files in cases.items():
        for inside, file in (("t1ce", files.t1ce), ("flair", files.flair), ("mask", files.automatic)):
            contents[f"{pseudonym}/{inside}.nii.gz"] = file.read_bytes()
    hashes = {inside: hashlib.sha256(data).hexdigest() for inside, data in contents.items()}
    seal = {"bundle": name, "reader": reader, "cases": list(cases), "files": hashes}
    contents["seal.json"] = json.dumps({**seal, "seal": _seal(seal, key)}, indent=1).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".new-{path.name}")
    with tarfile.open(beside, "w:gz", compresslevel=1) as archive:
        for inside, data in contents.items():
            member = tarfile.TarInfo(f"{name}/{inside}")  # no owner, no time: they would tell of the hospital
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    beside.replace(path)


def open_bundle(path: Path, *, key: bytes, into: Path) -> Bundle:
    """Check a returned bundle and put its masks under `into`.

    Refused: bundle-unreadable, bundle-unsafe (paths that lead out, links), bundle-seal-broken.
    Faults of a case: bundle-file-missing, bundle-file-changed, bundle-file-unknown, bundle-entry-invalid.
    """
    found = _read_members(path)
    seal = _opened_seal(found, key)
    entries, names = _entries(found.get(ENTRIES)), [str(p) for p in seal["cases"]]
    cases, faults = [], {}
    for pseudonym in names:
        try:
            _require_untouched(pseudonym, found, seal["files"])
            data = found[f"{pseudonym}/mask.nii.gz"]
            mask = into / pseudonym / "mask.nii.gz"
            mask.parent.mkdir(parents=True, exist_ok=True)
            mask.write_bytes(data)
            entry = entries.get(pseudonym, {})
            words = [(entry.get(column) or "").strip() for column in COLUMNS[1:]]
            cases.append(BundledCase(pseudonym, mask, seal["files"][f"{pseudonym}/mask.nii.gz"], *words))
        except InputError as error:
            faults[pseudonym] = error
    for stranger in sorted({inside.split("/")[0] for inside in found if "/" in inside} - set(names)):
        faults[stranger] = _case_fault("bundle-case-unknown", stranger, "A folder was not part of this bundle.")
    return Bundle(str(seal["reader"]), tuple(cases), faults)


def _read_members(path: Path) -> dict[str, bytes]:
    """Contents by path below the bundle's own folder; nothing is unpacked."""
    contents: dict[str, bytes] = {}
    size = 0
    try:
        with tarfile.open(path, "r:*") as archive:
            for number, member in enumerate(archive):
                parts = PurePosixPath(member.name).parts
                if not (member.isreg() or member.isdir()) or ".." in parts or member.name.startswith(("/", "\\")):
                    raise _unsafe("a link, a device or a path that leads out of the bundle", member.name)
                size += member.size
                if number > MOST_FILES or member.size > LARGEST_FILE or size > LARGEST_BUNDLE:
                    raise _unsafe("too many files, or one too large", member.name)
                parts = tuple(part for part in parts if part != ".")
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is not None and parts and not parts[-1].startswith("._"):  # what macOS adds beside every file
                    inside = "/".join(parts[1:])
                    if inside in contents:
                        raise _unsafe("the same file twice", member.name)
                    contents[inside] = stream.read()
    except (tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, LookupError) as error:
        raise InputError(
            "bundle-unreadable",
            field="bundle",
            problem="The bundle cannot be read; it may be truncated.",
            fix="Pack the folder again as .tgz.",
            local=f"{type(error).__name__}: {error}",
        ) from None
    return contents


def _opened_seal(found: Mapping[str, bytes], key: bytes) -> dict[str, Any]:
    try:
        seal: dict[str, Any] = json.loads(found["seal.json"])
        claimed = str(seal.pop("seal"))
        intact = hmac.compare_digest(claimed, _seal(seal, key))
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise Refused(
            "bundle-seal-broken",
            field="seal.json",
            problem="The bundle was not sealed by this site, or its seal was changed.",
            fix="Return the bundle that `fedmidline-site review export` of this site wrote, with its seal.json.",
        )
    return seal


def _require_untouched(pseudonym: str, found: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
    """Images as they were sent, the mask there under its name, and nothing else."""
    expected = {inside for inside in hashes if inside.startswith(f"{pseudonym}/")}
    present = {inside for inside in found if inside.startswith(f"{pseudonym}/")}
    missing, unknown = sorted(expected - present), sorted(present - expected)
    if missing:
        text = "A file of the case is missing or was renamed."
        raise _case_fault("bundle-file-missing", pseudonym, text, f"missing {missing}, unknown {unknown}")
    if unknown:
        raise _case_fault("bundle-file-unknown", pseudonym, "The case holds a file that was not sent.", str(unknown))
    for inside in sorted(expected - {f"{pseudonym}/mask.nii.gz"}):
        if hashlib.sha256(found[inside]).hexdigest() != hashes[inside]:
            raise _case_fault("bundle-file-changed", pseudonym, "An image of the case was changed.", inside)


def _entries(data: bytes | None) -> dict[str, dict[str, str]]:
    """The reader's table by case; spreadsheets write commas or semicolons."""
    text = (data or b"").decode("utf-8-sig", errors="replace")
    separator = ";" if ";" in text.partition("\n")[0] else ","
    try:
        rows = list(csv.DictReader(io.StringIO(text), delimiter=separator))
    except csv.Error as error:
        raise InputError(
            "bundle-unreadable",
            field=ENTRIES,
            problem="The reader's table cannot be read.",
            fix="Save it as CSV again.",
            local=str(error),
        ) from None
    return {(row.get("case") or "").strip(): row for row in rows}


def _seal(body: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, json.dumps(body, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _unsafe(what: str, member: str) -> Refused:
    return Refused(
        "bundle-unsafe",
        field="bundle",
        problem=f"The bundle holds {what}.",
        fix="Return only what the exported bundle held.",
        local=member,
    )


def _case_fault(code: str, pseudonym: str, problem: str, local: str = "") -> InputError:
    fix = "Put the exported files back under their names; only mask.nii.gz and readings.csv may change."
    return InputError(code, case=pseudonym, field="bundle", problem=problem, fix=fix, local=local)
