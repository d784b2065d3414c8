"""A real deployment on loopback: TLS, keys, processes that are killed; the weights are those of one process, bit for bit."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time

import flwr
import numpy as np
import pytest
import yaml

from client.connection import _public_key, greet_server
from common.errors import InputError, Refused
from server.app import OUTCOME, PROGRESS
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.deployment import WANTED
from server.provision.authority import new_site_key
from server.provision.invite import invite_site, revoke_site
from server.provision.study import init_study, open_provisioned
from simulation.engines import run_local
from tests.builders import small_protocol
from tests.deployed_study import ROOT, SITES, DeployedStudy, unpack, wait_until

pytestmark = pytest.mark.slow

ROUNDS = 5
CLOCK_PATIENCE_S = 15
PROTOCOL = small_protocol(
    selection={"method": "fixed_signature"},
    training={"rounds": ROUNDS, "local_epochs": 2},
    federation={"min_sites": 2, "min_cases": 4, "timeout_s": 200},
)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    if " " in flwr.__file__:
        pytest.skip("Flower's database fails where it is installed in a path with a space")
    study = DeployedStudy(tmp_path_factory.mktemp("deployed"), PROTOCOL)
    for name in ("server", *SITES):
        study.start(name)
    wait_until(lambda: all(study.count("connected", site) for site in SITES))
    yield study
    codes = study.stop()
    assert set(codes.values()) == {0}


@pytest.fixture(scope="module")
def undisturbed(deployed):
    """The same study in this process."""
    folder = deployed.root / "in-process"
    folder.mkdir()
    for name in ("study.yaml", "protocol.yaml"):
        shutil.copy(deployed.study / name, folder / name)
    return run_local(folder / "study.yaml", [deployed.root / site / "site.yaml" for site in SITES])


def assert_as_undisturbed(deployed, undisturbed):
    state = load_checkpoint(deployed.study / CHECKPOINT)
    assert state.finished
    assert all(np.array_equal(state.weights[name], value) for name, value in undisturbed.weights.items())
    assert all(np.array_equal(state.histograms[name], value) for name, value in undisturbed.histograms.items())
    kept = [(e.phase, e.action, e.round) for e in state.exchanges]
    assert kept == [(e.phase, e.action, e.round) for e in undisturbed.exchanges], "every exchange counts once"
    assert state.status() == "completed", "every site contributed to every exchange"


def begin_again(deployed):
    """The same study from its start."""
    wait_until(lambda: not (deployed.study / WANTED).exists())
    for name in (CHECKPOINT, OUTCOME, PROGRESS):
        (deployed.study / name).unlink(missing_ok=True)
    assert deployed.call("server", "run", deployed.study, "--detach").returncode == 0


def stopped_in_round(deployed, number):
    """The worker of gamma is halted, so that this round is open while something is killed; returns the worker."""
    (worker,) = deployed.children("gamma", "client.worker")

    def reached():
        try:
            return json.loads((deployed.study / PROGRESS).read_text())["round"] >= number - 1
        except (FileNotFoundError, ValueError):
            return False

    wait_until(reached)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(4)
    return worker


def told_of(deployed, site):
    """Why this site did not contribute, or that it did, in every exchange so far."""
    exchanges = load_checkpoint(deployed.study / CHECKPOINT).exchanges
    return [exchange.codes.get(site, exchange.roster[site]) for exchange in exchanges]


def finished(deployed):
    return json.loads((deployed.study / OUTCOME).read_text())["code"] if (deployed.study / OUTCOME).exists() else ""


def test_the_weights_are_those_of_one_process(deployed, undisturbed):
    done = deployed.call("server", "run", deployed.study, "--json")

    assert (done.returncode, json.loads(done.stdout)) == (0, {"code": "finished"})
    assert_as_undisturbed(deployed, undisturbed)
    assert all(
        site not in (deployed.root / s / "start" / "events.jsonl").read_text() for s in SITES for site in ["alpha-0"]
    )


def test_a_site_killed_in_a_round_comes_back_to_it(deployed, undisturbed):
    begin_again(deployed)
    stopped_in_round(deployed, 3)
    deployed.kill("gamma")
    time.sleep(1)
    deployed.start("gamma")

    wait_until(lambda: finished(deployed))

    assert_as_undisturbed(deployed, undisturbed)


def test_the_server_killed_in_a_round_goes_on_by_itself(deployed, undisturbed):
    begin_again(deployed)
    worker = stopped_in_round(deployed, 3)
    deployed.kill("server")
    os.kill(worker, signal.SIGCONT)
    before = load_checkpoint(deployed.study / CHECKPOINT)
    deployed.start("server")

    wait_until(lambda: finished(deployed))

    assert 0 < before.rounds_done < ROUNDS
    assert_as_undisturbed(deployed, undisturbed)


def test_flowers_own_processes_may_die_too(deployed, undisturbed):
    """Everything that server and site had started, one after the other, in one run."""
    begin_again(deployed)
    stopped_in_round(deployed, 2)
    for name, word in (
        ("server", "flower-superlink"),
        ("server", "server.fleet_door"),
        ("server", "flower-superexec"),
        ("gamma", "client.worker"),
        ("beta", "flower-supernode"),
    ):
        (number,) = deployed.children(name, word)
        os.kill(number, signal.SIGKILL)

    wait_until(lambda: finished(deployed))

    assert_as_undisturbed(deployed, undisturbed)


def test_a_run_that_is_killed_is_begun_again_where_it_stood(deployed, undisturbed):
    begin_again(deployed)
    lost = deployed.count("run-lost", "server")
    worker = stopped_in_round(deployed, 3)
    os.kill(deployed.server_app(), signal.SIGKILL)
    os.kill(worker, signal.SIGCONT)

    wait_until(lambda: finished(deployed))

    assert deployed.count("run-lost", "server") > lost
    assert_as_undisturbed(deployed, undisturbed)


def test_a_site_that_hears_nothing_for_a_while_is_waited_for(deployed, undisturbed):
    """As behind a network that is down: nothing arrives and nothing leaves, and no connection is closed."""
    begin_again(deployed)
    worker = stopped_in_round(deployed, 2)
    (node,) = deployed.children("gamma", "flower-supernode")
    os.kill(node, signal.SIGSTOP)
    os.kill(worker, signal.SIGCONT)
    time.sleep(15)
    os.kill(node, signal.SIGCONT)

    wait_until(lambda: finished(deployed))

    assert_as_undisturbed(deployed, undisturbed)


@pytest.fixture
def wall_clock(tmp_path):
    """A function that sets the clock of processes in its `environment` by so many seconds off, while they run."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler: a clock of one's own is preloaded")
    library, seconds = tmp_path / "shifted_clock.so", tmp_path / "seconds"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, ROOT / "tests" / "shifted_clock.c"], check=True)
    seconds.write_text(f"{0:<16}")

    def shift(off_s):
        with seconds.open("r+") as file:
            file.write(f"{off_s:<16}")

    shift.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(seconds)}
    return shift


