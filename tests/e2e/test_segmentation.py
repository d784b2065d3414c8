"""The segmentation network over the wire: it learns, bad updates are refused by name, a stopped study goes on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, Message
from typer.testing import CliRunner

from client.cli import app as site_command
from client.segment.weights import network_of
from client.site import open_site
from client.tasks.segment_cases import segment_cases
from client.tasks.segment_evaluate import score_segmentation, scores_file, summary
from client.tasks.segment_train import installed_weights, train_alone
from common.errors import ConfigError, QuorumLost, StudyError
from server.app import open_study
from server.checkpoint import CHECKPOINT, load_checkpoint
from server.cli import app as study_command
from simulation.cli import app as sim_command
from simulation.engines import run_local
from tests.segment_site import segment_protocol, write_segment_federation, write_segment_site

SIZES = {"aachen": 8, "bern": 12, "cork": 8}
BERN = 101


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def run(federation, **options):
    return run_local(federation.study, list(federation.sites.values()), **options)


def rounds_of(state, site="bern"):
    return [(e.roster[site], e.codes.get(site)) for e in state.exchanges if e.action == "segment_round"]


def test_a_study_of_the_network_completes_and_tells_dice_by_site(tmp_path):
    """Every site contributes everywhere; the means are those of its own cases, and the pooled mean is of all of them."""
    federation = write_segment_federation(tmp_path, segment_protocol(), SIZES)

    state = run(federation)

    assert state.status() == "completed"
    assert ["qualify", "segment_round", "segment_round", "segment_round", "segment_evaluate"] == [
        e.action for e in state.exchanges
    ]
    assert [2, 3, 2] == [state.segmentation[site].cases for site in sorted(SIZES)]
    assert (4, 2) == state.qualified["aachen"].training_cases
    dices = []
    for site, path in federation.sites.items():
        with scores_file(open_site(path), "trial").open(newline="") as file:
            own = [float(row["dice"]) for row in csv.DictReader(file)]
        assert state.segmentation[site].dice_mean == pytest.approx(np.mean(own), abs=1e-12)
        dices += own
    assert state.mean_dice() == pytest.approx(np.mean(dices), abs=1e-12)


def test_the_studys_weights_come_into_a_hospital(tmp_path):
    """`fedmidline-study report` writes them, `fedmidline-site segment import` takes them, and they draw the same masks."""
    federation = write_segment_federation(tmp_path, segment_protocol({"rounds": 1}), SIZES)
    state = run(federation)
    site, out, call = federation.sites["bern"], tmp_path / "released", CliRunner().invoke

    told = call(study_command, ["report", "--study", str(federation.study.parent), "--out", str(out), "--json"])
    weights = json.loads(told.stdout)["weights"]
    taken = call(site_command, ["segment", "import", weights, "--site", str(site), "--name", "theirs", "--json"])
    scored = call(site_command, ["segment", "evaluate", "--site", str(site), "--weights", "theirs", "--json"])

    assert json.loads(told.stdout)["mean_dice"] == state.mean_dice()
    block = json.loads(taken.stdout)["protocol"]
    assert (16, "theirs") == (block["visual"]["channels"], block["segmentation"]["weights"])
    assert json.loads(scored.stdout)["dice_mean"] == state.segmentation["bern"].dice_mean


def test_a_federation_of_one_site_is_its_training_alone(tmp_path):
    """R56, to the last bit where changes travel in single precision."""
    protocol = segment_protocol({"encoding": "float32"}).model_copy(update={"federation": _one()})
    federation = write_segment_federation(tmp_path, protocol, {"only": 8})

    state = run(federation)

    site = open_site(federation.sites["only"])
    trained = train_alone(site, "alone")
    from safetensors.numpy import load_file

    for name, weight in load_file(trained.file).items():
        np.testing.assert_array_equal(state.weights[name], weight)
    scored = score_segmentation(
        site,
        [case for case in segment_cases(site) if case.test],
        network_of(state.weights, protocol.segmentation.network, name="federated"),
    )
    assert summary(scored, site="only") == state.segmentation["only"].model_copy(update={"exchange": 0})


def test_a_site_lost_in_one_round_is_named_and_asked_again(tmp_path):
    federation = write_segment_federation(tmp_path, segment_protocol(), SIZES)
    lost = []

    def lose(message: Message) -> bool:
        hit = message.metadata.message_type == "train.segment_round" and message.metadata.dst_node_id == BERN
        if hit and not lost:
            lost.append(message)
            return True
        return False

    state = run(federation, lose=lose)

    assert [("late", None), ("contributed", None), ("contributed", None)] == rounds_of(state)
    assert state.status() == "completed with losses: bern"


def tampered(monkeypatch, change):
    """Bern's updates changed on their way."""
    from client.app import app as honest
    from simulation import engines

    def app(message, context):
        reply = honest(message, context)
        if message.metadata.message_type == "train.segment_round" and message.metadata.dst_node_id == BERN:
            arrays = reply.content.array_records["arrays"]
            name = next(n for n in arrays if n.endswith("model.0.conv.bias"))
            arrays[name] = Array(change(arrays[name].numpy().copy()))
        return reply

    monkeypatch.setattr(engines, "client_app", app)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a: np.full_like(a, np.nan), "message-not-finite"),
        (lambda a: np.full_like(a, 1e9), "update-too-large"),
        (lambda a: a[:-1], "update-shape"),
    ],
)
def test_bad_updates_are_refused_by_name_and_the_round_goes_on(tmp_path, monkeypatch, change, code):
    federation = write_segment_federation(tmp_path, segment_protocol({"rounds": 1}), SIZES)
    tampered(monkeypatch, change)

    state = run(federation)

    assert [("refused", code)] == rounds_of(state)
    assert all(np.isfinite(weight).all() for weight in state.weights.values())


