"""attack: `python -m tests.docker.attack`: build the images, run a study in containers, attack and break it.

One line per check on standard output, then a JSON summary; exit 0 when all hold, 1 when one does not, 2 when the
machine lacks something.  `make docker-test` calls it; no test suite does.  It needs a Docker engine, or root to start
one (docker/engine.sh), and docker/wheelhouse (docker/wheelhouse.sh).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITES = ("alpha", "beta", "gamma")
VERSION = "0.1.0"
SITE_IMAGE, SERVER_IMAGE = f"fedmidline-site:{VERSION}", f"fedmidline-server:{VERSION}"
OWNER = 10001
OUTSIDE = "198.51.100.2"
"""A documentation address; a namespace of its own plays the outside world there."""
PATIENCE_S = 900

CONFINED = """
import json, os
def fails(path):
    try: open(path, "w").close(); os.unlink(path)
    except OSError as error: return error.strerror
    return ""
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
limits = ["/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"]
print(json.dumps({
    "uid": os.getuid(), "capabilities": [status[k].strip() for k in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privs": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "writes": {p: fails(p + "/x") for p in ("", "/app", "/usr/local/bin", "/etc", "/kit", "/data") if os.path.isdir(p or "/")},
    "data": sorted(os.listdir("/data")) if os.path.isdir("/data") else [],
    "memory": next((open(p).read().strip() for p in limits if os.path.exists(p)), ""),
    "socket": os.path.exists("/var/run/docker.sock"),
}))
"""
REACH = """
import json, socket, sys
def tries(host, port):
    try: socket.create_connection((host, int(port)), timeout=4).close()
    except OSError as error: return type(error).__name__
    return "open"
def asks(server):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(b"direct" + sys.argv[1].encode(), (server, 53))
    except OSError as error: return type(error).__name__
    return "sent"
found = {target: tries(*target.rsplit(":", 1)) for target in sys.argv[3:]}
found["udp"] = asks(sys.argv[2])
try: socket.getaddrinfo(sys.argv[1] + ".example.org", 80); found["name"] = "resolved"
except OSError as error: found["name"] = type(error).__name__
print(json.dumps(found))
"""
HALT = """
import os, signal, sys
for entry in os.listdir("/proc"):
    try: words = open(f"/proc/{entry}/cmdline").read() if entry.isdigit() else ""
    except OSError: continue
    if "client.worker" in words and "deployment.child" not in words: os.kill(int(entry), getattr(signal, sys.argv[1]))
"""
PLAIN = """
import socket
with socket.create_connection(("server", 8443), timeout=10) as plain:
    plain.sendall(b"GET /v1/site/hello HTTP/1.1\\r\\nHost: server\\r\\n\\r\\n")
    print("answered" if b"200" in plain.recv(1000) else "silent")
"""
FOREIGN = """
import os
names = {"pip.conf", ".netrc", ".pypirc", ".npmrc", "id_rsa", "site.key", "ca.key", "Dockerfile", ".git"}
found = [os.path.join(at, n) for at, folders, files in os.walk("/") if not at.startswith(("/proc", "/sys"))
         for n in files + folders if n in names or n.endswith(".whl") and "ensurepip" not in at and "python-wheels" not in at]
found += [name for name in os.environ if name.startswith("PIP_") or "proxy" in name.lower()]
print("\\n".join(found))
"""


class Report:
    """Prints each check as it is made, and keeps it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self._begun = time.monotonic()

    def check(self, name: str, holds: object, detail: object = "") -> None:
        row = {
            "check": name,
            "holds": bool(holds),
            "detail": str(detail),
            "at_s": round(time.monotonic() - self._begun),
        }
        self.rows.append(row)
        print(
            f"{'ok  ' if holds else 'FAIL'} {row['at_s']:>5} s  {name}{f'  ({detail})' if str(detail) else ''}",
            flush=True,
        )

    def skip(self, name: str, reason: str) -> None:
        self.rows.append({"check": name, "holds": None, "detail": reason})
        print(f"skip          {name}  ({reason})", flush=True)

    def summary(self) -> dict[str, object]:
        failed = [row["check"] for row in self.rows if row["holds"] is False]
        skipped = [row["check"] for row in self.rows if row["holds"] is None]
        return {
            "checks": len(self.rows),
            "failed": failed,
            "skipped": skipped,
            "seconds": round(time.monotonic() - self._begun),
            "rows": self.rows,
        }


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

    def inside(self, what: str) -> dict[str, object]:
        """tests/docker/inside.py, in the server's image, without a network."""
        mounts = [
            *("-v", f"{self.home}:/work", "-v", f"{self.work}/images:/data"),
            *("-v", f"{ROOT}/tests:/app/tests:ro", "-v", f"{ROOT}/simulation:/app/simulation:ro"),
        ]
        confined = ("--network", "none", "--read-only", "--tmpfs", "/tmp:size=1g", "--cap-drop", "ALL")
        done = self.docker(
            *("run", "--rm", *confined, "-e", "OMP_NUM_THREADS=1", *mounts),
            *("--entrypoint", "python3", SERVER_IMAGE, "-m", "tests.docker.inside", what),
        )
        if done.returncode:
            raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1]) or {}

    def inspect(self, name: str, template: str) -> str:
        return self.docker("inspect", "--format", template, name).stdout.strip()

    def own(self, path: Path) -> None:
        """As the instructions say: chown -R 10001:10001."""
        for each in (path, *path.rglob("*")):
            os.chown(each, OWNER, OWNER, follow_symlinks=False)


