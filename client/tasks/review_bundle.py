"""review_bundle: a batch of cases to a reader's workstation, and the masks that come back (`review export`, `import`)."""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import SimpleITK as sitk

from client.review.bundle import Bundle, BundledCase, open_bundle, write_bundle
from client.review.compare import dice
from client.review.events import Opened, event_of
from client.site import Site
from client.tasks.case_keys import open_queue
from client.tasks.review_case import finish_case
from client.tasks.review_gate import reader_files, review_lot
from common.errors import InputError, Refused, StudyError

__all__ = ["Exported", "ReturnedCase", "export_batch", "import_bundle"]


@dataclass(frozen=True)
class Exported:
    """path: the sealed file; cases: given to the reader."""

    path: Path
    cases: tuple[str, ...]


@dataclass(frozen=True)
class ReturnedCase:
    """What became of one case of a returned bundle; reason: why it was set aside."""

    pseudonym: str
    status: Literal["reviewed", "left open", "set aside"]
    reason: str = ""
    flags: tuple[str, ...] = ()


def export_batch(site: Site, *, batch: int, reader: str, folder: Path) -> Exported:
    """The reader's own open cases, then the most urgent that this reader may read, in one sealed bundle.

    Refused `nothing-to-review` where there is none.
    """
    opened, queue = event_of(Opened, reader=reader), open_queue(site)
    waiting = queue.waiting_for(reader, review_lot(site, "review-order"))[:batch]
    if not waiting:
        raise Refused(
            "nothing-to-review",
            site=site.settings.name,
            field="queue",
            problem="No case waits for this reader.",
            fix="`fedmidline-site review list` shows the queue.",
        )
    name = f"review-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    files = {case.pseudonym: reader_files(site, case.material.preparation) for case in waiting}
    path = folder / f"{name}.tgz"
    write_bundle(files, reader=reader, name=name, key=_seal_key(site), path=path)
    for case in waiting:
        if case.reader != reader or case.state not in ("in_review", "second_read"):
            queue.record(case.pseudonym, opened)
    return Exported(path, tuple(files))


def import_bundle(site: Site, path: Path) -> tuple[ReturnedCase, ...]:
    """Every case of the bundle with what became of it; one bad case never stops the others."""
    with tempfile.TemporaryDirectory(prefix="returned-", dir=_own_folder(site)) as folder:
        bundle = open_bundle(path, key=_seal_key(site), into=Path(folder))
        returned = [_take(site, case, bundle) for case in bundle.cases]
    set_aside = [ReturnedCase(p, "set aside", fault.explain()) for p, fault in bundle.faults.items()]
    return (*returned, *set_aside)


def _take(site: Site, returned: BundledCase, bundle: Bundle) -> ReturnedCase:
    if not returned.edit:
        return ReturnedCase(returned.pseudonym, "left open")
    try:
        _require_current(site, returned)
        _require_own(site, returned, bundle)
        values = {"edit": returned.edit.lower(), "minutes": returned.minutes.replace(",", "."), "note": returned.note}
        case = finish_case(site, returned.pseudonym, reader=bundle.reader, mask=returned.mask, **values)  # type: ignore[arg-type]  # event_of checks what was typed
    except StudyError as error:
        error.case = returned.pseudonym
        return ReturnedCase(returned.pseudonym, "set aside", error.explain())
    return ReturnedCase(returned.pseudonym, "reviewed", flags=case.readings[-1].flags)


def _require_current(site: Site, returned: BundledCase) -> None:
    """The mask was drawn on the images that the case has now."""
    if open_queue(site).find(returned.pseudonym).material.automatic != returned.automatic:
        raise InputError(
            "bundle-outdated",
            case=returned.pseudonym,
            field="bundle",
            problem="The case was prepared anew after the bundle left.",
            fix="Export it again and read it on the new images.",
        )


def _require_own(site: Site, returned: BundledCase, bundle: Bundle) -> None:
    """Masks exchanged between cases lie on the same atlas grid; only their overlap tells."""
    queue = open_queue(site)

    def automatic(pseudonym: str) -> sitk.Image:
        return reader_files(site, queue.find(pseudonym).material.preparation).read("automatic")

    try:
        drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(returned.mask))) > 0
    except RuntimeError:
        return  # told better by the check that follows
    own = sitk.GetArrayFromImage(automatic(returned.pseudonym)) > 0
    if own.shape != drawn.shape or dice(own, drawn) > 0.5:
        return
    for other in bundle.cases:
        theirs = sitk.GetArrayFromImage(automatic(other.pseudonym)) > 0
        if other.pseudonym != returned.pseudonym and theirs.shape == drawn.shape and dice(theirs, drawn) > 0.9:
            raise InputError(
                "mask-of-another-case",
                case=returned.pseudonym,
                field="mask",
                problem="The mask is another case's of the same bundle.",
                fix="Put each mask back into its own case's folder.",
                local=f"it fits {other.pseudonym}",
            )


def _seal_key(site: Site) -> bytes:
    """Made once, readable by its owner only."""
    path = _own_folder(site) / "seal.key"
    if not path.exists():
        beside = path.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_bytes(secrets.token_bytes(32))
        beside.replace(path)
    return path.read_bytes()


def _own_folder(site: Site) -> Path:
    folder = site.settings.cache / "review"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
