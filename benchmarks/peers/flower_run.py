"""flower_run: the equal task on Flower's own FedAvg and simulation engine, without anything of ours.

python -m benchmarks.peers.flower_run FOLDER NUMBERS SITES ROUNDS
"""

from __future__ import annotations

import sys

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

client, server = ClientApp(), ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Take the array, add one, send it back."""
    del context
    record = message.content.array_records["arrays"]
    arrays = ArrayRecord([array + 1 for array in record.to_numpy_ndarrays()])
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def main() -> None:
    """Run and check."""
    numbers, sites, rounds = (int(text) for text in sys.argv[2:])

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        del context
        strategy = FedAvg(
            fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites, weighted_by_key="num-examples"
        )
        start = ArrayRecord([np.zeros(numbers, np.float32)])
        found = strategy.start(grid=grid, initial_arrays=start, num_rounds=rounds).arrays.to_numpy_ndarrays()[0]
        if not np.all(found == rounds):
            raise RuntimeError("another result")

    run_simulation(server, client, num_supernodes=sites, backend_config={"client_resources": {"num_cpus": 1}})


if __name__ == "__main__":
    main()
