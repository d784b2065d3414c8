"""commands: `fedmidline-sim statistics ...`: federated estimates of a CSV table, each beside its pooled value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import typer
from sklearn.metrics import mutual_info_score

from common.command import new_command
from common.config.harmonisation import HarmonisationSettings
from common.config.modelling import SelectionSettings
from common.errors import InputError
from common.metrics import adjusted_roc, roc_cells
from common.metrics.score_cells import ScoreCells
from common.stats import explained_variance
from common.stats.combat import BatchDesign
from common.stats.empirical_bayes import FEWEST_FOR_SCALE
from common.tables import TrainingTable
from server.reporting.judgement import judge_scores
from server.reporting.site_pooling import pool_estimates
from simulation.statistics.estimate import (
    federated_moments,
    federated_quantiles,
    federated_selection,
    federated_stability,
)
from simulation.statistics.federated_combat import CombatSite, federated_combat
from simulation.statistics.output import as_table, tell, write_csv
from simulation.statistics.table import (
    CaseTable,
    covariate_columns,
    flag_column,
    read_case_table,
    score_column_as_margins,
)

__all__ = ["statistics"]

statistics = new_command("Federated statistics of a table, each beside what pooled data give.")

TableFile = Annotated[Path, typer.Option("--table", help="CSV, one row per case, with a header line")]
SiteColumn = Annotated[str, typer.Option(help="column that says who holds the case")]
LabelColumn = Annotated[str, typer.Option(help="column with the two classes")]
Ignore = Annotated[list[str], typer.Option(help="column that is no feature; may be repeated")]
Out = Annotated[Path | None, typer.Option(help="CSV to write")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable JSON on standard output")]
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
NOBODY: list[str] = []


@statistics.command()
def moments(
    table: TableFile,
    site_column: SiteColumn = "site",
    ignore: Ignore = NOBODY,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Mean, standard deviation and quantiles of every feature, from sums and counts of the sites.

    Extremes are never asked for, each is one patient's value: the 1 % and 99 % quantiles stand for them.

    Example: fedmidline-sim statistics moments --table features.csv --site-column site --out moments.csv
    """
    cases = read_case_table(table, site_column=site_column, ignore=ignore)
    sites = _sites(cases, np.zeros(len(cases.site), dtype=bool))
    found, cut = federated_moments(sites), federated_quantiles(sites, QUANTILES)
    values = cases.values()
    spread = np.maximum(values.std(axis=0), 1e-300)
    differences = {
        "mean, in SD": float(np.max(np.abs(found.mean - values.mean(axis=0)) / spread)),
        "standard deviation, relative": float(
            np.max(np.abs(values.std(axis=0) - found.deviation) / spread * (values.std(axis=0) > 0))
        ),
        "quantiles": float(np.max(np.abs(cut - np.quantile(values, QUANTILES, axis=0).T))),
    }
    columns = {"mean": found.mean, "standard_deviation": found.deviation}
    columns |= {f"quantile_{q:g}": cut[:, i] for i, q in enumerate(QUANTILES)}
    frame = pd.DataFrame({"feature": cases.features, **columns})
    write_csv(out, frame)
    result = {**_about(cases), "differences_to_pooled": differences, "features": frame.to_dict("records")}
    tell(result, as_table("Federated moments", frame), as_json=as_json, out=out)


