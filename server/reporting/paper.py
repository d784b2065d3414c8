"""paper: what Tu et al. 2024 print (doi 10.13929/j.issn.1003-3289.2024.06.004), and where it disagrees with
itself.  Facts and counts only; its images are not public, so nothing here claims to reproduce them.
"""

from __future__ import annotations

__all__ = ["DISCREPANCIES", "LIMITATIONS", "PRINTED"]

PRINTED: dict[str, dict[str, str]] = {
    "train": {
        "sensitivity": "93.14 %",
        "specificity": "81.37 %",
        "accuracy": "87.25 %",
        "auc": "0.953 (0.923, 0.976)",
    },
    "test": {
        "sensitivity": "88.00 %",
        "specificity": "80.00 %",
        "accuracy": "84.00 %",
        "auc": "0.922 (0.829, 0.986)",
        "median_altered": "0 (0, 0)",
        "median_not_altered": "0.999 (0.616, 1.000)",
        "rank_sum": "Z = -5.114, P < 0.001",
    },
}

DISCREPANCIES: dict[str, str] = {
    "F1": "The text counts 6 T1CE and 13 FLAIR features; its Table 2 lists 5 and 14. We keep the table.",
    "F2": "DifferenceEntropy is said to occur in both sequences; in Table 2 it occurs in T1CE only.",
    "F3": "Table 2 writes `10Percentil` once; PyRadiomics calls the feature 10Percentile.",
    "F4": "Six of the FLAIR features tie exactly when a z-scored image is cut into bins 25 wide, which leaves two "
    "grey levels. That is PyRadiomics' default; the preset paper_default keeps it, ours uses 32 bins.",
    "F5": "mutual_info_score takes labels: on continuous values every feature scores ln 2. How the values were "
    "discretised is not told; we use five equal-frequency bins.",
    "F6": "The interval of the test AUC is asymmetric: it fits a percentile bootstrap, not DeLong.",
    "F7": "All printed shares follow from TP 95, FN 7, TN 83, FP 19 (training) and TP 22, FN 3, TN 20, FP 5 (test).",
    "F8": "Z = -5.114 needs a tie correction, such as four equal scores, with U = 576 (AUC 0.9216).",
    "F9": "In Table 1 the sex row mixes two tests: chi-square 0.253 has P 0.615; the printed 0.741 is Fisher's. The "
    "tumour row's chi-square is 0, not 0.001.",
    "F10": "All 23 minors are altered. Age alone would reach an AUC of about 0.83 to 0.87 by the printed quartiles; the "
    "paper gives no age model.",
    "F11": "The order of standardisation, selection and split is not told. Here nothing can be fitted on a test case.",
}

LIMITATIONS: tuple[str, ...] = (
    "The design is the paper's: one centre, retrospective, and glioblastoma as the only comparator.",
    "Out of scope: low-grade gliomas, K27-wild-type tumours other than glioblastoma, lymphoma, spinal tumours.",
    "Cases and controls are 1 : 1 by design, so predictive values and calibration do not carry over to a clinic.",
    "50 test cases: an AUC near 0.9 has a 95 % interval about 0.15 wide.",
    "Research use only, not a medical device.",
)
