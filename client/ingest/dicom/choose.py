"""choose: the one series of a kind among all that a folder holds, or a refusal that says what a person must decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from client.ingest.dicom.faults import fault_of, refusal
from client.ingest.dicom.identify import Identification, Kind, identify
from client.ingest.dicom.pseudonym import series_key
from client.ingest.dicom.scan import DicomScan
from client.ingest.dicom.series import Series

__all__ = ["Candidate", "candidates", "choose"]


@dataclass(frozen=True)
class Candidate:
    """A series with what it seems to be; fault: why it is refused, or empty."""

    series: Series
    key: str
    identification: Identification
    fault: str

    @property
    def kind(self) -> Kind:
        """The likeliest."""
        return self.identification.kind


def candidates(scan: DicomScan, salt: bytes) -> tuple[Candidate, ...]:
    """Every series of the folder, refused ones included."""
    return tuple(
        Candidate(series, series_key(series, salt), identify(series.first, volumes=_volumes(series)), fault_of(series))
        for series in scan.series
    )


def choose(found: Sequence[Candidate], kind: Kind, *, named: str = "", case: str = "", field: str = "") -> Candidate:
    """The series of this kind.

    A folder that holds one series only names it: it is taken unless it certainly is of another kind.
    named: a person's word: the series key, the series UID, the number as `#7`, or the description.
    InputError: sequence-not-found, ambiguous-series, uncertain-series, override-not-found, override-ambiguous, or
    the named series' own fault.
    """
    if named:
        return _named(found, named, case, field)
    if len(found) == 1 and not found[0].fault and not found[0].identification.certain:
        return found[0]
    of_kind = [c for c in found if c.kind == kind]
    sound = [c for c in of_kind if not c.fault]
    certain = [c for c in sound if c.identification.certain]
    if len(certain) == 1:
        return certain[0]
    if len(certain) > 1:
        raise refusal("ambiguous-series", case=case, field=field, local=_list(certain))
    if sound:
        raise refusal("uncertain-series", case=case, field=field, local=_list(sound))
    if len({c.fault for c in of_kind}) == 1:  # the only reason is the reason
        raise refusal(of_kind[0].fault, case=case, field=field, local=_list(of_kind))
    raise refusal("sequence-not-found", case=case, field=field, local=_list(found))


def _named(found: Sequence[Candidate], named: str, case: str, field: str) -> Candidate:
    hits = [c for c in found if named in {c.key, c.series.first.series_uid, f"#{c.series.first.series_number}"}]
    hits = hits or [c for c in found if c.series.first.description.lower() == named.lower()]
    if not hits:
        raise refusal("override-not-found", case=case, field=field, local=_list(found))
    sound = [c for c in hits if not fault_of(c.series, named=True)]
    if len(sound) > 1:
        raise refusal("override-ambiguous", case=case, field=field, local=_list(sound))
    if not sound:
        raise refusal(fault_of(hits[0].series, named=True), case=case, field=field, local=_list(hits))
    return sound[0]


def _volumes(series: Series) -> int:
    if series.mosaic:
        return max(2, len(series.headers))  # only time series are sent as mosaics
    return series.stack.volumes if series.frames and series.stack.volumes else 1


def _list(some: Sequence[Candidate]) -> str:
    """Keys, numbers and likely kinds; no text of a header."""
    return "; ".join(
        f"{c.key} (number {c.series.first.series_number}): {c.kind} {c.identification.confidence:.2f} {c.fault}".strip()
        for c in some
    )
