"""scored_partitions: margins with ties and saturation, labels, and an owner for each case."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st


class Scored(NamedTuple):
    """One cohort and who holds which case."""

    margins: np.ndarray
    altered: np.ndarray
    owner: np.ndarray

    def parts(self):
        """(margins, altered) of each site that has a case; sites of one case or one class are among them."""
        return [(self.margins[self.owner == s], self.altered[self.owner == s]) for s in np.unique(self.owner)]


@st.composite
def scored_partitions(draw, smallest=6, largest=80):
    """At least two cases of each class; every site may have any number of cases."""
    cases = draw(st.integers(smallest, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    altered = rng.random(cases) < draw(st.sampled_from([0.2, 0.5]))
    altered[:4] = [True, True, False, False]
    margins = rng.normal(0, draw(st.sampled_from([0.5, 8.0, 300.0])), cases) - draw(st.integers(0, 9)) * altered
    decimals = draw(st.sampled_from([None, 1, 0]))
    if decimals is not None:
        margins = np.round(margins, decimals)
    margins = np.where(rng.random(cases) < 0.1, -0.0, margins)
    return Scored(margins, altered, rng.integers(0, draw(st.integers(1, 8)), cases))
