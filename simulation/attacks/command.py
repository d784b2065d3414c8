"""command: fedmidline-sim attack: what a curious server and a curious reader gain, with protection and without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from common.command import say, screen
from common.errors import Refused
from simulation.attacks.material import draw_material, material_of_replay
from simulation.attacks.outcome import Attack
from simulation.attacks.run_attacks import QUICK, USUAL, run_attacks, write_attack_report

__all__ = ["attack"]


def attack(
    out: Annotated[Path, typer.Option(help="folder for attacks.html and attacks.json")],
    from_replay: Annotated[
        Path | None,
        typer.Option(help="folder of a finished replay, whose prepared cases are attacked; else drawn ones"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="two sizes of hospitals and few shadow models")] = False,
    cases: Annotated[int, typer.Option(min=60, help="persons to draw; 204 are needed for hospitals of 68")] = 254,
    seed: Annotated[int, typer.Option(help="of the cohort and of every draw")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")] = False,
) -> None:
    """Attack a study as a curious server or reader would, with protection and without.

    Exit code 3 where a protection does not keep what it promises.

    Example: fedmidline-sim attack --out runs/attack
    """
    material = draw_material(seed, cases=cases) if from_replay is None else material_of_replay(from_replay)
    effort = QUICK if quick else USUAL
    attacks = run_attacks(material, seed=seed, effort=effort, stage=lambda text: screen.print(text, style="dim"))
    report = write_attack_report(out, attacks, source=material.source, seed=seed)
    say(report, _table(attacks), as_json=as_json)
    screen.print(f"written: {out / 'attacks.html'}", soft_wrap=True)
    broken = [f"{a.name} ({o.setting}, {o.protection})" for a in attacks for o in a.failed]
    if broken:
        raise Refused(
            "attack-succeeded",
            field=", ".join(broken)[:300],
            problem="A protection did not keep what it promises.",
            fix="Read the report; do not run a study with patients under this protocol before it is mended.",
        )


def _table(attacks: tuple[Attack, ...]) -> Table:
    table = Table("attack", "setting", "figure", "guessing", "without", "protection", "with", "verdict")
    for found in attacks:
        for o in found.outcomes:
            figures = (f"{o.guessing:.3f}", f"{o.unprotected.value:.3f}", o.protection, f"{o.protected.value:.3f}")
            table.add_row(found.name, o.setting, o.metric, *figures, o.verdict)
    return table
