"""The tree is the architecture: what DESIGN says of folders is checked here and by import-linter."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from client import app as client_app
from common.config.parse import parse_settings
from common.config.protocol import Protocol
from server.workflow import ANSWERS

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "client", "server", "simulation")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_come_from_this_repository(package):
    assert Path(importlib.import_module(package).__file__).parents[1] == ROOT


@pytest.mark.parametrize("action", sorted(ANSWERS))
def test_one_word_in_three_rooms(action):
    """The action, the message's file and the task's file have one name."""
    assert (ROOT / "common" / "messages" / f"{action}.py").exists()
    assert (ROOT / "client" / "tasks" / f"{action}.py").exists()
    assert hasattr(client_app, f"_{action}")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path):
    """A docstring that opens with the module's name, and __all__; package files are exempt."""
    if path.name == "__init__.py":
        return
    tree = ast.parse(path.read_text())

    assert (ast.get_docstring(tree) or "").startswith(f"{path.stem}:")
    assert any(isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__" for n in tree.body)


def test_no_junk_drawer():
    assert [p for p in FILES if re.search(r"utils|helpers|misc|tools", str(p.relative_to(ROOT)))] == []


def test_broad_excepts_stand_at_boundaries_only():
    """One at the site's door, one around a case, a series, a file of weights, and one that plays Flower's."""
    found = {str(p.relative_to(ROOT)) for p in FILES if "except Exception" in p.read_text()}

    assert {
        "client/app.py",
        "client/segment/bundle.py",
        "client/tasks/around_a_case.py",
        "client/tasks/convert_folder.py",
        "simulation/local_grid.py",
    } == found


def test_the_bundle_for_hospitals_holds_no_site_file():
    """Flower would ship every YAML of the repository to every hospital."""
    text = (ROOT / "pyproject.toml").read_text()

    assert 'fab-include = ["server/**/*.py", "client/**/*.py", "common/**/*.py"]' in text


@pytest.mark.parametrize("name", ["paper", "recommended"])
def test_shipped_protocols_are_valid(name):
    path = ROOT / "site_configs" / "protocols" / f"{name}.yaml"

    protocol = parse_settings(Protocol, path.read_text(), source=path.name)

    assert name == protocol.name
    assert protocol.visual.length == 1_048_576


def test_importing_is_silent():
    """No socket, no output, when every light module is imported."""
    code = (
        "import socket; socket.socket.connect = None\n"
        "import common.catalogue, common.tables, common.config.protocol, common.stats.quantiles, client.ingest.manifest\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_every_fault_of_the_documents_has_its_test():
    """docs/faults.md promises; what it names must be there."""
    named = re.findall(r"`(\w+/\w+\.py)::(\w+)`", (ROOT / "docs" / "faults.md").read_text())

    assert len(named) >= 20
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text()]
    assert missing == []


def test_every_event_of_the_logs_is_documented():
    """Whoever watches a deployment looks an event up in docs/deployment.md."""
    written = {event for path in FILES for event in re.findall(r'tell\(\s*"([a-z-]+)"', path.read_text())}
    documented = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs" / "deployment.md").read_text()))

    assert len(written) >= 15
    assert written <= documented
