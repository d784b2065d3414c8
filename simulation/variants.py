"""variants: the fused classifier on other inputs, trained like the study's: without radiomics, or with age beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from client.store.cohort import SiteCohort
from client.training.score import safety_margins
from common.networks.fused_head import initial_weights
from server.state import StudyState
from simulation.clinical import AGE, SiteTables
from simulation.federated_training import federated_training
from simulation.ladder import Margins
from simulation.statistics.estimate import federated_moments

__all__ = ["train_variants"]


def train_variants(
    state: StudyState, cohorts: Mapping[str, SiteCohort], tables: Mapping[str, SiteTables]
) -> dict[str, Margins]:
    """Margins of each site's test cases, by the variant's name.

    cohorts: harmonised as the study's, with visual maps; tables: the same cases with clinical columns.
    """
    signature = state.model().signature
    variants = {"fused + age": (*signature, AGE)}
    if state.protocol.visual.length:
        variants["visual only"] = ()
    return {name: _margins(state, cohorts, tables, inputs) for name, inputs in variants.items()}


def _margins(
    state: StudyState, cohorts: Mapping[str, SiteCohort], tables: Mapping[str, SiteTables], inputs: tuple[str, ...]
) -> Margins:
    protocol = state.protocol
    training = {name: replace(c.training, table=tables[name].training.columns(inputs)) for name, c in cohorts.items()}
    moments = federated_moments([held.table for held in training.values()])
    start = state.model().model_copy(
        update={
            "signature": inputs,
            "weights": initial_weights(protocol.visual.length, len(inputs), protocol.head, seed=protocol.seed),
            "radiomics_mean": moments.mean,
            "radiomics_deviation": moments.deviation,
        }
    )
    model = federated_training(training, start, protocol).model
    return {
        name: safety_margins(
            tables[name].test.columns(inputs), cohort.test.visual, model, head=protocol.head, device="cpu"
        )
        for name, cohort in cohorts.items()
    }
