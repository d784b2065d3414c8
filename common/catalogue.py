"""catalogue: the ordered names of the radiomics features, and the paper's nineteen.

A name is `<SEQUENCE>_<filter>_<class>_<feature>`, the filter, class and feature spelt as PyRadiomics
3.0.1 spells them.  Per sequence: 14 shape features of the original image and 93 features (18
first-order, 24 GLCM, 14 GLDM, 16 GLRLM, 16 GLSZM, 5 NGTDM) of the original and of each of the eight
wavelet bands: 14 + 9 x 93 = 851; 1702 for two sequences.  With one mask for both sequences the shape
features repeat, which leaves 1688 distinct ones (METHOD R22).
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["FEATURES_BY_CLASS", "FILTERS", "FLAT_FILTERS", "PAPER_SIGNATURE", "SEQUENCES", "radiomics_names"]

SEQUENCES = ("T1CE", "FLAIR")
WAVELET_BANDS = ("LLH", "LHL", "LHH", "HLL", "HLH", "HHL", "HHH", "LLL")
FILTERS = ("original", *(f"wavelet-{band}" for band in WAVELET_BANDS))
FLAT_FILTERS = ("original", "wavelet-LH", "wavelet-HL", "wavelet-HH", "wavelet-LL")
"""Two-dimensional extraction of thick slices: a letter for x and y each."""

FEATURES_BY_CLASS: dict[str, tuple[str, ...]] = {
    "shape": (
        "Elongation",
        "Flatness",
        "LeastAxisLength",
        "MajorAxisLength",
        "Maximum2DDiameterColumn",
        "Maximum2DDiameterRow",
        "Maximum2DDiameterSlice",
        "Maximum3DDiameter",
        "MeshVolume",
        "MinorAxisLength",
        "Sphericity",
        "SurfaceArea",
        "SurfaceVolumeRatio",
        "VoxelVolume",
    ),
    "firstorder": (
        "10Percentile",
        "90Percentile",
        "Energy",
        "Entropy",
        "InterquartileRange",
        "Kurtosis",
        "Maximum",
        "MeanAbsoluteDeviation",
        "Mean",
        "Median",
        "Minimum",
        "Range",
        "RobustMeanAbsoluteDeviation",
        "RootMeanSquared",
        "Skewness",
        "TotalEnergy",
        "Uniformity",
        "Variance",
    ),
    "glcm": (
        "Autocorrelation",
        "ClusterProminence",
        "ClusterShade",
        "ClusterTendency",
        "Contrast",
        "Correlation",
        "DifferenceAverage",
        "DifferenceEntropy",
        "DifferenceVariance",
        "Id",
        "Idm",
        "Idmn",
        "Idn",
        "Imc1",
        "Imc2",
        "InverseVariance",
        "JointAverage",
        "JointEnergy",
        "JointEntropy",
        "MCC",
        "MaximumProbability",
        "SumAverage",
        "SumEntropy",
        "SumSquares",
    ),
    "gldm": (
        "DependenceEntropy",
        "DependenceNonUniformity",
        "DependenceNonUniformityNormalized",
        "DependenceVariance",
        "GrayLevelNonUniformity",
        "GrayLevelVariance",
        "HighGrayLevelEmphasis",
        "LargeDependenceEmphasis",
        "LargeDependenceHighGrayLevelEmphasis",
        "LargeDependenceLowGrayLevelEmphasis",
        "LowGrayLevelEmphasis",
        "SmallDependenceEmphasis",
        "SmallDependenceHighGrayLevelEmphasis",
        "SmallDependenceLowGrayLevelEmphasis",
    ),
    "glrlm": (
        "GrayLevelNonUniformity",
        "GrayLevelNonUniformityNormalized",
        "GrayLevelVariance",
        "HighGrayLevelRunEmphasis",
        "LongRunEmphasis",
        "LongRunHighGrayLevelEmphasis",
        "LongRunLowGrayLevelEmphasis",
        "LowGrayLevelRunEmphasis",
        "RunEntropy",
        "RunLengthNonUniformity",
        "RunLengthNonUniformityNormalized",
        "RunPercentage",
        "RunVariance",
        "ShortRunEmphasis",
        "ShortRunHighGrayLevelEmphasis",
        "ShortRunLowGrayLevelEmphasis",
    ),
    "glszm": (
        "GrayLevelNonUniformity",
        "GrayLevelNonUniformityNormalized",
        "GrayLevelVariance",
        "HighGrayLevelZoneEmphasis",
        "LargeAreaEmphasis",
        "LargeAreaHighGrayLevelEmphasis",
        "LargeAreaLowGrayLevelEmphasis",
        "LowGrayLevelZoneEmphasis",
        "SizeZoneNonUniformity",
        "SizeZoneNonUniformityNormalized",
        "SmallAreaEmphasis",
        "SmallAreaHighGrayLevelEmphasis",
        "SmallAreaLowGrayLevelEmphasis",
        "ZoneEntropy",
        "ZonePercentage",
        "ZoneVariance",
    ),
    "ngtdm": ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength"),
}


@lru_cache(maxsize=16)  # asked for several times in every message
def radiomics_names(sequences: tuple[str, ...] = SEQUENCES, filters: tuple[str, ...] = FILTERS) -> tuple[str, ...]:
    """All feature names, sequence by sequence, filter by filter, class by class."""
    return tuple(
        f"{sequence}_{image}_{family}_{feature}"
        for sequence in sequences
        for image in filters
        for family, features in FEATURES_BY_CLASS.items()
        if family != "shape" or image == "original"
        for feature in features
    )


PAPER_SIGNATURE: tuple[str, ...] = (
    "T1CE_wavelet-LHL_glcm_DifferenceEntropy",
    "T1CE_wavelet-HLH_firstorder_Range",
    "T1CE_wavelet-HHH_firstorder_MeanAbsoluteDeviation",
    "T1CE_wavelet-HHH_firstorder_RootMeanSquared",
    "T1CE_wavelet-HHH_firstorder_Variance",
    "FLAIR_wavelet-LLH_glcm_Contrast",
    "FLAIR_wavelet-LLH_glcm_DifferenceAverage",
    "FLAIR_wavelet-LLH_glcm_Id",
    "FLAIR_wavelet-LLH_glcm_Idm",
    "FLAIR_wavelet-LLH_glcm_Idmn",
    "FLAIR_wavelet-LLH_glcm_Idn",
    "FLAIR_wavelet-LHH_firstorder_10Percentile",
    "FLAIR_wavelet-LHH_firstorder_90Percentile",
    "FLAIR_wavelet-LHH_firstorder_InterquartileRange",
    "FLAIR_wavelet-LHH_firstorder_RootMeanSquared",
    "FLAIR_wavelet-HLH_firstorder_10Percentile",
    "FLAIR_wavelet-HHH_firstorder_InterquartileRange",
    "FLAIR_wavelet-HHH_firstorder_MeanAbsoluteDeviation",
    "FLAIR_wavelet-HHH_firstorder_RobustMeanAbsoluteDeviation",
)
"""Table 2 of the paper, its typo `10Percentil` mended (F3).

Five rows are T1CE and fourteen FLAIR; the paper's text says 6 and 13 (F1)."""
