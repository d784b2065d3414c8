"""deidentify: a dataset without its patient, after DICOM PS3.15's basic profile (2026c), through dicom-anonymizer.

The library's rules are the standard's table.  Around it stand three things the table leaves to the user:
rules reach into sequences that are kept; UIDs are pseudonyms from the site's salt, the same every time; and after
the profile every remaining text goes as well, for a free text may hold a name wherever it stands, and codes keep
their defined terms only.  Private elements
go, but for the few numbers without which the voxels would be placed or scaled wrongly (Retain Safe Private option).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from functools import cache
from typing import Any

from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

__all__ = ["deidentify", "pseudonymous_uid"]

TEXTS = {"PN", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "AS", "DA", "DT", "TM", "UN"}
KEPT_TEXTS = {"Manufacturer", "DeidentificationMethod"}
TYPES = (
    "ORIGINAL DERIVED PRIMARY SECONDARY OTHER NONE MIXED M P R I MAGNITUDE PHASE REAL IMAGINARY ND NORM DIS2D DIS3D "
    "MOSAIC M_FFE M_SE M_IR P_FFE FFE SE IR EPI T1 T2 FLUID_ATTENUATED MPR ADC TRACEW FA MAP B0 B0/MAP UNSPECIFIED FIELD_MAP DIFFUSION SUBTRACTION VOLUME"
)
CODES = {
    name: {word.replace("/", " ") for word in words.split()}
    for name, words in {
        "ImageType": TYPES,
        "FrameType": TYPES,
        "Modality": "MR",
        "PhotometricInterpretation": "MONOCHROME1 MONOCHROME2",
        "ScanningSequence": "SE IR GR EP RM",
        "SequenceVariant": "SK MTC SS TRSS SP MP OSP NONE",
        "ScanOptions": "PER RG CG PPG FC PFF PFP SP FS",
        "MRAcquisitionType": "2D 3D",
        "InPlanePhaseEncodingDirection": "ROW COL COLUMN OTHER",
        "PatientPosition": "HFS HFP HFDR HFDL FFS FFP FFDR FFDL",
        "VolumetricProperties": "VOLUME SAMPLED DISTORTED MIXED",
        "ComplexImageComponent": "MAGNITUDE PHASE REAL IMAGINARY MIXED",
        "PixelPresentation": "MONOCHROME",
        "LossyImageCompression": "00 01",
        "PatientIdentityRemoved": "YES",
    }.items()
}
"""Codes that a reader may need, and their defined terms; any other code, or any other word in them, goes."""
VENDORS = {"siemens": "SIEMENS", "ge": "GE MEDICAL SYSTEMS", "philips": "Philips Medical Systems", "canon": "CANON",
           "toshiba": "TOSHIBA", "hitachi": "Hitachi", "fuji": "FUJIFILM", "uih": "UIH", "bruker": "Bruker"}  # fmt: skip
SCALES = {"", "US", "HU", "HZ", "NORMALIZED", "MSEC"}
SAFE_PRIVATE = {
    ("Philips MR Imaging DD 001", 0x0D),  # scale intercept
    ("Philips MR Imaging DD 001", 0x0E),  # scale slope
    ("Philips MR Imaging DD 005", 0x0D),
    ("Philips MR Imaging DD 005", 0x0E),
    ("Philips Imaging DD 001", 0x01),
    ("Philips MR Imaging DD 005", 0x0F),  # the sequence that holds them in enhanced files
    ("SIEMENS MR HEADER", 0x0A),  # number of images in mosaic
}
MOSAIC_GEOMETRY = ("SIEMENS CSA HEADER", 0x10)
"""Where the slices of a mosaic lie; nothing else says it.  Kept for mosaics only."""

Action = Callable[[Dataset, Any], None]


def deidentify(dataset: Dataset, salt: bytes) -> None:
    """Take the patient out of `dataset`, in place; the pixels stay as they are."""
    vendor = str(dataset.get("Manufacturer", "")).lower()
    mosaic = "MOSAIC" in (dataset.get("ImageType") or ())
    _apply(dataset, _rules(salt), mosaic)
    dataset.Manufacturer = next((name for start, name in VENDORS.items() if start in vendor), "other")
    dataset.PatientName = dataset.PatientID = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "PS3.15 basic profile, all free text removed"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "113100", "DCM"
    code.CodeMeaning = "Basic Application Confidentiality Profile"
    dataset.DeidentificationMethodCodeSequence = Sequence([code])


def pseudonymous_uid(uid: str, salt: bytes) -> str:
    """The same UID for the same original at one site, and no way back without the salt."""
    digest = hmac.new(salt, b"uid:" + uid.encode(), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@cache
def _rules(salt: bytes) -> dict[tuple[int, ...], Action]:
    def rename(dataset: Dataset, tag: Any) -> None:
        element = dataset.get(tag)
        if element is None:
            return
        value = element.value
        many = isinstance(value, list) or (hasattr(value, "__iter__") and not isinstance(value, str))
        element.value = [_new(uid) for uid in value] if many else _new(value)

    def _new(uid: str) -> UID:
        return UID(pseudonymous_uid(str(uid), salt)) if uid else UID("")

    return {
        tag: rename if action.__name__ == "replace_UID" else _or_delete(action)
        for tag, action in initialize_actions("dicomfields_2026c").items()
    }


def _or_delete(action: Action) -> Action:
    """The library refuses to find a dummy for some kinds of value: then the element goes."""

    def apply(dataset: Dataset, tag: Any) -> None:
        try:
            action(dataset, tag)
        except NotImplementedError:  # the library's word for a kind of value that it has no dummy for
            del dataset[tag]

    return apply


def _apply(dataset: Dataset, rules: dict[tuple[int, ...], Action], mosaic: bool) -> None:
    """The profile, then what it leaves, here and in every sequence."""
    for tag in list(dataset.keys()):
        if not _is_safe_private(dataset, tag, mosaic):
            del dataset[tag]
    present = {tag: action for tag, action in rules.items() if len(tag) > 2 or tag in dataset}
    anonymize_dataset(dataset, delete_private_tags=False, base_rules_gen=lambda: present)
    for element in list(dataset):
        if element.keyword in CODES:
            _keep_terms(dataset, element)
        elif _is_free_text(element):
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _apply(item, rules, mosaic)
    _drop_idle_creators(dataset)


def _is_safe_private(dataset: Dataset, tag: Any, mosaic: bool) -> bool:
    """Whether `tag` is none of the vendors' own, or one of the few that stay."""
    if not tag.is_private or tag.is_private_creator:
        return True
    creator = dataset.get((tag.group, tag.element >> 8))
    key = ("" if creator is None else str(creator.value).strip(), tag.element & 0xFF)
    return key in SAFE_PRIVATE or (mosaic and key == MOSAIC_GEOMETRY)


def _is_free_text(element: Any) -> bool:
    if element.tag.is_private or element.keyword in KEPT_TEXTS:
        return False
    if element.keyword == "RescaleType":
        return str(element.value).strip().upper() not in SCALES
    return element.VR in TEXTS or element.VR == "CS"


def _keep_terms(dataset: Dataset, element: Any) -> None:
    words = [element.value] if isinstance(element.value, str) else list(element.value or [])
    known = [word for word in words if str(word) in CODES[element.keyword]]
    if known:
        element.value = known if len(known) > 1 else known[0]
    else:
        del dataset[element.tag]


def _drop_idle_creators(dataset: Dataset) -> None:
    """A creator's name is a text, too; it stays only where it names something that stayed."""
    tags = list(dataset.keys())
    used = {(t.group, t.element >> 8) for t in tags if t.is_private and not t.is_private_creator}
    for tag in tags:
        if tag.is_private_creator and (tag.group, tag.element) not in used:
            del dataset[tag]