@statistics.command()
def combat(
    table: TableFile,
    out: Annotated[Path, typer.Option(help="CSV to write: the same table with harmonised features")],
    site_column: SiteColumn = "site",
    batch_column: Annotated[
        str, typer.Option(help="column that says which scanner; the site column for one per site")
    ] = "scanner",
    covariate: Annotated[list[str], typer.Option(help="column whose effect is kept; may be repeated")] = NOBODY,
    eb: Annotated[bool, typer.Option("--eb/--no-eb", help="shrink by empirical Bayes")] = True,
    mean_only: Annotated[bool, typer.Option("--mean-only", help="leave the scales alone")] = False,
    reference_batch: Annotated[str, typer.Option(help="batch that stays as it is")] = "",
    small_batches: Annotated[
        Literal["shrunk_mean", "as_neurocombat"], typer.Option(help="of 1 to 4 cases")
    ] = "shrunk_mean",
    ignore: Ignore = NOBODY,
    as_json: AsJson = False,
) -> None:
    """ComBat between sites that send sums only; equal to neuroCombat of the pooled table.

    All rows are taken as training cases.  Never give the label as a covariate.

    Example: fedmidline-sim statistics combat --table T.csv --site-column site --batch-column scanner --covariate age
    --covariate sex --out harmonised.csv
    """
    cases = read_case_table(
        table, site_column=site_column, others=[*dict.fromkeys([batch_column, *covariate])], ignore=ignore
    )
    settings = HarmonisationSettings(
        method="combat",
        covariates=(),
        empirical_bayes=eb,
        mean_only=mean_only,
        reference_batch=reference_batch,
        small_batches=small_batches,
    )
    batch = tuple(cases.frame[batch_column].astype(str))
    if reference_batch and reference_batch not in batch:
        raise InputError(
            "reference-batch-absent",
            field="--reference-batch",
            problem="No case has the reference batch.",
            fix=f"Choose one of the values of the column {batch_column!r}.",
            local=", ".join(sorted(set(batch))[:10]),
        )
    design = BatchDesign(batch, *covariate_columns(cases, covariate))
    found = _harmonise(cases, design, settings, cases.site)
    pooled = _harmonise(cases, design, settings, ("everyone",) * len(batch))
    spread = np.maximum(cases.values().std(axis=0), 1e-300)
    whole = cases.frame.assign(**dict(zip(cases.features, found.T, strict=True)))
    write_csv(out, whole)
    sizes = Counter(batch)
    result = {
        **_about(cases),
        "out": str(out),
        "covariates": list(design.names),
        "batches": dict(sorted(sizes.items())),
        "small_batches": sorted(b for b, n in sizes.items() if n < FEWEST_FOR_SCALE),
        "constant_features": [f for f, s in zip(cases.features, cases.values().std(axis=0), strict=True) if s == 0],
        "largest_difference_to_pooled_in_sd": float(np.max(np.abs(found - pooled) / spread)),
        "variance_explained_by_batch": {
            "before": _explained(cases, cases.values(), batch),
            "after": _explained(cases, found, batch),
        },
        "numbers_sent_per_site": len(cases.features) * (2 + len(design.names))
        + len(design.names) ** 2
        + len(design.names)
        + 1,
    }
    shown = pd.DataFrame([{"quantity": k, "value": str(v)} for k, v in result.items()])
    tell(result, as_table("ComBat", shown), as_json=as_json, out=out)