def test_a_site_whose_clock_is_wrong_says_so_and_comes_back(deployed, undisturbed, wall_clock):
    """Ten minutes off in the middle of a round, and still so when it is started again: both times it ends with the code
    of it.  The round waits; once the clock is right, the weights are the same.
    """
    deployed.kill("gamma")
    before = deployed.count("connected", "gamma")
    deployed.start("gamma", environment=wall_clock.environment)
    wait_until(lambda: deployed.count("connected", "gamma") > before)
    begin_again(deployed)
    worker = stopped_in_round(deployed, 3)
    wall_clock(600)
    os.kill(worker, signal.SIGCONT)
    ended = [deployed.ended("gamma", CLOCK_PATIENCE_S)]
    deployed.start("gamma", environment=wall_clock.environment)
    ended.append(deployed.ended("gamma", CLOCK_PATIENCE_S))

    assert ended == [2, 2]
    assert [row["code"] for row in deployed.events("gamma")[-1:]] == ["clocks-differ"]
    assert (deployed.root / "gamma.log").read_text().count("clocks-differ:") == 2
    assert not finished(deployed)
    wall_clock(0)
    deployed.start("gamma", environment=wall_clock.environment)
    wait_until(lambda: finished(deployed))
    assert_as_undisturbed(deployed, undisturbed)


