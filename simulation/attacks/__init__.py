"""Attacks on a study, run against what really leaves its sites: each succeeds without protection, or shows nothing."""
