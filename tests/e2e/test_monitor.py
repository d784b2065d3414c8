"""The coordinator's page: in a real browser, and what it tells Prometheus and strangers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
import yaml
from rich.console import Console

from common.privacy.accounting import epsilon_of
from server.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from server.monitor import Monitor
from server.provision.invite import invite_site
from server.provision.study import init_study, open_provisioned
from server.state import Exchange, StudyState
from server.status import as_picture, as_row
from tests.builders import small_protocol
from tests.deployed_study import ROOT, free_ports, wait_until


@pytest.fixture
def study(tmp_path):
    """Two sites, one of them silent and refused in the last exchange; a code that would be markup."""
    protocol = small_protocol()
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    folder = tmp_path / "study"
    init_study(folder, tmp_path / "p.yaml", server="localhost:8443", study="midline")
    for site in ("alpha", "beta"):
        invite_site(open_provisioned(folder), site)
    exchange = Exchange(
        phase="train",
        action="train_round",
        round=1,
        seconds=2.5,
        roster={"alpha": "contributed", "beta": "refused"},
        codes={"beta": "<b>reply-shape</b>"},
        bytes_down={"alpha": 3_000_000, "beta": 3_000_000},
        bytes_up={"alpha": 1_500_000},
        loss=0.61,
        validation_loss=0.72,
    )
    state = StudyState(
        study="midline",
        protocol=protocol,
        sites=("alpha", "beta"),
        rounds_done=1,
        exchanges=(exchange, exchange.model_copy(update={"codes": {"beta": "internal-error"}}), exchange),
        histograms={"test": np.array([[0, 0, 1, 3], [3, 1, 0, 0]]), "training": np.array([[0, 0, 0, 2], [0, 0, 0, 0]])},
    )
    save_checkpoint(folder / CHECKPOINT, state)
    hear_of_alpha(folder)
    return folder


def hear_of_alpha(folder):
    """As the door does when it has a request of it."""
    (folder / "state").mkdir(exist_ok=True)
    (folder / "state" / "seen.json").write_text(json.dumps({"alpha": time.time()}))


@contextmanager
def monitored(folder):
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "server.monitor", str(folder), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}/"
        try:
            wait_until(lambda: fetch(address)[0] == 200)
            hear_of_alpha(folder)
            yield address
        finally:
            process.terminate()


def fetch(address, method="GET", **headers):
    request = urllib.request.Request(address, headers=headers, method=method)  # noqa: S310  # ours, on loopback
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", error.headers
    except OSError:
        return 0, "", {}


def test_metrics_and_what_a_stranger_is_told(study):
    """Read-only, one host name, nothing but three addresses; the page can run no script."""
    with monitored(study) as address:
        status, text, headers = fetch(f"{address}metrics")
        page = fetch(address)

        assert (200, "text/plain; version=0.0.4; charset=utf-8") == (status, headers["Content-Type"])
        assert {
            'fedmidline_site_online{site="alpha"} 1.0',
            'fedmidline_site_online{site="beta"} 0.0',
            "fedmidline_sites_online 1.0",
            'fedmidline_site_refusals{code="<b>reply-shape</b>",site="beta"} 2.0',
            'fedmidline_site_refusals{code="internal-error",site="beta"} 1.0',
            'fedmidline_site_bytes{direction="down",site="alpha"} 9e+06',
            'fedmidline_site_bytes{direction="up",site="alpha"} 4.5e+06',
            'fedmidline_phase{action="train_round",phase="train"} 1.0',
            'fedmidline_phase_seconds{phase="train"} 7.5',
            "fedmidline_rounds_done 1.0",
            f"fedmidline_rounds {small_protocol().training.rounds}.0",
            "fedmidline_training_loss 0.61",
            "fedmidline_validation_loss 0.72",
            'fedmidline_auc{set="test"} 1.0',
            'fedmidline_auc_half_width{set="test"} 0.0',
        } <= set(text.splitlines())
        assert 'fedmidline_auc{set="training"}' not in text, "its cases are of one class"
        assert page[2]["Content-Security-Policy"].startswith("default-src 'none'")
        assert "<b>" not in page[1]
        assert str(study) not in page[1] + text
        assert 400 == fetch(address, Host="evil.example")[0]
        assert 405 == fetch(address, method="POST")[0]
        assert 404 == fetch(f"{address}study.yaml")[0]


def test_what_a_private_study_has_spent(study):
    state = load_checkpoint(study / CHECKPOINT)
    assert Monitor(study).look()["privacy"] == {}

    private = small_protocol(
        privacy={"record_level": {"noise_multiplier": 2.0, "sampling_rate": 0.5}, "epsilon_limit": 8.0},
        training={"local_epochs": 1, "class_weights": False},
    )
    save_checkpoint(study / CHECKPOINT, state.evolve(protocol=private))
    seen, metrics = Monitor(study).look(), Monitor(study).metrics().decode()
    told = seen["privacy"]["case"]

    assert told["epsilon"] == epsilon_of([private.privacy.record_level.event(private.training, 1)], 1e-4, "rdp")
    assert (told["delta"], told["limit"]) == (1e-4, 8.0)
    assert (
        f"privacy of each case: epsilon {told['epsilon']:.2f} of 8 spent by this study (delta 0.0001)" in seen["words"]
    )
    assert 'fedmidline_privacy_epsilon_limit{of="case"} 8.0' in metrics.splitlines()
    assert "privacy of each case: epsilon" in picture(study)


def test_a_study_without_noise_has_no_bound(study):
    bare = small_protocol(
        privacy={"site_level": {"noise_multiplier": 0.0}}, training={"weighting": "equal", "class_weights": False}
    )
    save_checkpoint(study / CHECKPOINT, load_checkpoint(study / CHECKPOINT).evolve(protocol=bare))

    assert (
        "privacy of each site: epsilon without bound spent by this study (delta 0.01)" in Monitor(study).look()["words"]
    )
    assert 'fedmidline_privacy_epsilon{of="site"} +Inf' in Monitor(study).metrics().decode().splitlines()
    assert as_row(load_checkpoint(study / CHECKPOINT), study)["privacy"]["site"]["epsilon"] is None


def picture(study, **options):
    """`status` as a terminal shows it."""
    screen = Console(width=200, record=True, file=io.StringIO())
    screen.print(as_picture(load_checkpoint(study / CHECKPOINT), study, **options))
    return screen.export_text()


def test_the_terminal_tells_what_the_page_tells(study):
    """Sites online, phase, round, metrics, bytes, refusals; the last exchanges only where it is watched."""
    told = picture(study)
    (alpha,) = [line for line in told.splitlines() if line.startswith("│ alpha")]
    (beta,) = [line for line in told.splitlines() if line.startswith("│ beta")]

    assert Monitor(study).look()["words"] == [
        f"train (train_round), round 1 of {small_protocol().training.rounds}",
        "training loss 0.6100, validation loss 0.7200, test AUC 1.0000",
    ]
    assert all(line in told for line in Monitor(study).look()["words"])
    assert ["alpha", "online", "contributed", "9.00", "4.50"] == [alpha.split("│")[n].strip() for n in (1, 2, 4, 5, 6)]
    assert "2 <b>reply-shape</b>, 1 internal-error" in beta
    assert (3, 1) == (told.count("train_round "), picture(study, most=1).count("train_round "))


@pytest.mark.slow
def test_the_page_in_a_browser(study, browser):
    """Drawn with its style under the strict policy, and drawn anew by itself."""
    with monitored(study) as address:
        browser.get(address)
        rows = [row.text for row in browser.find_elements("css selector", "#sites tr")]
        status = browser.find_element("id", "status").text
        now = [line.text for line in browser.find_elements("css selector", "#now li")]
        shade = browser.find_element("css selector", "td.bad").value_of_css_property("color")
        complaints = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
        (study / "outcome.json").write_text('{"code": "finished"}')
        wait_until(lambda: "finished" in browser.title, 12)

    assert ("alpha online", "beta silent never refused") == (rows[1][:12], rows[2][:25])
    assert "2 <b>reply-shape</b>, 1 internal-error" in rows[2]
    assert "1 of 2 sites online" in status
    assert ["train (train_round)", "training loss 0.6100"] == [now[0].split(",")[0], now[1].split(",")[0]]
    assert "test AUC 1.0000" in now[1]
    assert now[2] == "no differential privacy"
    assert shade == "rgba(170, 0, 0, 1)"
    assert [] == [line for line in complaints if "favicon" not in line["message"]]
