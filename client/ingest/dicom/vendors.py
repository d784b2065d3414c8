"""vendors: a scanner's name in words of a closed list, so that nothing typed at the console becomes a batch name."""

from __future__ import annotations

__all__ = ["scanner_name"]

MAKERS = {
    "siemens": "Siemens",
    "ge medical": "GE",
    "ge health": "GE",
    "general electric": "GE",
    "philips": "Philips",
    "canon": "Canon",
    "toshiba": "Canon",
    "hitachi": "Fujifilm",
    "fujifilm": "Fujifilm",
    "uih": "United Imaging",
    "united imaging": "United Imaging",
    "shanghai united": "United Imaging",
    "bruker": "Bruker",
    "hyperfine": "Hyperfine",
}
# Longer names first: `MR750w` must not become `MR750`.
FAMILIES = [
    "MR750w", "MR750", "MR450w", "MR450", "MR360", "MR355", "MR350", "MR290", "HDxt", "HDx", "HDe",
    "SIGNA Premier", "SIGNA Architect", "SIGNA Pioneer", "SIGNA Artist", "SIGNA Voyager", "SIGNA Explorer",
    "SIGNA Creator", "SIGNA Hero", "SIGNA PET/MR", "SIGNA EXCITE", "SIGNA", "Prisma fit", "Prisma", "Skyra fit",
    "Skyra", "Verio", "TrioTim", "Trio", "Spectra", "Avanto fit", "Avanto", "Aera", "Amira", "Sempra", "Espree",
    "Essenza", "Symphony", "Sonata", "Allegra", "Vida", "Lumina", "Sola", "Altea", "Cima", "Terra", "Free Max",
    "Free Star", "Biograph mMR", "Biograph", "Achieva", "Ingenia Elition", "Ingenia Ambition", "Ingenia", "Intera",
    "Panorama", "Gyroscan", "Multiva", "Prodiva", "MR 5300", "MR 7700", "Vantage Titan", "Vantage Galan",
    "Vantage Orian", "Vantage Elan", "Vantage", "Titan", "Galan", "Orian", "Centurian", "Echelon", "Oasis",
    "Aperto", "Airis", "uMR 570", "uMR 580", "uMR 588", "uMR 670", "uMR 770", "uMR 780", "uMR 790", "uMR 870",
    "uMR 880", "uMR 890", "uMR", "Swoop", "Biospec", "Pharmascan",
]  # fmt: skip


def scanner_name(manufacturer: str, model: str, field_strength_t: float | None) -> str:
    """`GE MR750 3.0T`; parts that are not in the list read `other`, and an absent field strength is left out."""
    maker = next((name for start, name in MAKERS.items() if start in manufacturer.lower()), "other")
    told = _plain(model)
    family = next((name for name in FAMILIES if _plain(name) in told), "other") if told else "other"
    field = "" if field_strength_t is None or not 0 < field_strength_t < 30 else f" {field_strength_t:.1f}T"
    return f"{maker} {family}{field}"


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
