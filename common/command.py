"""command: how every command ends: a known fault is told in full and gives the exit code of its kind."""

from __future__ import annotations

import json
from typing import Any

import click
import typer
from rich.console import Console, RenderableType

from common.errors import StudyError

__all__ = ["RESEARCH_USE_ONLY", "new_command", "run_command", "say", "screen"]

RESEARCH_USE_ONLY = "Research use only, not a medical device."
INTERRUPTED = 4
TYPERS_INTERRUPTED = 130

screen = Console(stderr=True)
"""Words for people go to standard error; standard output is for machines."""


def new_command(purpose: str) -> typer.Typer:
    """A command with the settings that all of ours share."""
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=f"{purpose} {RESEARCH_USE_ONLY}",
    )


def say(result: dict[str, Any], picture: RenderableType, *, as_json: bool) -> None:
    """A result as JSON on standard output for machines, or as a picture on standard error for people."""
    if as_json:
        print(json.dumps(result))
    else:
        screen.print(picture, soft_wrap=isinstance(picture, str))


def run_command(command: typer.Typer) -> None:
    """Run; exit 0 only on success, 2 for bad input, 3 for refused by policy, 4 for stopped but resumable."""
    try:
        # Not standalone: click would turn an interruption into exit code 1, which means nothing to a script.
        code = command(standalone_mode=False) or 0
    except StudyError as error:
        screen.print(error.explain(), style="red", markup=False, highlight=False)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = TYPERS_INTERRUPTED
    if code == TYPERS_INTERRUPTED:
        screen.print("interrupted; what is finished is kept, the same command goes on", style="yellow")
        code = INTERRUPTED
    raise SystemExit(code)