@statistics.command()
def select(
    table: TableFile,
    site_column: SiteColumn = "site",
    label_column: LabelColumn = "label",
    k: Annotated[int, typer.Option(help="features to keep")] = 19,
    bins: Annotated[int, typer.Option(help="common bins of mutual information")] = 5,
    binning: Annotated[
        Literal["quantile", "mean_deviation", "equal_width"], typer.Option(help="how they are cut")
    ] = "quantile",
    method: Annotated[
        Literal["mutual_information", "decorrelated", "mrmr", "anova_f"], typer.Option(help="what ranks")
    ] = "mutual_information",
    resamples: Annotated[int, typer.Option(help="of 80 % of the cases, for the selection's stability; 0 for none")] = 0,
    seed: Annotated[int, typer.Option(help="of the resamples")] = 1,
    ignore: Ignore = NOBODY,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The k best features, from tables of counts of the sites; the same as of pooled data.

    Example: fedmidline-sim statistics select --table T.csv --site-column site --label-column label --k 19 --bins 5 --json
    """
    cases = read_case_table(table, site_column=site_column, others=[label_column], ignore=ignore)
    altered = flag_column(cases, label_column)
    settings = SelectionSettings(method=method, k=min(k, len(cases.features)), bins=bins, binning=binning)
    sites = _sites(cases, altered)
    found = federated_selection(sites, settings)
    everyone = TrainingTable(cases.features, cases.values(), altered)
    pooled = federated_selection([everyone], settings)
    scores = dict(zip(cases.features, found.scores, strict=True))
    frame = pd.DataFrame([{"rank": i, "feature": n, "score": scores[n]} for i, n in enumerate(found.chosen.names, 1)])
    write_csv(out, frame)
    result = {
        **_about(cases),
        "method": method,
        "selected": list(found.chosen.names),
        "scores": {name: float(scores[name]) for name in found.chosen.names},
        "ties_at_the_cut": list(found.chosen.ties),
        "same_as_pooled": found.chosen.names == pooled.chosen.names,
        "largest_difference_to_pooled": float(np.max(np.abs(found.scores - pooled.scores))),
    }
    if method != "anova_f":
        result["largest_difference_to_scikit_learn"] = _against_sklearn(everyone, found.edges, found.scores)
    if resamples and method != "anova_f":
        named = list(zip(cases.sites, sites, strict=True))
        stability = federated_stability(named, found.edges, k=settings.k, resamples=resamples, share=0.8, seed=seed)
        often = dict(zip(cases.features, stability.frequency, strict=True))
        result["stability"] = {
            "nogueira": stability.index,
            "interval_95": [stability.low, stability.high],
            "chosen_in": {name: float(often[name]) for name in found.chosen.names},
        }
    tell(result, as_table(f"{settings.k} best by {method}", frame), as_json=as_json, out=out)


@statistics.command()
def evaluate(
    table: TableFile,
    site_column: SiteColumn = "site",
    label_column: LabelColumn = "label",
    score_column: Annotated[str, typer.Option(help="column with the score")] = "safety_score",
    score_kind: Annotated[
        Literal["safety", "risk", "margin"],
        typer.Option(help="safety: P(not altered); risk: P(altered); margin: logit of the safety score"),
    ] = "safety",
    cells: Annotated[int, typer.Option(help="cells of the score histogram that a site sends")] = 256,
    target_prevalence: Annotated[float | None, typer.Option(help="of the clinic, for net benefit")] = None,
    min_cell: Annotated[int, typer.Option(help="fewest cases per class for a figure of one site")] = 10,
    adjust_for: Annotated[
        list[str], typer.Option(help="column, such as age, that must not help the score; may be repeated")
    ] = NOBODY,
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 1,
    as_json: AsJson = False,
) -> None:
    """Discrimination, calibration and net benefit from counts of the sites; no score leaves a site.

    Example: fedmidline-sim statistics evaluate --table scores.csv --site-column site --label-column label --json
    """
    cases = read_case_table(table, site_column=site_column, others=[label_column, *adjust_for])
    altered = flag_column(cases, label_column)
    margins = score_column_as_margins(cases, score_column, score_kind)
    owners = np.asarray(cases.site)
    parts = {site: (margins[owners == site], altered[owners == site]) for site in cases.sites}
    result = {
        "cases": len(owners),
        "sites": {site: len(part[0]) for site, part in parts.items()},
        **judge_scores(parts, cells=cells, target_prevalence=target_prevalence, min_cell=min_cell, seed=seed),
    }
    if adjust_for:
        result["adjusted"] = _adjusted(cases, parts, covariate_columns(cases, adjust_for))
    shown = pd.DataFrame([{"quantity": k, "value": str(v)} for k, v in result.items()])
    tell(result, as_table("Evaluation", shown), as_json=as_json)


@statistics.command()
def meta(
    table: TableFile,
    site_column: SiteColumn = "site",
    estimate_column: Annotated[str, typer.Option(help="column with each site's estimate")] = "estimate",
    error_column: Annotated[str, typer.Option(help="column with its standard error, on the same scale")] = "error",
    scale: Annotated[
        Literal["raw", "auc", "ratio"], typer.Option(help="auc is pooled as its logit, a ratio (O/E) as its log")
    ] = "raw",
    method: Annotated[Literal["reml", "dl"], typer.Option(help="estimator of the variance between sites")] = "reml",
    as_json: AsJson = False,
) -> None:
    """Random-effects meta-analysis of sites' estimates, with Hartung-Knapp and prediction intervals.

    Example: fedmidline-sim statistics meta --table aucs.csv --estimate-column auc --error-column se --scale auc --json
    """
    cases = read_case_table(table, site_column=site_column)
    for name in (estimate_column, error_column):
        if name not in cases.features:
            raise InputError(
                "column-not-a-number",
                field=name,
                problem="The table has no such column of numbers.",
                fix="Name it by --estimate-column and --error-column.",
                local=", ".join(cases.features),
            )
    estimates, errors = (cases.frame[name].to_numpy(np.float64) for name in (estimate_column, error_column))
    result = pool_estimates(cases.site, estimates, errors, scale=scale, method=method)
    shown = pd.DataFrame([{"quantity": k, "value": str(v)} for k, v in result.items()])
    tell(result, as_table("Random-effects meta-analysis", shown), as_json=as_json)


def _sites(cases: CaseTable, altered: np.ndarray[Any, Any]) -> list[TrainingTable]:
    """In the fixed order of their names."""
    return [cases.training(cases.rows(site), altered) for site in cases.sites]


def _harmonise(
    cases: CaseTable, design: BatchDesign, settings: HarmonisationSettings, owner: tuple[str, ...]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    values, owners, out = cases.values(), np.asarray(owner), np.empty((len(owner), len(cases.features)))
    members = [owners == name for name in sorted(set(owner))]
    sites = [
        CombatSite(
            TrainingTable(cases.features, values[rows], np.zeros(int(rows.sum()), dtype=bool)),
            BatchDesign(tuple(np.asarray(design.batch)[rows]), design.covariates[rows], design.names),
        )
        for rows in members
    ]
    model = federated_combat(sites, settings)
    for place, rows in enumerate(members):
        out[rows] = model.apply(place, values[rows], sites[place].design)
    return out


def _adjusted(
    cases: CaseTable,
    parts: Mapping[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]],
    covariates: tuple[np.ndarray[Any, np.dtype[np.float64]], tuple[str, ...]],
) -> dict[str, Any]:
    """Covariate-adjusted AUC, the line fitted from the sites' sums."""
    columns, names = covariates
    sites = [(*parts[site], columns[cases.rows(site)]) for site in cases.sites]
    margins, altered, everyone = (np.concatenate(held) for held in zip(*sites, strict=True))
    line, pooled = adjusted_roc.fit_sites(sites), adjusted_roc.fit_sites([(margins, altered, everyone)])
    cells = ScoreCells.of_scores(adjusted_roc.residuals(line, margins, everyone), altered)
    return {
        "covariates": list(names),
        "auc": roc_cells.auc(cells).auc,
        "auc_logit_delong_95": roc_cells.logit_delong_interval(cells),
        "coefficients": dict(zip(("intercept", *names), line.coefficients.tolist(), strict=True)),
        "largest_difference_to_pooled": float(np.max(np.abs(line.coefficients - pooled.coefficients))),
    }


def _explained(cases: CaseTable, values: np.ndarray[Any, Any], batch: tuple[str, ...]) -> float:
    """Mean over features."""
    everyone = TrainingTable(cases.features, values, np.zeros(len(values), dtype=bool))
    return float(explained_variance.finish(explained_variance.summarise(everyone, batch, values.mean(axis=0))).mean())


def _against_sklearn(
    table: TrainingTable, edges: np.ndarray[Any, Any], scores: np.ndarray[Any, np.dtype[np.float64]]
) -> float:
    expected = [
        mutual_info_score(table.altered, np.searchsorted(edges[j], column, side="right"))
        for j, column in enumerate(table.values.T)
    ]
    return float(np.max(np.abs(scores - expected)))


def _about(cases: CaseTable) -> dict[str, Any]:
    return {
        "cases": len(cases.site),
        "sites": {site: int(cases.rows(site).sum()) for site in cases.sites},
        "number_of_features": len(cases.features),
        "carried_text_columns": list(cases.carried),
    }
