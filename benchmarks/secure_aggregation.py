"""secure_aggregation: what it costs that the server reads sums only, against the same update sent in the clear.

    python -m benchmarks.secure_aggregation           the paper's head, 10,485,840 weights, three sites
    python -m benchmarks.secure_aggregation --quick   an eighth of it

aggregation  from three updates to their mean: messages, both ways, the checks at both ends, and for the secure sum
             keys, shares, masks and unmasking; one site after the other, as on one computer; best of several in turns
rounds       the training rounds of a whole study in process, local training included, float32 updates, 24 cases a
             site; each study once
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.config.modelling import HeadSettings
from common.config.training import TrainingSettings
from common.config.visual import VisualSettings
from common.messages.base import Request
from common.messages.harmoniser import Harmoniser
from common.messages.masked import MaskedReply, from_total, to_blocks
from common.messages.model import ModelState
from common.messages.records import from_records, size_in_bytes, to_records
from common.messages.train_round import TrainRoundReply, TrainRoundRequest
from common.messages.update_gate import check_changes
from common.messages.visual_moments import moments_digest
from common.messages.weight_update import open_update, pack
from common.networks.fused_head import initial_weights
from common.privacy.secure_sum import begin, open_sum
from common.privacy.signing import identity_of
from common.seeds import stream
from server.strategy.arithmetic import weighted_sum
from simulation.engines import run_local
from tests.builders import small_protocol, sum_securely, write_federation

SITES = ("aachen", "bern", "cork")
SESSION = "0" * 32
TRAINING = TrainingSettings(encoding="float32")
Arrays = dict[str, np.ndarray[Any, Any]]


def updates(weights: Arrays) -> dict[str, TrainRoundReply]:
    """Changes of the size that a round makes."""
    rng = stream(7, "secure-bench")
    found = {}
    for number, site in enumerate(SITES):
        change: Arrays = {
            n: np.multiply(rng.standard_normal(w.shape, np.float32), np.float32(1e-3)) for n, w in weights.items()
        }
        packed = pack(change, "float32", rng)
        found[site] = TrainRoundReply(site=site, round=1, cases=60 + number, loss=0.5, update=packed)
    return found


def in_the_clear(replies: dict[str, TrainRoundReply], weights: Arrays) -> tuple[Arrays, int]:
    """The mean change, and one site's bytes."""
    arrived, size = [], 0
    for reply in replies.values():
        check_changes(open_update(reply.update, weights), TRAINING)
        records = to_records(reply)
        size = size_in_bytes(records)
        read = from_records(records, TrainRoundReply)
        check_changes(open_update(read.update, weights), TRAINING)
        arrived.append(read)
    total = sum(reply.cases for reply in arrived)
    shares = [reply.cases / total for reply in arrived]
    return {n: weighted_sum([r.update.parts[n] for r in arrived], shares) for n in weights}, size


