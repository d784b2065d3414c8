"""multiplicity: P values of several comparisons, adjusted so that one false alarm stays as rare as stated.

Holm 1979: valid whatever the dependence, and never weaker than Bonferroni.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import InputError

__all__ = ["holm"]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted P values under the same names, in the order given; compare each with the level itself."""
    broken = [name for name, p in p_values.items() if not 0 <= p <= 1]
    if broken:
        raise InputError(
            "not-a-p-value",
            field=", ".join(broken),
            problem="A P value lies outside of 0 to 1 or is NaN.",
            fix="Leave comparisons that could not be made out of the family.",
        )
    adjusted: dict[str, float] = {}
    highest = 0.0
    ranked = sorted(p_values, key=lambda name: p_values[name])
    for place, name in enumerate(ranked):
        highest = max(highest, min(1.0, (len(ranked) - place) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
