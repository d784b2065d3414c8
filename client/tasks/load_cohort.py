"""load_cohort: the manifest's cases that are prepared, for every task that answers a request."""

from __future__ import annotations

from client.ingest.manifest import read_manifest
from client.site import Site
from client.store.cohort import SiteCohort, assemble_cohort

__all__ = ["load_cohort"]


def load_cohort(site: Site, *, visual: bool = True) -> SiteCohort:
    """Training and test view; without the visual maps where a task does not need them."""
    rows = read_manifest(site.settings.manifest, site=site.settings.name)
    return assemble_cohort(rows, site.settings, site.protocol, visual=visual)
