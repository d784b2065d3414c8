"""The command fedmidline-sim attack, whole, on few persons."""

from __future__ import annotations

import json

import pytest

from common.command import run_command
from simulation.attacks import command
from simulation.attacks.outcome import Attack, Measured, Outcome
from simulation.cli import app


def call(monkeypatch, capsys, *words):
    """Exit code, and what it prints as JSON."""
    monkeypatch.setattr("sys.argv", ["fedmidline-sim", "attack", *map(str, words), "--json"])
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    return ended.value.code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_every_promise_is_kept_and_what_is_not_defended_is_told(tmp_path, monkeypatch, capsys):
    code, report = call(monkeypatch, capsys, "--out", tmp_path, "--quick", "--cases", 90)

    assert code == 0
    assert report == json.loads((tmp_path / "attacks.json").read_text())
    assert [attack["name"] for attack in report["attacks"]] == [
        "gradient-inversion", "update-membership", "membership", "table-reconstruction", "differencing",
    ]  # fmt: skip
    verdicts = {o["verdict"] for attack in report["attacks"] for o in attack["outcomes"]}
    assert {"defended", "not defended"} <= verdicts
    assert "FAILED" not in verdicts
    assert "not defended" in (tmp_path / "attacks.html").read_text()


def test_a_broken_promise_is_exit_code_3_and_still_reported(tmp_path, monkeypatch, capsys):
    broken = Outcome("all", "share", Measured(0.9), "the door", Measured(0.9), 0.0, 0.5, claimed=True)
    attack = Attack("name", "title", "question", "knows", "source", (broken,), "remains")
    monkeypatch.setattr(command, "run_attacks", lambda *_, **__: (attack,))

    code, report = call(monkeypatch, capsys, "--out", tmp_path, "--cases", 60)

    assert code == 3
    assert not report["passed"]
    assert "did not" in (tmp_path / "attacks.html").read_text()
