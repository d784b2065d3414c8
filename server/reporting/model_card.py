"""model_card: what the model is for, what it is not for, and where it comes from; Markdown."""

from __future__ import annotations

from typing import Any

from server.reporting.content import StudyContent
from server.reporting.paper import LIMITATIONS

__all__ = ["model_card"]


def model_card(content: StudyContent, metrics: dict[str, dict[str, Any]]) -> str:
    """One page."""
    federated = metrics.get("federated", {}).get("test")
    result = (
        f"Test AUC {federated['auc']:.3f} (95 % bootstrap {federated['auc_bootstrap_95'][0]:.3f} to "
        f"{federated['auc_bootstrap_95'][1]:.3f}) on {federated['cases']} cases."
        if federated
        else "No per-case scores at the server; see the report's histogram view."
    )
    data = "synthetic images; no patient data" if content.synthetic else "the sites' own cases; none left a site"
    lines = [
        f"# Model card: {content.title}",
        "",
        "**Research use only, not a medical device.**",
        "",
        "## What it does",
        "Tells from T1CE and FLAIR MRI whether a midline glioma is H3 K27-altered.",
        "Output: safety score = P(not altered); near 0 means altered.",
        f"Classes in order: altered, not_altered. Positive class: altered. A score below {content.threshold:g} is called"
        " altered.",
        f"Inputs: {content.parameters.get('visual', 0):,} visual features and {len(content.ranking)} radiomics features.",
        "",
        "## Data and result",
        f"Trained on {data}. {result}",
        f"Run status: {content.status}.",
        "",
        "## Limits",
        *[f"- {line}" for line in LIMITATIONS],
        "- Weights learned from patients are personal data until shown otherwise (EDPB Opinion 28/2024).",
        "",
        "## Provenance",
        *[f"- {key}: {value}" for key, value in content.provenance.items()],
        "",
    ]
    return "\n".join(lines)
