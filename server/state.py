"""state: everything the coordinator knows of a study; a value that phases turn into the next value."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from common.config.protocol import Protocol
from common.config.study import Trains
from common.messages.base import Array, Arrays
from common.messages.harmoniser import Harmoniser
from common.messages.model import ModelState
from common.messages.qualify import QualifyReply
from common.messages.segment_evaluate import SegmentEvaluateReply

__all__ = ["ALL_SITES", "Exchange", "FeatureMoments", "Origin", "Selection", "SiteStatus", "StudyState"]

SiteStatus = Literal["contributed", "late", "absent", "refused", "excluded", "not_asked"]
"""`not_asked`: the protocol asks only some sites in each round."""

USEFUL = ("contributed", "not_asked")

ALL_SITES = "all sites"
"""Who a securely summed reply is of."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Exchange(_Value):
    """One request and what came back; every expected site is named.

    codes: why a site is not among the contributed.  loss, validation_loss: of the incoming model on the cases
    that are fitted and on those held out.
    """

    phase: str
    action: str
    round: int = 0
    seconds: float
    roster: dict[str, SiteStatus]
    codes: dict[str, str] = {}
    bytes_down: dict[str, int] = {}
    bytes_up: dict[str, int] = {}
    loss: float | None = None
    validation_loss: float | None = None


class FeatureMoments(_Value):
    """Pooled mean and standard deviation of the training cases."""

    cases: int
    radiomics_mean: Array
    radiomics_deviation: Array
    visual_mean: Array
    visual_deviation: Array


class Selection(_Value):
    """The signature in rank order.

    scores: every feature's, in catalogue order: mutual information in nats; F where the protocol says anova_f; the sites'
        points where they voted.
    edges: (features, bins - 1) it was counted over.  ties: features of equal score at the cut, decided by name.
    smallest_bin: fewest training cases in a bin of a signature feature; one_class_bins: bins of signature features with
        cases of one class only; None without a table.
    """

    signature: tuple[str, ...]
    scores: Array
    edges: Array
    ties: tuple[str, ...]
    smallest_bin: int | None = None
    one_class_bins: int | None = None


class Origin(_Value):
    """The released model that a study goes on from; sha256: of its file of numbers; version 0: of no folder of
    releases.
    """

    study: str
    version: int
    sha256: str


class StudyState(_Value):
    """Frozen; `evolve` gives the next state.

    origin: where the first model came from; None for the seed's first weights.  replaces: the study it repeats.
    before: each site's histogram of test cases under the model of `origin`.
    strategy_memory: what the strategy keeps between rounds, by its own names (server/strategy).
    best_weights: those of the lowest validation loss so far, where the protocol stops early.
    icc: stability of every feature, where the protocol asks for it.
    histograms: of all sites, by set; site_histograms: of each site's test cases; score_cells: of all test cases
        where the protocol wants the AUC exact.
    trains: the classifier, or the segmentation network.
    segmentation: each site's Dice and HD95, where the study trains the segmentation network.
    taking_part: the sites whose replies the running phase adds up; the driver sets it.
    scratch: a phase's unfinished work.  A checkpoint keeps neither, so a phase that was interrupted starts
        again, but a finished round never does.
    """

    study: str
    protocol: Protocol
    sites: tuple[str, ...]
    trains: Trains = "classifier"
    origin: Origin | None = None
    replaces: str = ""
    before: Arrays = Field(default_factory=dict)
    qualified: dict[str, QualifyReply] = {}
    excluded: dict[str, str] = {}
    harmoniser: Harmoniser | None = None
    moments: FeatureMoments | None = None
    icc: Array | None = None
    selection: Selection | None = None
    weights: Arrays = Field(default_factory=dict)
    rounds_done: int = 0
    strategy_memory: Arrays = Field(default_factory=dict)
    best_weights: Arrays = Field(default_factory=dict)
    stopped_early: bool = False
    histograms: Arrays = Field(default_factory=dict)
    site_histograms: Arrays = Field(default_factory=dict)
    score_cells: Arrays = Field(default_factory=dict)
    segmentation: dict[str, SegmentEvaluateReply] = {}
    exchanges: tuple[Exchange, ...] = ()
    finished: bool = False
    taking_part: tuple[str, ...] = Field(default=(), exclude=True)
    scratch: Any = Field(default=None, exclude=True)

    def evolve(self, **changes: Any) -> Self:
        """The next state."""
        return self.model_copy(update=changes)

    @property
    def active(self) -> tuple[str, ...]:
        """Sites that qualified, in the fixed order of their names."""
        return tuple(sorted(self.qualified))

    @property
    def rounds(self) -> int:
        """Of training, by the protocol."""
        part = self.protocol.segmentation.training if self.trains == "segmentation" else self.protocol.training
        return part.rounds

    def model(self) -> ModelState:
        """The classifier as it travels; only after selection."""
        if self.moments is None or self.selection is None:
            raise ValueError("the model exists only after harmonise and select")
        signature = self.selection.signature
        place = {name: i for i, name in enumerate(self.protocol.radiomics.names())}
        columns = [place[name] for name in signature]
        return ModelState(
            harmoniser=self.require_harmoniser(),
            weights=self.weights,
            signature=signature,
            radiomics_mean=self.moments.radiomics_mean[columns],
            radiomics_deviation=self.moments.radiomics_deviation[columns],
            visual_mean=self.moments.visual_mean,
            visual_deviation=self.moments.visual_deviation,
        )

    def mean_dice(self) -> float | None:
        """Of all sites' test cases alike, as on pooled data; None before, and without a test case."""
        told = [(s.cases, s.dice_mean) for _, s in sorted(self.segmentation.items()) if s.dice_mean is not None]
        return sum(n * mean for n, mean in told) / sum(n for n, _ in told) if told else None

    def require_harmoniser(self) -> Harmoniser:
        """What features go through; only after harmonise."""
        if self.harmoniser is None:
            raise ValueError("the harmoniser exists only after harmonise")
        return self.harmoniser

    def status(self) -> str:
        """`completed` only when every expected site contributed to every exchange that it was asked for."""
        if not self.finished:
            return "unfinished"
        lost = {s for e in self.exchanges for s, status in e.roster.items() if status not in USEFUL}
        return f"completed with losses: {', '.join(sorted(lost))}" if lost else "completed"
