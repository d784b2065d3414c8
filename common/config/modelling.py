"""modelling: split, selection and fused classifier (METHOD R5, R24-R33)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings

__all__ = ["HeadSettings", "Relu", "SelectionSettings", "SplitSettings"]

Relu = Literal["visual", "paper_literal", "none"]


class SplitSettings(Settings):
    """Patient-level, stratified by class.

    test_fraction: the share of each class that is tested, rounded down to whole cases; 50 of 254 is
        25 of 127 per class, where scikit-learn's rounding gives 51 (R5).
    """

    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2


class SelectionSettings(Settings):
    """method: `mutual_information` ranks all features by MI with the label over common bins and keeps
        the k best, ties broken by name; `decorrelated` skips features that correlate with a better one;
        `mrmr` weighs MI against redundancy; `anova_f` ranks by F; `fixed_signature` takes the paper's 19
        (Table 2); `votes` lets each site name a few under noise (common/stats/votes.py) and takes the k named most,
        or as many as were named: for private statistics (privacy.record_level.statistics).
    bins, binning: common bins of all sites (common/stats/bin_edges.py).
    candidates: the best features by MI among which `decorrelated` and `mrmr` choose.
    smallest_icc: a feature takes part only when its ICC(1,1) over repeated measurements is at least this; needs
        `radiomics.perturbations`.  0.75 is called good, 0.9 excellent (Koo and Li 2016).
    largest_correlation: absolute, between two chosen features, for `decorrelated`.
    """

    method: Literal["mutual_information", "decorrelated", "mrmr", "anova_f", "fixed_signature", "votes"] = (
        "mutual_information"
    )
    k: Annotated[int, Field(ge=1)] = 19
    bins: Annotated[int, Field(ge=2, le=32)] = 5
    binning: Literal["quantile", "mean_deviation", "equal_width"] = "quantile"
    candidates: Annotated[int, Field(ge=1, le=1000)] = 200
    largest_correlation: Annotated[float, Field(gt=0, lt=1)] = 0.9
    smallest_icc: Annotated[float, Field(ge=0, lt=1)] | None = None

    def without_noise(self) -> SelectionSettings:
        """What chooses where nothing leaves: votes have no meaning without noise, and mutual information stands for them."""
        return self.model_copy(update={"method": "mutual_information"}) if self.method == "votes" else self


class HeadSettings(Settings):
    """visual map -> hidden units, ++ selected radiomics -> 2 classes -> softmax.

    relu: `visual` after the hidden units; `paper_literal` on the two logits, as the paper prints it
        (R31: it costs accuracy and makes exact ties at 0.5); `none`.
    """

    hidden: Annotated[int, Field(ge=1, le=1024)] = 10
    relu: Relu = "visual"
