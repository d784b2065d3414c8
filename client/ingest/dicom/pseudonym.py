"""pseudonym: names that tell nothing without the site's salt (keyed hashes, HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
import hmac

from client.ingest.dicom.header import Header
from client.ingest.dicom.series import Series

__all__ = ["patient_pseudonym", "series_key"]


def patient_pseudonym(header: Header, salt: bytes) -> str:
    """`p-` and 10 letters; by PatientID, or by name and date of birth where a file has no ID."""
    number, name, born = header.patient
    return "p-" + _code(f"patient:{number}" if number else f"person:{name}:{born}", salt, 10)


def series_key(series: Series, salt: bytes) -> str:
    """`s-` and 8 letters; what a person writes into the manifest to name this very series."""
    return "s-" + _code(f"series:{series.first.series_uid}:{series.part}", salt, 8)


def _code(text: str, salt: bytes, length: int) -> str:
    digest = hmac.new(salt, text.encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode().lower()[:length]
