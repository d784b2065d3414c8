"""harmonisation: how scanner effects are taken out of the radiomics features (METHOD section 4, rank 13)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.config.base import Settings

__all__ = ["Covariate", "HarmonisationSettings"]

Covariate = Literal["age", "sex"]


class HarmonisationSettings(Settings):
    """Radiomics features only; visual features are standardised alone.

    method: `none`; `site_zscore` (each site by its own training cases); `combat` (common/stats/combat.py).
        Whatever it is, features enter the classifier standardised by the pooled training moments.
    batch: what ComBat takes out: `scanner`, `site`, or `site_and_scanner`.
    covariates: kept by ComBat, known before the diagnosis.  The label is never one: it would manufacture an
        AUC of about 0.7 from nothing where scanners and classes are confounded.
    empirical_bayes, mean_only, reference_batch: as in Johnson et al. 2007 and Fortin et al. 2018.
    small_batches: what happens to a batch of 1 to 4 cases: `shrunk_mean` moves it by a shrunken shift and leaves
        its scale; `as_neurocombat` treats it as any other.
    """

    method: Literal["none", "site_zscore", "combat"] = "none"
    batch: Literal["scanner", "site", "site_and_scanner"] = "scanner"
    covariates: tuple[Covariate, ...] = ("age", "sex")
    empirical_bayes: bool = True
    mean_only: bool = False
    reference_batch: Annotated[str, Field(max_length=200)] = ""
    small_batches: Literal["shrunk_mean", "as_neurocombat"] = "shrunk_mean"

    @model_validator(mode="after")
    def _covariates_once(self) -> HarmonisationSettings:
        if len(set(self.covariates)) != len(self.covariates):
            raise ValueError("a covariate is named twice; name each once")
        return self
