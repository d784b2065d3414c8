"""isolation: what a container may do, whom it reaches, and whom it trusts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docker.engine import CONTAINERS, OWNER, ROOT, SITE_IMAGE, SITES, TMP, Engine
from tests.docker.probes import CONFINED, PLAIN, REACH
from tests.docker.report import Report

__all__ = ["check_confinement", "check_isolation", "check_trust"]

GATEWAY = "fedmidline-site-gateway-1"
OUTSIDE = "198.51.100.2"
"""A documentation address; a namespace of its own plays the outside world there."""


def check_confinement(engine: Engine, report: Report) -> None:
    for name, container in {**CONTAINERS, "gateway": GATEWAY}.items():
        found = json.loads(engine.python(container, CONFINED))
        capabilities, writes = found["capabilities"], found["writes"]
        report.check(f"{name}: uid 10001", found["uid"] == OWNER)
        report.check(f"{name}: no capability", {int(c, 16) for c in capabilities} == {0}, " ".join(capabilities))
        report.check(f"{name}: no new privileges, seccomp on", (found["no_new_privs"], found["seccomp"]) == ("1", "2"))
        report.check(f"{name}: nothing but its own folder can be written", all(writes.values()), " ".join(writes))
        limit = 2**27 if name == "gateway" else 3 * 2**30
        report.check(f"{name}: memory limit", found["memory"] == str(limit), found["memory"])
        report.check(f"{name}: no engine socket", not found["socket"])
        report.check(f"{name}: init at pid 1", "init" in engine.docker("exec", container, "cat", "/proc/1/comm").stdout)
        own = [file for file in found["data"] if file.startswith(f"{name}-")]
        report.check(f"{name}: its own images only", found["data"] == own, f"{len(own)} files")
    report.check("the sites do see images", json.loads(engine.python(CONTAINERS["beta"], CONFINED))["data"])


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


def check_host_rule(engine: Engine, report: Report, log: Path) -> None:
    """The two rules of docs/deployment.md, for an ordinary network in place of the gateway's."""
    subnet = engine.docker(
        "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}"
    ).stdout.strip()
    rules = (("-s", subnet, "-j", "DROP"), ("-s", subnet, "-d", OUTSIDE, "-p", "tcp", "--dport", "80", "-j", "ACCEPT"))
    iptables = ("nsenter", f"--net=/run/netns/{engine.namespace}", "iptables")
    for rule in rules:
        subprocess.run([*iptables, "-I", "DOCKER-USER", *rule], check=True)
    one, other = f"{OUTSIDE}:80", f"{OUTSIDE}:81"
    ordinary = ("run", "--rm", "--entrypoint", "python3", SITE_IMAGE, "-c", REACH, "ruled", OUTSIDE, one, other)
    found = json.loads(engine.docker(*ordinary).stdout)
    for rule in rules:
        subprocess.run([*iptables, "-D", "DOCKER-USER", *rule], check=True)
    only = (found[one], found[other], "ruled" in log.read_text()) == ("open", "TimeoutError", False)
    report.check("with the host's rules a network reaches the one address and port, and no name server", only, found)


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
        check_host_rule(engine, report, log)
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
    init = ("init", "/studies/other", "--protocol", "/studies/protocol.yaml", "--server", "server:8443")
    engine.compose("run", "--rm", "--no-deps", "-T", "server", *init)
    engine.compose("run", "--rm", "--no-deps", "-T", "server", "invite", "/studies/other", "beta")
    foreign = engine.work / "foreign"
    shutil.rmtree(foreign, ignore_errors=True)
    engine.unpack_kit("other", "beta", foreign)
    check = ("start", "--kit", "/kit", "--site", "/site/site.yaml", "--check")
    site = ("--network", "fedmidline_beta", "--read-only", "--tmpfs", TMP, "-v", f"{engine.home}/sites/beta:/site:ro")
    for kit, name, code, says in (
        (foreign / "beta", "a server of another authority is refused", 2, "server-not-trusted"),
        (engine.home / "kits" / "beta", "control: the study's own is trusted", 0, "may join"),
    ):
        done = engine.docker("run", "--rm", *site, "-v", f"{kit}:/kit:ro", SITE_IMAGE, *check)
        report.check_command(name, done, code, says)
    report.check("plain HTTP is not answered", engine.python(CONTAINERS["beta"], PLAIN) == "silent")
