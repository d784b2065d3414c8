"""our_run: the equal task on our driver, messages, gate, strategy and checkpoint, in process.

python -m benchmarks.peers.our_run FOLDER NUMBERS SITES ROUNDS

Everything of a study's training but the training: each virtual site takes the array, adds one and sends it back, all in
single precision, as the peers do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common.config.protocol import Protocol
from common.config.visual import VisualSettings
from common.messages.harmoniser import Harmoniser
from common.messages.qualify import QualifyReply, QualifyRequest
from common.messages.records import from_records, to_records
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.weight_update import pack
from common.networks.fused_head import initial_weights
from common.seeds import stream
from server.checkpoint import CHECKPOINT
from server.phases.select import fixed_selection
from server.state import FeatureMoments, StudyState
from server.workflow import run_study
from simulation.local_grid import LocalGrid

client = ClientApp()


@client.query("qualify")
def qualify(message: Message, context: Context) -> Message:
    """Who is it?"""
    known = _qualified(str(context.node_config["name"]))
    asked = from_records(message.content, QualifyRequest).exchange
    return Message(to_records(known.model_copy(update={"exchange": asked})), reply_to=message)


@client.train("train_round")
def train(message: Message, context: Context) -> Message:
    """Take the array, add one, send it back."""
    request = from_records(message.content, TrainRoundRequest)
    after = {name: weight + 1 for name, weight in request.model.weights.items()}
    changes = {name: after[name] - weight for name, weight in request.model.weights.items()}
    reply = TrainRoundReply(
        site=str(context.node_config["name"]),
        exchange=request.exchange,
        round=request.round,
        cases=1,
        loss=0.0,
        update=pack(changes, "float32", stream(1)),
    )
    return Message(to_records(reply), reply_to=message)


def _qualified(site: str) -> QualifyReply:
    return QualifyReply(site=site, training_cases=(1, 1), test_cases=(1, 1), versions={})


def main() -> None:
    """Run and check."""
    folder, (numbers, sites, rounds) = Path(sys.argv[1]), (int(text) for text in sys.argv[2:])
    training = {"rounds": rounds, "strategy": "fedavg", "encoding": "float32", "broadcast": "float32"}
    edge = round((numbers / 5) ** (1 / 3))  # a crop of edge^3 voxels gives half as many features, for ten hidden units
    protocol = Protocol.model_validate(
        {"name": "equal", "visual": VisualSettings(crop_voxels=edge), "training": training | {"largest_norm": 1e6}}
    )
    names, length = tuple(f"site-{i}" for i in range(sites)), protocol.visual.length
    selection = fixed_selection(len(protocol.radiomics.names()))
    state = StudyState(
        study="equal",
        protocol=protocol,
        sites=names,
        qualified={name: _qualified(name) for name in names},
        harmoniser=Harmoniser(),
        moments=FeatureMoments(
            cases=sites,
            radiomics_mean=np.zeros(len(protocol.radiomics.names())),
            radiomics_deviation=np.ones(len(protocol.radiomics.names())),
            visual_mean=np.zeros(length, np.float32),
            visual_deviation=np.ones(length, np.float32),
        ),
        selection=selection,
        histograms={"test": np.zeros((2, 1), np.int64)},
    )
    grid = LocalGrid(client, [{"name": name} for name in names])
    state = run_study(grid, state, checkpoint=folder / CHECKPOINT)
    grid.close()
    first = initial_weights(length, len(selection.signature), protocol.head, seed=protocol.seed)
    if sum(weight.size for weight in first.values()) < numbers or any(
        np.abs(state.weights[name] - first[name] - rounds).max() > 1e-5 for name in first
    ):
        raise RuntimeError("another result")


if __name__ == "__main__":
    main()