def test_nothing_leaves_a_site_whose_disk_is_full(deployed):
    """What cannot be written down does not leave; the others go on, and the site is back when it has space."""
    begin_again(deployed)
    worker = stopped_in_round(deployed, 2)
    limits = resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: "audit-log-unwritable" in told_of(deployed, "gamma"))
    resource.prlimit(worker, resource.RLIMIT_FSIZE, limits)

    wait_until(lambda: finished(deployed))

    state = load_checkpoint(deployed.study / CHECKPOINT)
    assert state.finished
    assert state.status() != "completed"
    assert state.rounds_done == ROUNDS
    assert set(told_of(deployed, "alpha")) == {"contributed"}
    assert (
        deployed.call("client", "egress", "--verify", "--site", deployed.root / "gamma" / "site.yaml").returncode == 0
    )


def test_a_server_whose_disk_is_full_says_so_and_goes_on_after_it(deployed, undisturbed):
    begin_again(deployed)
    worker = stopped_in_round(deployed, 3)
    before = load_checkpoint(deployed.study / CHECKPOINT).rounds_done
    size = (deployed.study / CHECKPOINT).stat().st_size // 2
    resource.prlimit(deployed.server_app(), resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: finished(deployed))

    assert finished(deployed) == "disk-full"
    assert load_checkpoint(deployed.study / CHECKPOINT).rounds_done == before
    done = deployed.call("server", "resume", deployed.study, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"code": "finished"})
    assert_as_undisturbed(deployed, undisturbed)


def test_an_unknown_key_is_refused(deployed, tmp_path):
    kit = deployed.kit("alpha")
    shutil.copytree(kit.folder, tmp_path / "kit")
    (tmp_path / "kit" / "site.key").write_bytes(new_site_key()[0])

    with pytest.raises(Refused, match="key-unknown"):
        greet_server(type(kit)(tmp_path / "kit", kit.settings))
    changed = deployed.call(
        "client", "start", "--check", "--kit", tmp_path / "kit", "--site", deployed.root / "alpha/site.yaml"
    )
    assert (changed.returncode, "kit-changed" in changed.stderr) == (2, True)


def test_a_server_of_another_authority_is_refused(deployed, tmp_path):
    other = init_study(tmp_path / "other", deployed.root / "protocol.yaml", server=deployed.address)
    unpack(invite_site(other, "alpha"), tmp_path)

    done = deployed.call(
        "client", "start", "--check", "--kit", tmp_path / "alpha", "--site", deployed.root / "alpha/site.yaml"
    )

    assert (done.returncode, "server-not-trusted" in done.stderr) == (2, True)


def test_plain_http_is_not_answered(deployed):
    host, _, port = deployed.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        plain.sendall(b"GET /v1/site/hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(1000)


def test_only_a_working_supernode_is_let_through(deployed):
    """Control and runtime interfaces, registration and a key without its signature."""
    kit = deployed.kit("alpha")
    trust = ssl.create_default_context(cafile=str(kit.authority))

    def post(path, headers):
        connection = http.client.HTTPSConnection(*deployed.address.split(":"), context=trust, timeout=30)
        connection.request("POST", path, b"", headers)
        status = connection.getresponse().status
        connection.close()
        return status

    known = {"flwr-public-key": _public_key(kit), "content-type": "application/protobuf"}
    assert post("/v1/control/start-run", known) == 404
    assert post("/v1/runtime/acquire-task", known) == 404
    assert post("/v1/fleet/register-node", known) == 403
    assert post("/v1/fleet/activate-node", {}) == 401
    assert post("/v1/fleet/pull-messages", known) >= 400


def test_a_revoked_site_leaves_with_a_refusal(deployed):
    """Last: gamma does not come back."""
    revoke_site(open_provisioned(deployed.study), "gamma")

    with pytest.raises(Refused, match="key-revoked"):
        greet_server(deployed.kit("gamma"))
    assert deployed.ended("gamma", 120) == 3
    assert "key-revoked" in (deployed.root / "gamma.log").read_text()
    assert {"event": "stopped", "site": "gamma", "code": "key-revoked"}.items() <= deployed.events("gamma")[-1].items()


def test_an_unreachable_server_is_named(deployed, tmp_path):
    kit = deployed.kit("alpha")
    settings = kit.settings.model_copy(update={"server": "localhost:1"})

    with pytest.raises(InputError, match="server-unreachable"):
        greet_server(type(kit)(kit.folder, settings))
    assert yaml.safe_load((kit.folder / "kit.yaml").read_text())["server"] == deployed.address
