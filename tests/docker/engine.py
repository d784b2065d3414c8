"""engine: a Docker engine that docker/engine.sh found or started, and the study's home that all containers share in parts."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "CONTAINERS",
    "OWNER",
    "ROOT",
    "SERVER_IMAGE",
    "SITES",
    "SITE_IMAGE",
    "Engine",
    "give_to_owner",
    "wait_until",
]

ROOT = Path(__file__).parents[2]
SITES = ("alpha", "beta", "gamma")
VERSION = "0.1.0"
SITE_IMAGE, SERVER_IMAGE = f"fedmidline-site:{VERSION}", f"fedmidline-server:{VERSION}"
CONTAINERS = {
    "server": "fedmidline-server-1",
    "alpha": "fedmidline-site-site-1",
    "beta": "fedmidline-beta-1",
    "gamma": "fedmidline-gamma-1",
}
OWNER = 10001
PATIENCE_S = 900
TMP = "/tmp:size=1g"  # noqa: S108  # of a container


class Engine:
    """A Docker engine, and the study's home of which all containers mount their parts."""

    def __init__(self, work: Path) -> None:
        self.work, self.home = work, work / "home"
        done = subprocess.run(
            ["sh", ROOT / "docker" / "engine.sh", "start", work], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(2)
        told = dict(line.split("=", 1) for line in done.stdout.splitlines())
        self.owned, self.namespace = told.pop("OWNED") == "1", told.pop("NAMESPACE", "")
        self.environment = {**os.environ, **told, "FEDMIDLINE_HOME": str(self.home), "FEDMIDLINE_MEMORY": "3g"}
        self.environment |= {"OMP_NUM_THREADS": "1", "DOCKER_BUILDKIT": "1"}

    def docker(self, *words: object, patience_s: float = PATIENCE_S, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", *map(str, words)],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=patience_s,
        )

    def compose(self, *words: object, patience_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        return self.docker("compose", "-f", ROOT / "docker" / "compose.yaml", *words, patience_s=patience_s)

    def kit(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Alpha runs as a hospital does, by the compose file of its kit; its way out ends at the server's network."""
        outside = self.work / "outside.yaml"
        outside.write_text("networks:\n  outside: {name: fedmidline_alpha, external: true}\n")
        files = ("-f", self.home / "kits" / "alpha" / "compose.yaml", "-f", outside)
        folders = {
            f"FEDMIDLINE_{n.upper()}": str(self.home / f / "alpha") for n, f in (("data", "data"), ("site", "sites"))
        }
        return self.docker("compose", *files, *words, **folders)

    def python(self, container: str, code: str, *words: object) -> str:
        """What Python says in a running container."""
        done = self.docker("exec", container, "python3", "-c", code, *words)
        return done.stdout.strip() or done.stderr.strip()[-300:]

    def alone(self, image: str, words: tuple[str, ...], *options: str) -> subprocess.CompletedProcess[str]:
        """Python in a container of its own, without a network."""
        confined = ("--network", "none", "--read-only", "--tmpfs", TMP, "--cap-drop", "ALL", *options)
        return self.docker("run", "--rm", *confined, "--entrypoint", "python3", image, *words)

    def inside(self, what: str) -> dict[str, object]:
        """tests/docker/inside.py, in the server's image."""
        mounts = [
            *("-e", "OMP_NUM_THREADS=1", "-v", f"{self.home}:/trial", "-v", f"{self.work}/images:/data"),
            *("-v", f"{ROOT}/tests:/app/tests:ro", "-v", f"{ROOT}/simulation:/app/simulation:ro"),
        ]
        done = self.alone(SERVER_IMAGE, ("-m", "tests.docker.inside", what), *mounts)
        if done.returncode:
            raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1]) or {}

    def inspect(self, name: str, template: str) -> str:
        return self.docker("inspect", "--format", template, name).stdout.strip()

    def events(self, site: str) -> str:
        """The site's structured log."""
        path = self.home / "sites" / site / "start" / "events.jsonl"
        return path.read_text() if path.exists() else ""

    def unpack_kit(self, study: str, site: str, into: Path) -> None:
        """As the kit's own page says: tar -xf, chmod 755 on the folder, chown 10001 on its key."""
        with tarfile.open(self.home / "studies" / study / "kits" / f"{site}.tar") as archive:
            archive.extractall(into, filter="data")
        (into / site).chmod(0o755)
        os.chown(into / site / "site.key", OWNER, OWNER)


def give_to_owner(*folders: Path) -> None:
    """Chown -R 10001:10001."""
    for folder in folders:
        for each in (folder, *folder.rglob("*")):
            os.chown(each, OWNER, OWNER, follow_symlinks=False)


def wait_until(what: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    end = time.monotonic() + patience_s
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True
