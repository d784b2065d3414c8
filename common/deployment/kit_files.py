"""kit_files: the files of a site kit and the seal that shows a changed one.

The seal is SHA256SUMS (any `sha256sum -c` reads it) and a signature of it by the study's authority.  Whoever could
replace the authority's certificate could replace the kit: therefore its fingerprint is told by a second channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import InputError

__all__ = ["AUTHORITY", "KEY", "PROTOCOL", "PUBLIC_KEY", "SETTINGS", "certificate_fingerprint", "seal", "verify_kit"]

SETTINGS, AUTHORITY, PROTOCOL = "kit.yaml", "ca.crt", "protocol.yaml"
KEY, PUBLIC_KEY = "site.key", "site.key.pub"
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 as it is read out over the telephone: pairs of digits with colons, as openssl prints it."""
    digest = certificate.fingerprint(hashes.SHA256()).hex().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def seal(files: Mapping[str, bytes], key: ec.EllipticCurvePrivateKey) -> dict[str, bytes]:
    """The two files that seal these."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    sums = "".join(lines).encode()
    return {SUMS: sums, SIGNATURE: key.sign(sums, ec.ECDSA(hashes.SHA256()))}


def verify_kit(folder: Path) -> x509.Certificate:
    """The authority's certificate, when every file of the kit is as it was sealed.

    InputError: kit-incomplete, kit-changed (all files at once), kit-seal-broken.
    """
    missing = [name for name in (SUMS, SIGNATURE, AUTHORITY) if not (folder / name).is_file()]
    if missing:
        raise _fault("kit-incomplete", missing, "is not there", folder)
    sums = (folder / SUMS).read_bytes()
    try:
        authority = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
        public = authority.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise InvalidSignature  # noqa: TRY301  # one answer to everything that is not the study's seal
        public.verify((folder / SIGNATURE).read_bytes(), sums, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
        raise _fault("kit-seal-broken", [SUMS, SIGNATURE, AUTHORITY], "does not belong to the others", folder) from None
    lines = [line.split("  ", 1) for line in sums.decode().splitlines()]
    wanted = {name: digest for digest, name in lines}
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise _fault("kit-incomplete", missing, "is not there", folder)
    changed = [n for n, digest in wanted.items() if hashlib.sha256((folder / n).read_bytes()).hexdigest() != digest]
    if changed:
        raise _fault("kit-changed", changed, "is not as it was sealed", folder)
    return authority


def _fault(code: str, names: list[str], what: str, folder: Path) -> InputError:
    return InputError(
        code,
        field=", ".join(names),
        problem=f"A file of the kit {what}.",
        fix="Unpack the kit again; if that does not help, ask the coordinator for a new one.",
        local=str(folder),
    )
