"""class_weights: weights that give both classes the same say: cases / (2 x cases of the class).

From counts that the sites have told in `qualify`; equal to scikit-learn's `class_weight="balanced"` of the pooled
cases.
"""

from __future__ import annotations

__all__ = ["balanced_weights"]


def balanced_weights(altered: int, not_altered: int) -> tuple[float, float]:
    """In the order (altered, not altered); both classes must be there."""
    total = altered + not_altered
    return total / (2 * altered), total / (2 * not_altered)