def summed(replies: dict[str, TrainRoundReply], weights: Arrays, request: Request) -> tuple[Arrays, int]:
    """The same by a secure sum."""
    identities = {site: secrets.token_bytes(32) for site in SITES}
    known = {site: identity_of(private) for site, private in identities.items()}
    states = {site: begin(SESSION, site, secrets.token_bytes) for site in SITES}
    adverts = {site: state.advert("f", identities[site]) for site, state in states.items()}
    sealed = {}
    for site in SITES:
        states[site], sealed[site] = states[site].share(adverts, study="f", identities=known, draw=secrets.token_bytes)
    arrived, size = {}, 0
    for site, reply in replies.items():
        check_changes(open_update(reply.update, weights), TRAINING)
        shapes, blocks = to_blocks(reply)
        mine = {sender: shares[site] for sender, shares in sealed.items() if sender != site}
        states[site], masked = states[site].masked(mine, list(blocks.values()))
        told = MaskedReply(site=site, session=SESSION, shapes=shapes, blocks=dict(zip(blocks, masked, strict=True)))
        records = to_records(told)
        size = size_in_bytes(records)
        arrived[site] = from_records(records, MaskedReply)
    opened = {site: states[site].unmask(SITES)[1] for site in SITES}
    names = sorted(arrived["bern"].blocks)
    numbers = {site: [reply.blocks[name] for name in names] for site, reply in arrived.items()}
    total = open_sum(numbers, opened, adverts, partners=SITES, session=SESSION)
    opened_sum = from_total(
        TrainRoundReply, "all sites", arrived["bern"].shapes, dict(zip(names, total, strict=True)), request
    )
    if not isinstance(opened_sum, TrainRoundReply):
        raise TypeError("the sum of training rounds")
    check_changes(open_update(opened_sum.update, weights), TRAINING)
    return opened_sum.update.parts, size


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds on the wall, and the result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def aggregation(crop: int, repeats: int) -> dict[str, Any]:
    """Both ways in turns; the largest difference of the means."""
    protocol = small_protocol(visual=VisualSettings(crop_voxels=crop), head=HeadSettings())
    weights = dict(initial_weights(protocol.visual.length, 19, protocol.head, seed=1))
    replies, nothing = updates(weights), np.zeros(0)
    model = ModelState(
        harmoniser=Harmoniser(), weights={}, signature=(), radiomics_mean=nothing, radiomics_deviation=nothing,
        visual_mean=nothing, visual_deviation=nothing,
    )  # fmt: skip
    request = TrainRoundRequest(fingerprint="f", study="s", round=1, model=model, moments=moments_digest(model))
    ways: dict[str, Callable[[], tuple[Arrays, int]]] = {
        "clear": lambda: in_the_clear(replies, weights),
        "secure": lambda: summed(replies, weights, request),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    means: dict[str, tuple[Arrays, int]] = {}
    for _ in range(repeats):
        for name, work in ways.items():
            took, means[name] = timed(work)
            seconds[name].append(took)
    best = {name: min(runs) for name, runs in seconds.items()}
    difference = max(float(np.abs(means["clear"][0][n] - means["secure"][0][n]).max()) for n in weights)
    size = {name: found[1] for name, found in means.items()}
    count = sum(w.size for w in weights.values())
    ratio = best["secure"] / best["clear"]
    print(
        f"aggregation of {count:,} weights from 3 sites: {best['clear']:.2f} s in the clear, {best['secure']:.2f} s secure"
    )
    print(
        f"  {ratio:.2f} times; {size['clear'] / 1e6:.1f} and {size['secure'] / 1e6:.1f} MB up a site; largest difference {difference:.1e}"
    )
    return {"weights": count, "seconds": best, "ratio": ratio, "bytes_up": size, "largest_difference": difference}


def rounds(crop: int, number: int) -> dict[str, Any]:
    """Training rounds of the same study, twice."""
    training = {"rounds": number, "encoding": "float32", "broadcast": "float32"}
    selection = {"method": "mutual_information", "binning": "mean_deviation"}
    visual = VisualSettings(crop_voxels=crop)
    protocol = small_protocol(visual=visual, training=training, selection=selection)
    seconds = {}
    for name in ("clear", "secure"):
        with tempfile.TemporaryDirectory() as folder:
            made = write_federation(Path(folder), protocol, dict.fromkeys(SITES, 24))
            made = sum_securely(made) if name == "secure" else made
            state = run_local(made.study, list(made.sites.values()))
        if state.status() != "completed":
            raise RuntimeError(state.status())
        seconds[name] = [e.seconds for e in state.exchanges if e.action == "train_round"]
    # The first round makes the Gram matrices, in both.
    later = {name: sum(found[1:]) for name, found in seconds.items()}
    ratio = later["secure"] / later["clear"]
    print(
        f"training rounds after the first: {later['clear']:.1f} s in the clear, {later['secure']:.1f} s secure: {ratio:.2f} times"
    )
    return {"seconds": seconds, "ratio": ratio}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="an eighth of the weights")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    crop = 64 if asked.quick else 128
    found = {"aggregation": aggregation(crop, asked.repeats), "rounds": rounds(crop, 4)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
