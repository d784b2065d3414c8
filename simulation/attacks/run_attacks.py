"""run_attacks: all attacks on one cohort, and the page that tells what each gained, with protection and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.reporting.report import PAGES
from simulation.attacks.differencing import attack_differences
from simulation.attacks.gradient_inversion import attack_gradients
from simulation.attacks.material import Material
from simulation.attacks.membership import attack_membership
from simulation.attacks.outcome import Attack, attack_json
from simulation.attacks.table_reconstruction import attack_tables
from simulation.attacks.update_membership import attack_update_membership

__all__ = ["QUICK", "USUAL", "Effort", "run_attacks", "write_attack_report"]

Effort = tuple[tuple[int, ...], int]
"""Sizes of the hospitals whose updates are inverted, and shadow models."""
USUAL: Effort = ((1, 2, 16, 68), 16)
QUICK: Effort = ((1, 16), 8)


def run_attacks(
    material: Material, *, seed: int, effort: Effort = USUAL, stage: Callable[[str], None] = lambda _text: None
) -> tuple[Attack, ...]:
    """In the order of the report; stage: who is told what runs."""
    sizes, models = effort
    steps: dict[str, Callable[[], Attack]] = {
        "inverting updates": lambda: attack_gradients(material, seed=seed, sizes=sizes),
        "membership in one round": lambda: attack_update_membership(material, seed=seed, cases=max(sizes)),
        "membership, by shadow models": lambda: attack_membership(material, seed=seed, models=models),
        "reconstruction from tables": lambda: attack_tables(material, seed=seed),
        "differences of sums": lambda: attack_differences(material, seed=seed),
    }
    found = []
    for text, step in steps.items():
        stage(text)
        found.append(step())
    return tuple(found)


def write_attack_report(folder: Path, attacks: tuple[Attack, ...], *, source: str, seed: int) -> dict[str, Any]:
    """attacks.json and attacks.html, each beside and then renamed; returns the former."""
    report: dict[str, Any] = {
        "title": "Attacks on a study, with and without protection",
        "research_use_only": True,
        "cohort": source,
        "seed": seed,
        "software": version("fedmidline"),
        "passed": not any(attack.failed for attack in attacks),
        "attacks": [attack_json(attack) for attack in attacks],
    }
    # The style is the study's report's own.
    environment = Environment(
        loader=FileSystemLoader((Path(__file__).parent, PAGES)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("attacks.html").render(r=report)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("attacks.json", json.dumps(report, indent=1, allow_nan=False)), ("attacks.html", page)):
        beside = folder / f".{name}.new"
        beside.write_text(text, encoding="utf-8")
        beside.replace(folder / name)
    return report