CONTAINERS = {
    "server": "fedmidline-server-1",
    "alpha": "fedmidline-site-site-1",
    "beta": "fedmidline-beta-1",
    "gamma": "fedmidline-gamma-1",
}


def wait_until(what: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    end = time.monotonic() + patience_s
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def build(engine: Engine, report: Report) -> None:
    done = engine.compose("build", "server", "alpha", patience_s=3600)
    report.check(
        "both images are built from the wheelhouse alone",
        done.returncode == 0,
        done.stderr.strip()[-300:] if done.returncode else "",
    )
    if done.returncode:
        raise SystemExit(1)
    for image in (SITE_IMAGE, SERVER_IMAGE):
        labels = json.loads(engine.inspect(image, "{{json .Config.Labels}}"))
        report.check(f"{image} says what it is not for", "not a medical device" in " ".join(labels.values()))
        report.check(f"{image} runs as 10001", engine.inspect(image, "{{.Config.User}}") == "10001:10001")
        found = engine.docker(
            "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "python3", image, "-c", FOREIGN
        )
        report.check(
            f"{image} holds no secret, mirror or wheel",
            (found.returncode, found.stdout.strip()) == (0, ""),
            found.stdout.strip()[:300],
        )
    libraries = "import ants, SimpleITK, radiomics.cShape, monai, torch, dcm2niix, highdicom, matplotlib.image, nilearn.datasets, client.app"
    done = engine.docker("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--entrypoint", "python3", SITE_IMAGE, "-W", "ignore", "-c", libraries)  # fmt: skip
    report.check("every imaging library loads in the site's image", done.returncode == 0, done.stderr.strip()[-300:])


def provision(engine: Engine, report: Report) -> None:
    """The product's own commands, in containers."""
    home = engine.home
    shutil.rmtree(home, ignore_errors=True)
    images = engine.work / "images"
    shutil.rmtree(images, ignore_errors=True)
    for folder in (home, home / "sites", home / "kits", home / "data", images):
        folder.mkdir(parents=True)
    engine.own(home)
    engine.own(images)
    engine.inside("cohort")
    for site in SITES:
        (home / "data" / site).mkdir()
        for image in images.glob(f"{site}-*"):
            os.link(image, home / "data" / site / image.name)
    init = ("init", "/studies/study", "--protocol", "/studies/protocol.yaml", "--server", "server:8443", "--json")
    made = engine.compose("run", "--rm", "--no-deps", "-T", "server", *init)
    report.check(
        "fedmidline-study init, in its container",
        made.returncode == 0,
        made.stderr.strip()[-300:] if made.returncode else "",
    )
    invited = [
        engine.compose("run", "--rm", "--no-deps", "-T", "server", "invite", "/studies/study", s).returncode
        for s in SITES
    ]
    report.check("fedmidline-study invite, three kits", invited == [0, 0, 0])
    for site in SITES:
        with tarfile.open(home / "studies" / "study" / "kits" / f"{site}.tar") as archive:
            archive.extractall(home / "kits", filter="data")
    engine.own(home)
    engine.inside("oracle")


def start(engine: Engine, report: Report) -> None:
    begun = time.monotonic()
    up = [engine.compose("up", "-d", "--no-build", "server", "beta", "gamma"), engine.kit("up", "-d")]
    report.check(
        "compose up, alpha by the compose file of its kit",
        all(u.returncode == 0 for u in up),
        " ".join(u.stderr.strip()[-300:] for u in up if u.returncode),
    )
    joined = wait_until(lambda: all("connected" in events(engine, site) for site in SITES))
    report.check("three sites join over TLS", joined, f"{time.monotonic() - begun:.0f} s")


def events(engine: Engine, site: str) -> str:
    path = engine.home / "sites" / site / "start" / "events.jsonl"
    return path.read_text() if path.exists() else ""


def check_confinement(engine: Engine, report: Report) -> None:
    for name, container in CONTAINERS.items():
        found = json.loads(engine.python(container, CONFINED))
        report.check(f"{name}: uid 10001", found["uid"] == OWNER)
        report.check(
            f"{name}: no capability", {int(c, 16) for c in found["capabilities"]} == {0}, found["capabilities"]
        )
        report.check(f"{name}: no new privileges, seccomp on", (found["no_new_privs"], found["seccomp"]) == ("1", "2"))
        report.check(f"{name}: root, code, kit and data are read-only", all(found["writes"].values()), found["writes"])
        report.check(f"{name}: memory limit", found["memory"] == str(3 * 2**30), found["memory"])
        report.check(f"{name}: no engine socket", not found["socket"])
        report.check(f"{name}: init at pid 1", "init" in engine.docker("exec", container, "cat", "/proc/1/comm").stdout)
        if name != "server":
            own = found["data"] and all(file.startswith(f"{name}-") for file in found["data"])
            report.check(f"{name}: its own images only", own, f"{len(found['data'])} files")


@contextmanager
def the_world_outside(engine: Engine) -> Iterator[Path]:
    """A second namespace, reached from the engine's, with a web server and a name server that note their callers."""
    space, log = "fedmidline-outside", engine.work / "outside.log"
    log.write_text("")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
    ip("netns", "add", space)
    ip("link", "add", "fedm0", "netns", engine.namespace, "type", "veth", "peer", "name", "fedm1", "netns", space)
    for where, link, address in ((engine.namespace, "fedm0", "198.51.100.1/24"), (space, "fedm1", f"{OUTSIDE}/24")):
        ip("-n", where, "addr", "add", address, "dev", link)
        ip("-n", where, "link", "set", link, "up")
    ip("-n", engine.namespace, "route", "add", "default", "via", OUTSIDE)
    command = ["nsenter", f"--net=/run/netns/{space}", sys.executable, ROOT / "tests" / "docker" / "outside.py", log]
    world = subprocess.Popen(command)
    try:
        time.sleep(3)
        yield log
    finally:
        world.kill()
        world.wait()
        ip("netns", "del", space)


def check_isolation(engine: Engine, report: Report) -> None:
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    addresses = {name: engine.inspect(container, address).split() for name, container in CONTAINERS.items()}
    if not engine.owned:
        return report.skip("no way out", "the engine is not ours: no outside world can be put beside it")
    with the_world_outside(engine) as log:
        web = f"{OUTSIDE}:80"
        control = engine.docker(
            "run", "--rm", "--entrypoint", "python3", SITE_IMAGE, "-c", REACH, "control", OUTSIDE, web
        )
        found = json.loads(control.stdout)
        heard = log.read_text()
        report.check(
            "control: an ordinary container gets out, names too", found[web] == "open" and "control" in heard, found
        )
        for name, container in CONTAINERS.items():
            others = [f"{a}:8443" for other in SITES if other != name for a in addresses[other]]
            found = json.loads(engine.python(container, REACH, f"leak{name}", OUTSIDE, web, *others))
            report.check(f"{name}: no way out", found[web] not in ("open", "ConnectionRefusedError"), found[web])
            if name != "server":
                # A reachable neighbour with a closed port would refuse.
                shut = all(found[o] not in ("open", "ConnectionRefusedError") for o in others)
                report.check(f"{name}: no other hospital is reached", shut, {found[o] for o in others})
        report.check(
            "no look-up or packet of a container got out",
            "leak" not in log.read_text(),
            log.read_text().replace("\n", " ")[-200:],
        )
    for name, container in CONTAINERS.items():
        if name == "server":
            continue
        door, control_port = ("server:8443", "server:8000")
        direct = [f"{a}:8443" for a in addresses["server"]]
        found = json.loads(engine.python(container, REACH, "x", OUTSIDE, door, control_port, *direct))
        report.check(
            f"{name}: reaches the door and not Flower's own port", found[door] == "open" != found[control_port], found
        )
        if name == "alpha":
            report.check("alpha: the server only through its gateway", "open" not in [found[d] for d in direct], found)
    return None


def check_trust(engine: Engine, report: Report) -> None:
    """A kit of another authority, and no TLS."""
    home = engine.home
    init = ("init", "/studies/other", "--protocol", "/studies/protocol.yaml", "--server", "server:8443")
    engine.compose("run", "--rm", "--no-deps", "-T", "server", *init)
    engine.compose("run", "--rm", "--no-deps", "-T", "server", "invite", "/studies/other", "beta")
    foreign = engine.work / "foreign"
    shutil.rmtree(foreign, ignore_errors=True)
    with tarfile.open(home / "studies" / "other" / "kits" / "beta.tar") as archive:
        archive.extractall(foreign, filter="data")
    engine.own(foreign)
    check = ("start", "--kit", "/kit", "--site", "/site/site.yaml", "--check")
    other = engine.compose("run", "--rm", "--no-deps", "-T", "-v", f"{foreign}/beta:/kit:ro", "beta", *check)
    report.check(
        "a server of another authority is refused",
        (other.returncode, "server-not-trusted" in other.stderr) == (2, True),
        other.stderr.strip()[-200:],
    )
    own = engine.compose("run", "--rm", "--no-deps", "-T", "beta", *check)
    report.check("control: the study's own is trusted", own.returncode == 0, own.stderr.strip()[-200:])
    report.check("plain HTTP is not answered", engine.python(CONTAINERS["beta"], PLAIN) == "silent")


def check_study(engine: Engine, report: Report) -> None:
    done = engine.docker("exec", CONTAINERS["server"], "fedmidline-study", "run", "/studies/study", "--json")
    report.check("a whole study runs", done.returncode == 0, done.stderr.strip()[-300:] if done.returncode else "")
    report_result(engine, report, "undisturbed")
    for name, container in CONTAINERS.items():
        healthy = wait_until(lambda c=container: engine.inspect(c, "{{.State.Health.Status}}") == "healthy", 240)
        report.check(f"{name}: its health check passes", healthy)


def report_result(engine: Engine, report: Report, what: str) -> None:
    found = engine.inside("compare")
    same = all(found[key] is True for key in ("finished", "same_weights", "same_histograms", "same_exchanges"))
    report.check(
        f"{what}: weights of one process, bit for bit; every exchange once",
        same and found["status"] == "completed",
        found,
    )


def begin_again(engine: Engine) -> None:
    study = engine.home / "studies" / "study"
    wait_until(lambda: not (study / "state" / "wanted").exists())
    for name in ("checkpoint.npz", "outcome.json", "progress.json"):
        (study / name).unlink(missing_ok=True)
    engine.docker("exec", CONTAINERS["server"], "fedmidline-study", "run", "/studies/study", "--detach")


def hold_round(engine: Engine, number: int) -> None:
    """The worker of gamma is halted, so that this round is open while something is killed."""
    progress = engine.home / "studies" / "study" / "progress.json"

    def reached() -> bool:
        with suppress(OSError, ValueError):
            return json.loads(progress.read_text())["round"] >= number - 1
        return False

    wait_until(reached)
    engine.python(CONTAINERS["gamma"], HALT, "SIGSTOP")
    time.sleep(4)


def outcome(engine: Engine) -> str:
    path = engine.home / "studies" / "study" / "outcome.json"
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())["code"]
    return ""


