"""Every stored row says what computed it; repeated measurements lie beside it; tables' cases do not collide."""

from __future__ import annotations

import numpy as np

from client.case import CaseRow
from client.features.card import feature_versions
from client.store.feature_store import CaseFeatures, FeatureStore
from client.store.fingerprints import FingerprintBook


def test_versions_and_repeats_are_kept(tmp_path):
    store, repeats = FeatureStore(tmp_path), np.arange(6.0).reshape(2, 3)
    provenance = {**feature_versions(), "feature_fingerprint": "f" * 64}

    store.save("a", CaseFeatures(np.zeros(3), np.zeros(1), "", (), {}, repeats, provenance))
    store.save("b", CaseFeatures(np.zeros(3), np.zeros(1), "", (), {}))

    np.testing.assert_array_equal(store.repeats("a"), repeats)
    assert store.repeats("b") is None
    assert provenance == store.about("a")["provenance"]
    assert {"pyradiomics", "PyWavelets", "numpy", "SimpleITK", "scipy", "python"} <= set(provenance)


def test_cases_without_files_have_their_own_fingerprints(tmp_path):
    book = FingerprintBook(tmp_path)
    one, other = (CaseRow(name, "", "", "", "", True, None, *[""] * 5) for name in ("one", "other"))

    assert book.look_up(one, lambda row: row.pseudonym) != book.look_up(other, lambda row: row.pseudonym)
