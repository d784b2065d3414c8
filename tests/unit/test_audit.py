"""The audit counts what was looked up; only then it says that nothing was found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / "docker" / "audit.sh"
CLEAN = {"name": "clean", "version": "1.0", "vulns": []}
SKIPPED = {"name": "unknown", "skip_reason": "not found"}
FAULTY = {"name": "faulty", "version": "2.0", "vulns": [{"id": "PYSEC-0", "fix_versions": ["2.1", "3.0"]}]}


def audit(folder: Path, answer: str, *options: str) -> tuple[int, str]:
    """Exit code and last line, with a pip-audit that says `answer` and notes how it was called."""
    peer, said = folder / "pip-audit", folder / "said.json"
    said.write_text(answer)
    peer.write_text(f'#!/bin/sh\nprintf "%s " "$@" > {folder}/asked\ncat {said}\n')
    peer.chmod(0o755)
    done = subprocess.run(["sh", AUDIT, peer, sys.executable, *options], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([CLEAN, CLEAN], 0, "2 packages looked up, 0 vulnerabilities, 0 packages not looked up"),
        ([CLEAN, SKIPPED], 0, "1 packages looked up, 0 vulnerabilities, 1 packages not looked up"),
        ([CLEAN, FAULTY], 1, "faulty 2.0: PYSEC-0, mended in 2.1, 3.0"),
        ([SKIPPED, SKIPPED], 0, "NOT DONE"),
        ([], 0, "NOT DONE"),
    ],
)
def test_what_was_looked_up_is_counted(tmp_path, packages, code, says):
    found, told = audit(tmp_path, json.dumps({"dependencies": packages}))

    assert found == code
    assert says in told


@pytest.mark.parametrize("answer", ["", "{", "{}", "[]"])
def test_a_service_that_says_nothing_is_no_clean_bill(tmp_path, answer):
    code, told = audit(tmp_path, answer)

    assert code == 0
    assert "NOT DONE" in told


def test_a_mirror_of_ones_own_is_asked(tmp_path):
    audit(tmp_path, "{}", "--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:1/query")

    assert (tmp_path / "asked").read_text().endswith("--vulnerability-service osv --osv-url http://127.0.0.1:1/query ")
