"""cohort: synthetic T1CE and FLAIR of midline gliomas on real anatomy; no patient data."""
