"""egress: what a hospital's door lets out.  The site's file says it; a protocol can only ask for more.

The strictest of both holds, so a site that wants laxer rules must say so itself, and no study can loosen them.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from common.config.base import Settings
from common.privacy.small_cells import MIN_CELL

__all__ = ["MESSAGES", "EgressFloor", "EgressSettings", "MessageName"]

MessageName = Literal[
    "qualify",
    "votes",
    "combat",
    "moments",
    "repeats",
    "quantiles",
    "contingency",
    "covariance",
    "anova",
    "train_round",
    "evaluate",
    "score_cells",
    "segment_round",
    "segment_evaluate",
    "advertise_keys",
    "share_keys",
    "unmask",
]
"""Every message of this version, in the order of a study; the software has no other."""
MESSAGES: tuple[MessageName, ...] = get_args(MessageName)

CrossBorder = Literal["allow", "forbid_counts_by_h3"]


class EgressSettings(Settings):
    """A site's own rules.

    allow: the messages that may be answered, by name.
    min_cell: smallest count of persons that may be told; zeros_disclosive: whether a zero is below it.
    min_cases: fewest cases behind a sum, a mean or an update.
    rounding: counts that are only read, never computed with, leave as multiples of it.
    largest_reply_mb: of one reply, 10^6 bytes.
    most_rounds: training rounds that are answered for one protocol, over all its studies.
    cross_border: forbid_counts_by_h3 where the server stands where the law lets no counts by H3 status go.
    """

    allow: tuple[MessageName, ...] = MESSAGES
    min_cell: Annotated[int, Field(ge=0)] = MIN_CELL
    zeros_disclosive: bool = True
    min_cases: Annotated[int, Field(ge=1)] = 10
    rounding: Annotated[int, Field(ge=1)] = 5
    largest_reply_mb: Annotated[float, Field(gt=0)] = 128.0
    most_rounds: Annotated[int, Field(ge=0)] = 1000
    cross_border: CrossBorder = "allow"


class EgressFloor(Settings):
    """What a protocol asks of every site's door; None leaves it to the site.  Fields as in EgressSettings."""

    min_cell: Annotated[int, Field(ge=0)] | None = None
    zeros_disclosive: Literal[True] | None = None
    min_cases: Annotated[int, Field(ge=1)] | None = None
    rounding: Annotated[int, Field(ge=1)] | None = None
    largest_reply_mb: Annotated[float, Field(gt=0)] | None = None
    most_rounds: Annotated[int, Field(ge=0)] | None = None
    cross_border: CrossBorder | None = None
