"""retraining: a study that goes on from a released model, with new cases or a new site.

The release's harmoniser, standardisation and signature stay, because its weights mean nothing without them; training
starts from its weights.  Before the first round every site scores its test cases with the released model, after the
last with the new one (server/phases/baseline.py).

A case that the released model has learned from must not be among the test cases now.  The protocol's seed and test
share must be the release's, and each site keeps the side on which a case once was (client/store/split_book.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ProtocolMismatch
from common.messages.model import ModelState
from common.networks.first_weights import ENCODER, first_weights
from server.releases import read_model
from server.state import FeatureMoments, Selection, StudyState

__all__ = ["start_from"]


def start_from(state: StudyState, path: Path) -> StudyState:
    """The study's first state, with the released model in it.

    ProtocolMismatch `release-differs` names what in the protocol does not fit the release; InputError
    `model-unreadable`, `model-incomplete` and those of server/releases.py.
    """
    model, about, origin = read_model(path, field="start")
    _require_fit(state, model, about)
    features = state.protocol.radiomics.names()
    place = {name: i for i, name in enumerate(features)}
    columns = [place[name] for name in model.signature]
    # Of the other features the release says nothing, and nothing asks.
    mean, deviation = np.zeros(len(features)), np.ones(len(features))
    mean[columns], deviation[columns] = model.radiomics_mean, model.radiomics_deviation
    return state.evolve(
        origin=origin,
        harmoniser=model.harmoniser,
        moments=FeatureMoments(
            cases=0,
            radiomics_mean=mean,
            radiomics_deviation=deviation,
            visual_mean=model.visual_mean,
            visual_deviation=model.visual_deviation,
        ),
        selection=Selection(
            signature=model.signature, scores=np.zeros(len(features)), edges=np.zeros((len(features), 0)), ties=()
        ),
        weights={**first_weights(state.protocol, len(model.signature)), **model.weights},
    )


def _require_fit(state: StudyState, model: ModelState, about: dict[str, Any]) -> None:
    protocol = state.protocol
    # An encoder that was frozen so far may begin to learn.
    first = first_weights(protocol, len(model.signature))
    shapes = {n: w.shape for n, w in first.items() if n in model.weights or not n.startswith(ENCODER)}
    split = about.get("split") or {}
    differing = [
        name
        for name, differs in (
            ("features", about.get("feature_fingerprint") != protocol.feature_fingerprint()),
            ("head", shapes != {name: weight.shape for name, weight in model.weights.items()}),
            ("head.relu", (about.get("head") or {}).get("relu") != protocol.head.relu),
            ("harmonisation.method", model.harmoniser.method != protocol.harmonisation.method),
            ("seed", split.get("seed") != protocol.seed),
            ("split.test_fraction", split.get("test_fraction") != protocol.split.test_fraction),
        )
        if differs
    ]
    if differing:
        raise ProtocolMismatch(
            "release-differs",
            field=", ".join(differing),
            problem="The protocol and the released model differ in these.",
            fix="Take the release's protocol.json and change only its training, evaluation or federation.",
        )
