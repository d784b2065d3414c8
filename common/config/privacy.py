"""privacy: differential privacy of a study: what is clipped, how much noise is added (METHOD R49, R58).

record_level: each case's gradient is clipped and noise is added at its own site (DP-SGD: Abadi et al. 2016, arXiv
1607.00133), which bounds what the training tells of one case, to the server, too.  site_level: each site's update is
clipped and the server adds noise to their sum (McMahan et al. 2018, arXiv 1710.06963), which bounds what the model tells
of a whole site, to everyone but the server.  statistics: what scales the features, from sums with noise
(common/stats/bounded_moments.py), and which are read, from votes under noise (common/stats/votes.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.config.base import Settings
from common.config.training import TrainingSettings
from common.privacy.accounting import ChoiceEvent, Event, GaussianEvent, calibrate, epsilon_of

__all__ = [
    "EXCHANGES",
    "BudgetSettings",
    "PrivacySettings",
    "RecordLevelSettings",
    "SiteLevelSettings",
    "StatisticsSettings",
    "VotesSettings",
]

Delta = Annotated[float, Field(gt=0, lt=0.1)]
Scale = tuple[float, Annotated[float, Field(gt=0)]]
"""Mean and standard deviation."""

EXCHANGES = 2
"""For the statistics: sums, then squares."""


class VotesSettings(Settings):
    """Each site names `picks` features, in order; each of them costs every case of the site at most `epsilon`.

    With three sites, seven picks each can fill a signature of nineteen.
    """

    picks: Annotated[int, Field(ge=1, le=1000)] = 7
    epsilon: Annotated[float, Field(gt=0, le=100)] = 0.5


class StatisticsSettings(Settings):
    """Mean and deviation of the features that the classifier reads, from sums to which every site adds noise.

    radiomics, visual: the scale of a cohort that anybody may know, by feature and for each visual feature
    (`fedmidline-study reference` writes them).  What a case can add to a sum is bounded in units of it; the nearer it is
    to the study's own, the better the result.  radiomics: of the fixed signature, or of all candidates for votes.
    noise_multiplier: of each of the two exchanges, for all features together.
    largest: a case further from the reference than this many times the usual length is drawn in.
    votes: for selection.method votes.
    """

    radiomics: dict[str, Scale]
    visual: tuple[Scale, ...]
    noise_multiplier: Annotated[float, Field(gt=0)] = 4.0
    largest: Annotated[float, Field(gt=0)] = 1.5
    votes: VotesSettings | None = None

    def events(self) -> tuple[Event, ...]:
        """What the exchanges do to every case of a site."""
        scale = GaussianEvent(self.noise_multiplier, steps=EXCHANGES)
        return (scale,) if self.votes is None else (ChoiceEvent(self.votes.epsilon, self.votes.picks), scale)


class RecordLevelSettings(Settings):
    """Every local step takes each training case with probability `sampling_rate`, clips its gradient (over all weights
    together) to the length `max_grad_norm`, adds Gaussian noise of standard deviation noise_multiplier x max_grad_norm
    to the sum and divides by the expected number of cases.  A round has local_epochs / sampling_rate such steps
    (fedsgd: one); training.batch_size is not read.

    target_epsilon: instead of noise_multiplier: noise for statistics and all rounds together to spend at most this at
    `delta`.
    delta: a site refuses unless it is below 1 / its training cases.
    statistics: None for sums without noise, which the promise does not cover.
    """

    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    noise_multiplier: Annotated[float, Field(ge=0)] | None = None
    target_epsilon: Annotated[float, Field(gt=0, le=1000)] | None = None
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 0.25
    delta: Delta = 1e-4
    statistics: StatisticsSettings | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> RecordLevelSettings:
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise ValueError("name either noise_multiplier or target_epsilon")
        if self.target_epsilon is not None and self.statistics is not None:
            spent = epsilon_of(self.statistics.events(), self.delta, "rdp")
            if spent >= self.target_epsilon:
                raise ValueError(
                    f"the statistics alone spend epsilon {spent:.2f} of target_epsilon {self.target_epsilon:g}; raise "
                    "statistics.noise_multiplier, lower statistics.votes, or raise the target"
                )
        return self

    def multiplier(self, training: TrainingSettings) -> float:
        """The noise multiplier, as named or as the target asks for over all rounds; the latter takes seconds."""
        if self.noise_multiplier is not None or self.target_epsilon is None:
            return self.noise_multiplier or 0.0
        beside = () if self.statistics is None else self.statistics.events()
        steps = training.rounds * self.steps(training)
        return calibrate(self.target_epsilon, self.delta, self.sampling_rate, steps, beside)

    def event(self, training: TrainingSettings, rounds: int = 1) -> GaussianEvent:
        """What so many rounds do to every case of a site."""
        return GaussianEvent(self.multiplier(training), self.sampling_rate, rounds * self.steps(training))

    def steps(self, training: TrainingSettings) -> int:
        """Noisy steps of one round."""
        if training.strategy == "fedsgd":
            return 1
        return max(1, round(training.local_epochs / self.sampling_rate))


class SiteLevelSettings(Settings):
    """Each site's update is clipped to the length `largest_update`; noise of standard deviation noise_multiplier x
    largest_update is added to their sum, and the mean over the sites, each counting alike, is what the strategy merges.

    With few sites it costs more than it gives: epsilon below 10 over 20 rounds needs noise as large as an update.
    """

    largest_update: Annotated[float, Field(gt=0)] = 1.0
    noise_multiplier: Annotated[float, Field(ge=0)] = 1.0
    delta: Delta = 1e-2


class PrivacySettings(Settings):
    """None: not done.

    epsilon_limit: what a site may spend on its cases in all, if its own file does not say less.
    """

    record_level: RecordLevelSettings | None = None
    site_level: SiteLevelSettings | None = None
    epsilon_limit: Annotated[float, Field(gt=0)] | None = None

    @property
    def statistics(self) -> StatisticsSettings | None:
        """Where signature and scale are private, too."""
        return None if self.record_level is None else self.record_level.statistics


class BudgetSettings(Settings):
    """A site's own: what all studies together may spend on its cases; the stricter of this and the protocol's holds.

    noise: `secret` is drawn from the operating system and kept in the cache; `repeatable` follows from the protocol's
    seed, which everybody knows: for simulated cases only, whose runs shall repeat.
    """

    epsilon: Annotated[float, Field(gt=0)] = 10.0
    delta: Delta = 1e-4
    noise: Literal["secret", "repeatable"] = "secret"