def check_killed_site(engine: Engine, report: Report) -> None:
    begin_again(engine)
    hold_round(engine, 2)
    gamma = CONTAINERS["gamma"]
    before = engine.inspect(gamma, "{{.State.StartedAt}}")
    if engine.owned:
        # From outside, as a crash or the kernel's memory killer: `docker kill` would count as a person's wish.
        os.kill(int(engine.inspect(gamma, "{{.State.Pid}}")), 9)
        again = wait_until(
            lambda: (
                engine.inspect(gamma, "{{.State.StartedAt}}") != before
                and engine.inspect(gamma, "{{.State.Running}}") == "true"
            ),
            120,
        )
        report.check("a site whose container crashed is started again by the engine", again)
    else:
        engine.docker("kill", gamma)
        engine.docker("start", gamma)
    wait_until(lambda: outcome(engine))
    report_result(engine, report, "site killed in round 2")


def check_killed_server(engine: Engine, report: Report) -> None:
    begin_again(engine)
    hold_round(engine, 3)
    engine.docker("kill", CONTAINERS["server"])
    engine.python(CONTAINERS["gamma"], HALT, "SIGCONT")
    report.check("the server dies in the run", outcome(engine) == "")
    time.sleep(3)
    engine.docker("start", CONTAINERS["server"])
    wait_until(lambda: outcome(engine))
    report_result(engine, report, "server killed in round 3")