def test_a_stopped_study_goes_on_with_the_same_weights(tmp_path):
    """Too few sites answer in the third round: the checkpoint has two, and the resumed study ends as a whole one."""
    whole = run(write_segment_federation(tmp_path / "whole", segment_protocol(), SIZES))
    federation = write_segment_federation(tmp_path / "stopped", segment_protocol(), SIZES)
    asked = []

    def lose(message: Message) -> bool:
        if message.metadata.message_type == "train.segment_round":
            asked.append(message)
        return len(asked) > 2 * len(SIZES)

    with pytest.raises(QuorumLost):
        run(federation, lose=lose)
    assert 2 == load_checkpoint(federation.study.parent / CHECKPOINT).rounds_done

    resumed = run(federation)

    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], weight)


def test_a_site_without_masks_does_not_qualify(tmp_path):
    federation = write_segment_federation(tmp_path, segment_protocol(), SIZES)
    path = federation.sites["cork"]
    manifest = path.parent / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"mask_path": ""} for row in rows)

    state = run(federation)

    assert {"cork": "no-training-masks"} == state.excluded


def test_a_checkpoint_of_the_other_kind_of_study_is_not_gone_on_with(tmp_path):
    federation = write_segment_federation(tmp_path, segment_protocol({"rounds": 1}), SIZES)
    run(federation)
    federation.study.write_text(federation.study.read_text().replace("trains: segmentation", "trains: classifier"))

    with pytest.raises(ConfigError, match="checkpoint-of-another-study"):
        open_study(federation.study)


def test_the_commands_of_a_site(tmp_path):
    """Train, then evaluate with the new weights: figures by case, mean, and the block that a protocol writes."""
    path = write_segment_site(tmp_path, "aachen", segment_protocol(), 8, seed=0)
    call = CliRunner().invoke

    trained = call(site_command, ["segment", "train", "--site", str(path), "--name", "ours", "--json"])
    told = call(
        site_command, ["segment", "evaluate", "--site", str(path), "--weights", "ours", "--set", "all", "--json"]
    )

    block = json.loads(trained.stdout)["protocol"]["segmentation"]
    assert ("ours", 64) == (block["weights"], len(block["weights_sha256"]))
    assert (installed_weights(open_site(path)) / "ours.safetensors").exists()
    result = json.loads(told.stdout)
    assert 8 == result["cases"] == len(result["cases_scored"])
    assert result["dice_mean"] == pytest.approx(np.mean([case["dice"] for case in result["cases_scored"]]))
    wrong = call(site_command, ["segment", "evaluate", "--site", str(path), "--weights", "synthetic-v1"])
    assert isinstance(wrong.exception, StudyError)
    assert "weights-of-another-network" in str(wrong.exception)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_raw_images_to_masks_and_bad_ones_set_aside(tmp_path: Path):
    """Real preparation: masks by the shipped network beside the true ones, a broken mask named, nothing done twice."""
    import yaml

    from common.config.protocol import Protocol
    from simulation.size import at_size

    call = CliRunner().invoke
    cohort = tmp_path / "cohort"
    made = call(sim_command, ["cohort", "--out", str(cohort), "--altered", "2", "--not-altered", "1", "--seed", "3"])
    assert 0 == made.exit_code
    with (cohort / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (cohort / rows[0]["mask_path"]).write_bytes(b"not a mask")
    protocol, _ = at_size(Protocol(name="tiny"), "small")
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol.model_dump(mode="json")))
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"name": "s", "protocol": "protocol.yaml", "manifest": "cohort/manifest.csv"}))

    first = call(site_command, ["segment", "predict", "--site", str(site), "--out", str(tmp_path / "masks"), "--json"])
    told = call(site_command, ["segment", "evaluate", "--site", str(site), "--set", "all", "--json"])
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()}
    second = call(site_command, ["segment", "predict", "--site", str(site), "--out", str(tmp_path / "masks"), "--json"])

    assert 2 == first.exit_code == second.exit_code
    result = json.loads(first.stdout)
    assert {"segmented": 2, "set_aside": 1} == result["counts"]
    assert "image-unreadable" == result["cases"][0]["code"]
    assert all(0 < case["uncertainty"] < 1 for case in result["cases"][1:])
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()}
    assert json.loads(told.stdout)["dice_mean"] > 0.7


def _one():
    from common.config.federation import FederationSettings

    return FederationSettings(min_sites=1, min_cases=4, timeout_s=60)
