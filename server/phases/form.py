"""form: what the numbers of a reply must look like before anything is added up.

One site's array of another shape would end the study in a ValueError that names nobody, and one number beyond all bounds
would make every sum infinite.  So each phase says what it expects of every field; who sends something else is refused:

    reply-shape       another shape: of another number of features, bins or classes
    reply-dtype       other numbers: real ones where cases are counted, or integers where sums are wanted
    reply-negative    a count or a sum of squares below zero
    reply-fraction    a part of a case
    reply-too-large   beyond `largest`
    reply-cases       of no case, or of more than the site qualified with
    cohort-changed    of other training cases than had qualified
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from common.errors import WireError
from common.messages.base import Reply
from server.state import ALL_SITES, StudyState

__all__ = [
    "LARGEST_VISUAL",
    "Form",
    "check_forms",
    "counts",
    "refused",
    "require_all_cases",
    "require_some_cases",
    "training_cases",
]

LARGEST, LARGEST_VISUAL = 1e60, 1e30
"""Of a radiomics feature's squares, and of visual features, whose moments travel in single precision."""


@dataclass(frozen=True)
class Form:
    """dtype: kinds of numpy's types.  counts: whole numbers, none below zero.  positive: none below zero."""

    shape: tuple[int, ...]
    dtype: str = "f"
    counts: bool = False
    positive: bool = False
    largest: float = LARGEST


def counts(*shape: int, dtype: str = "iu") -> Form:
    """Cases in cells."""
    return Form(shape, dtype, counts=True, positive=True, largest=2**31)


def check_forms(reply: Reply, forms: Mapping[str, Form]) -> None:
    """WireError with one of the codes above names the field."""
    for field, form in forms.items():
        array = np.asarray(getattr(reply, field))
        if array.shape != form.shape:
            raise refused("reply-shape", field, "The array has another shape than the request asks for.")
        if array.dtype.kind not in form.dtype:
            raise refused("reply-dtype", field, "The array holds numbers of another type.")
        if array.size == 0:
            continue
        if form.positive and array.min() < 0:
            raise refused("reply-negative", field, "A count or a sum of squares is below zero.")
        if max(float(array.max()), -float(array.min())) > form.largest:
            raise refused("reply-too-large", field, "A number is beyond what any cohort can give.")
        if form.counts and array.dtype.kind == "f" and (array != np.floor(array)).any():
            raise refused("reply-fraction", field, "A count of cases is not a whole number.")


def training_cases(state: StudyState, site: str) -> int:
    """As qualified; of a secure sum, all sites' that take part."""
    sites = state.taking_part if site == ALL_SITES else (site,)
    return sum(sum(state.qualified[name].training_cases) for name in sites)


def require_some_cases(state: StudyState, site: str, cases: int, field: str) -> None:
    """WireError `reply-cases`."""
    if not 0 < cases <= training_cases(state, site):
        raise refused("reply-cases", field, "The reply is of no case, or of more than the site qualified with.")


def require_all_cases(state: StudyState, site: str, cases: int, field: str) -> None:
    """WireError `cohort-changed` where one site's count is not what had qualified.

    Of a secure sum, from which a site may be missing, nobody can tell here.
    """
    if site == ALL_SITES:
        return require_some_cases(state, site, cases, field)
    if cases != training_cases(state, site):
        raise WireError(
            "cohort-changed",
            field=field,
            site=site,
            problem="Other training cases were counted than had qualified.",
            fix="Leave the cohort alone while a study runs; start the study anew in another folder.",
        )
    return None


def refused(code: str, field: str, problem: str) -> WireError:
    """A reply that cannot be used."""
    return WireError(code, field=field, problem=problem, fix="Both sides must run the same version and protocol.")
