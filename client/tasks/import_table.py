"""import_table: a table of features becomes the site's prepared cases, so that every phase runs without an image."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from client.ingest.manifest import read_manifest
from client.ingest.table import TableSource, read_tables
from client.site import Site
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook
from common.errors import ConfigError

__all__ = ["ImportReport", "import_table"]


@dataclass(frozen=True)
class ImportReport:
    """imported: pseudonyms; without_row: eligible cases of the manifest that the tables lack; without_case: rows that
    are no case of the manifest; ignored: columns that are no feature of the protocol.
    """

    imported: tuple[str, ...]
    without_row: tuple[str, ...]
    without_case: tuple[str, ...]
    ignored: tuple[str, ...]


def import_table(
    site: Site, sources: tuple[TableSource, ...], *, id_column: str, mapping: Mapping[str, str]
) -> ImportReport:
    """Store a row for each case of the manifest; its image paths may be empty.

    ConfigError `table-has-no-visual` unless the protocol does without visual features.
    """
    protocol = site.protocol
    if protocol.visual.variant != "none":
        raise ConfigError(
            "table-has-no-visual",
            field="visual.variant",
            problem="The protocol wants visual features, which no table has.",
            fix="Agree on a protocol with visual.variant none.",
        )
    table = read_tables(sources, protocol.radiomics.names(), id_column=id_column, mapping=mapping)
    rows = [row for row in read_manifest(site.settings.manifest, site=site.settings.name) if not row.excluded_because]
    store, book = FeatureStore(site.settings.cache), FingerprintBook(site.settings.cache)
    imported = []
    for row in rows:
        if row.pseudonym not in table.values:
            continue
        values = table.values[row.pseudonym]
        # Asked anew: a table that was mended is another input, and nothing made of the old one may be found again.
        book.remember(row, _digest(values))
        key = store.key(_digest(values), protocol.feature_fingerprint())
        features = CaseFeatures(
            radiomics=np.array(values),
            visual=np.zeros(protocol.visual.length, np.dtype(protocol.visual.dtype)),
            methods="Features were taken from a table that the site already had.",
            warnings=(),
            quality={},
            provenance={"source": "table", "feature_fingerprint": protocol.feature_fingerprint()},
        )
        store.save(key, features)
        imported.append(row.pseudonym)
    book.save()
    known = {row.pseudonym for row in rows}
    return ImportReport(
        tuple(imported),
        tuple(sorted(known - set(table.values))),
        tuple(sorted(set(table.values) - known)),
        table.ignored,
    )


def _digest(values: tuple[float, ...]) -> str:
    return hashlib.sha256(struct.pack(f"{len(values)}d", *values)).hexdigest()
