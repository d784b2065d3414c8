"""faults: why a series is refused, by name and with its cure; the first reason counts."""

from __future__ import annotations

import numpy as np

from client.ingest.dicom.series import Series
from common.errors import InputError

__all__ = ["REFUSALS", "fault_of", "refusal"]

REFUSALS: dict[str, tuple[str, str]] = {
    # found in the headers
    "mixed-patients": ("A series holds slices of several patients.", "Export it again, one patient per series."),
    "localizer": ("The series is a localizer.", "Nothing; it is not needed."),
    "not-an-image": ("The object is no MR image (report, presentation state, segmentation ...).", "Nothing."),
    "not-mr": ("The series is not MR.", "Nothing; only MR is read."),
    "secondary-capture": ("The series is a secondary capture (a screenshot).", "Export the original series."),
    "derived": ("The series is derived (reformat, projection, map).", "Export the original series, or name this one."),
    "not-magnitude": ("The series is a phase, real or imaginary image.", "Export the magnitude images."),
    "burned-in": ("The pixels carry burned-in annotation.", "Export the series without annotation."),
    "colour": ("The pixels are in colour.", "Export the original grey-scale series."),
    "no-geometry": ("Position, orientation or pixel spacing is missing.", "Export the series from the scanner again."),
    "duplicate-slices": ("Slices lie at the same place, but not evenly.", "Export the series once, into a new folder."),
    "missing-slices": ("Slices are missing.", "Export the series again, completely."),
    "incomplete-series": (
        "Instance numbers say that slices are missing at an end.",
        "Export the series again, completely; or name it in the manifest's series column if it is complete.",
    ),
    "irregular-spacing": ("The distance between slices changes.", "Export the original acquisition."),
    "gantry-tilt": ("Slices are sheared against each other (gantry tilt).", "Export an untilted reconstruction."),
    "too-few-slices": ("The series has fewer than 4 slices.", "Name a volume series."),
    # found while choosing
    "sequence-not-found": (
        "No series of this kind was found.",
        "Name the series in the manifest, or exclude the case.",
    ),
    "ambiguous-series": ("Several series are of this kind.", "Name one in the manifest's series column."),
    "uncertain-series": ("The kind of the series is not certain.", "Name it in the manifest's series column."),
    "override-not-found": (
        "No series fits the manifest's series column.",
        "Run `fedmidline-site convert` to list them.",
    ),
    "override-ambiguous": ("Several series fit the manifest's series column.", "Name it by its series key."),
    "patients-differ": ("T1CE and FLAIR are of different patients.", "Mend the paths in the manifest."),
    # found while converting
    "not-converted": ("The converter made no image of the series.", "Export it in another transfer syntax."),
    "several-volumes": ("The series holds several volumes.", "Export one volume per series."),
    "readers-disagree": (
        "Two readers made different images of the series.",
        "Export it again; if it stays so, report the pair of results.",
    ),
}


def refusal(code: str, *, case: str = "", field: str = "dicom", local: str = "") -> InputError:
    """The error of a code; `local` holds neither path nor text of a header."""
    problem, fix = REFUSALS[code]
    return InputError(code, case=case, field=field, problem=problem, fix=fix, local=local)


def fault_of(series: Series, *, named: bool = False) -> str:
    """The code, or an empty text for a series that may be converted.

    named: a person chose this very series: then a reformat that is a whole volume of MR pixels is taken, and a stack
    whose instance numbers have gaps.
    """
    fault = series.fault or _fault_of_kind(series, named) or _fault_of_geometry(series)
    # An enhanced file numbers its frames itself.
    return fault or ("" if series.complete or series.first.enhanced or named else "incomplete-series")


def _fault_of_kind(series: Series, named: bool) -> str:
    header = series.first
    if header.class_uid.startswith("1.2.840.10008.5.1.4.1.1.7"):
        return "secondary-capture"
    no_image = header.modality in {"SR", "PR", "KO", "SEG", "RTSTRUCT", "DOC", "OT", ""} or min(header.size) == 0
    if header.modality != "MR":
        return "not-an-image" if no_image else "not-mr"
    told = set(header.image_type)
    derived = "DERIVED" in told or "SECONDARY" in told or bool(told & {"MPR", "MIP", "PROJECTION IMAGE"})
    reasons = {
        "not-an-image": no_image,
        "colour": header.samples_per_pixel != 1,
        "burned-in": header.burned_in,
        "derived": derived and not named,
        "not-magnitude": bool(told & {"P", "R", "I", "PHASE", "REAL", "IMAGINARY"}),
    }
    return next((code for code, holds in reasons.items() if holds), "")


def _fault_of_geometry(series: Series) -> str:
    if series.mosaic:
        return ""  # its slices lie inside one picture; the converter knows where
    if not series.frames:
        return "no-geometry"
    stack = series.stack
    if len(stack.places) < 4:
        return "too-few-slices"
    gaps = np.diff(stack.places)
    usual = float(np.median(gaps))
    reasons = {
        # An incomplete last volume of a time series reads the same as a slice exported twice: both are refused.
        "duplicate-slices": not stack.volumes,
        "missing-slices": gaps.max() > 1.5 * usual,
        "irregular-spacing": np.abs(gaps - usual).max() > max(0.05 * usual, 0.02) or stack.wobble_mm > 0.1,
        "gantry-tilt": stack.shear_mm > 0.1,
    }
    return next((code for code, holds in reasons.items() if holds), "")
