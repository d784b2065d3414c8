"""faults: the study undisturbed, then with a site killed, the server killed, a closed folder and a full disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import suppress

from tests.docker.engine import CONTAINERS, OWNER, SITE_IMAGE, TMP, Engine, give_to_owner, wait_until
from tests.docker.probes import HALT
from tests.docker.report import Report

__all__ = ["check_disk", "check_killed_server", "check_killed_site", "check_stop", "check_study"]


def check_study(engine: Engine, report: Report) -> None:
    done = engine.docker("exec", CONTAINERS["server"], "fedmidline-study", "run", "/studies/study", "--json")
    report.check_command("a whole study runs", done)
    report_result(engine, report, "undisturbed")
    for name, container in CONTAINERS.items():
        healthy = wait_until(lambda c=container: engine.inspect(c, "{{.State.Health.Status}}") == "healthy", 240)
        report.check(f"{name}: its health check passes", healthy)


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
    done = engine.docker("run", "--rm", "--network", "none", "--read-only", "--tmpfs", TMP, *mount, SITE_IMAGE)
    report.check_command("a read-only site folder is named, exit 2", done, 2, "folder-read-only")
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
        give_to_owner(site)
        engine.docker("start", gamma)
        wait_until(
            lambda: (
                engine.events("gamma").count('"connected"')
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


def report_result(engine: Engine, report: Report, what: str) -> None:
    found = engine.inside("compare")
    same = all(found[key] is True for key in ("finished", "same_weights", "same_histograms", "same_exchanges"))
    report.check(
        f"{what}: weights of one process, bit for bit; every exchange once",
        same and found["status"] == "completed",
        found,
    )


def check_stop(engine: Engine, report: Report) -> None:
    codes = {}
    for name in ("alpha", "beta", "server"):
        engine.docker("stop", CONTAINERS[name])
        codes[name] = engine.inspect(CONTAINERS[name], "{{.State.ExitCode}}")
    report.check("stopped kindly within 30 s, exit 0", set(codes.values()) == {"0"}, codes)