def check_disk(engine: Engine, report: Report) -> None:
    """A folder that is only read, then a disk that fills up; both are named."""
    mount = ("-v", f"{engine.home}/sites/beta:/site:ro", "-v", f"{engine.home}/kits/beta:/kit:ro")
    done = engine.docker("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", *mount, SITE_IMAGE)
    report.check(
        "a read-only site folder is named, exit 2",
        (done.returncode, "folder-read-only" in done.stderr) == (2, True),
        done.stderr.strip()[-200:],
    )
    if os.geteuid() != 0:
        return report.skip("a full disk is named", "needs root to mount a small disk")
    gamma, site = CONTAINERS["gamma"], engine.home / "sites" / "gamma"
    engine.docker("stop", gamma)
    kept = engine.work / "gamma"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(site, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=48m,uid={OWNER},gid={OWNER}", "tmpfs", site], check=True)
    try:
        shutil.copytree(kept, site, dirs_exist_ok=True)
        engine.own(site)
        engine.docker("start", gamma)
        wait_until(
            lambda: (
                events(engine, "gamma").count('"connected"')
                > (kept / "start" / "events.jsonl").read_text().count('"connected"')
            )
        )
        with suppress(OSError), (site / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(2**16)):
                pass
        begin_again(engine)
        wait_until(lambda: outcome(engine))
        found = engine.inside("compare")
        report.check(
            "a full disk is refused by its code, the study goes on without",
            "gamma audit-log-unwritable" in found["codes"] and outcome(engine) == "finished",
            found["codes"],
        )
        engine.docker("stop", gamma)
    finally:
        subprocess.run(["umount", "-l", site], check=False)
    return None


def check_stop(engine: Engine, report: Report) -> None:
    codes = {}
    for name in ("alpha", "beta", "server"):
        engine.docker("stop", CONTAINERS[name])
        codes[name] = engine.inspect(CONTAINERS[name], "{{.State.ExitCode}}")
    report.check("stopped kindly within 30 s, exit 0", set(codes.values()) == {"0"}, codes)


STEPS = (
    *(build, provision, start, check_confinement, check_isolation, check_trust, check_study),
    *(check_killed_site, check_killed_server, check_disk, check_stop),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=Path, default=Path("/var/tmp/fedmidline-docker"), help="scratch, about 6 GB")
    arguments.add_argument("--keep", action="store_true", help="leave engine and images for the next call")
    options = arguments.parse_args()
    if not (ROOT / "docker" / "wheelhouse" / "requirements.txt").exists():
        sys.exit("docker/wheelhouse is empty: sh docker/wheelhouse.sh")
    report, engine = Report(), Engine(options.work.resolve())
    try:
        for step in STEPS:
            step(engine, report)
    finally:
        engine.kit("down", "--timeout", "5") if (engine.home / "kits" / "alpha").exists() else None
        engine.compose("down", "--timeout", "5")
        print(json.dumps(report.summary()))
        if engine.owned and not options.keep:
            subprocess.run(["sh", ROOT / "docker" / "engine.sh", "stop", engine.work], check=False)
            shutil.rmtree(engine.work, ignore_errors=True)
    sys.exit(1 if report.summary()["failed"] else 0)


if __name__ == "__main__":
    main()
