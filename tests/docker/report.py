"""report: one line per check as it is made, and all of them as JSON at the end."""

from __future__ import annotations

import subprocess
import time

__all__ = ["Report"]


class Report:
    """Prints each check as it is made, and keeps it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self._begun = time.monotonic()

    def check(self, name: str, holds: object, detail: object = "") -> None:
        self._note(name, "ok" if holds else "FAILED", detail)

    def check_command(self, name: str, done: subprocess.CompletedProcess[str], code: int = 0, says: str = "") -> None:
        """The exit code, and a word that it must say; its last words are shown when it does not."""
        holds = done.returncode == code and says in done.stderr
        self.check(name, holds, "" if holds else f"exit {done.returncode}: {done.stderr.strip()[-400:]}")

    def skip(self, name: str, reason: str) -> None:
        self._note(name, "skipped", reason)

    def _note(self, name: str, verdict: str, detail: object) -> None:
        row = {"check": name, "verdict": verdict, "detail": str(detail), "at_s": round(time.monotonic() - self._begun)}
        self.rows.append(row)
        print(f"{verdict:<7} {row['at_s']:>5} s  {name}{f'  ({detail})' if str(detail) else ''}", flush=True)

    def failed(self) -> list[object]:
        return [row["check"] for row in self.rows if row["verdict"] == "FAILED"]

    def summary(self) -> dict[str, object]:
        skipped = [row["check"] for row in self.rows if row["verdict"] == "skipped"]
        seconds = round(time.monotonic() - self._begun)
        return {
            "checks": len(self.rows),
            "failed": self.failed(),
            "skipped": skipped,
            "seconds": seconds,
            "rows": self.rows,
        }
