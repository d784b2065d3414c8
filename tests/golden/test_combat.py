"""ComBat against the published outputs of neuroCombat (../shared/golden/combat), for several partitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config.harmonisation import HarmonisationSettings
from common.stats.combat import BatchDesign
from common.tables import TrainingTable
from simulation.statistics.federated_combat import CombatSite, federated_combat

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "combat"
BATCH = np.array(["1"] * 5 + ["2"] * 5)
GENDER = np.array([1.0, 2.0] * 5)[:, None]
PARTITIONS = {
    "one computer": np.zeros(10, int),
    "a site per scanner": np.arange(10) // 5,
    "scanners shared": np.arange(10) % 3,
    "ten sites of one case": np.arange(10),
}
VARIANTS = sorted(p.name for p in GOLDEN.glob("testdata_combat_*_python.csv"))


def _read(name):
    """(cases, features); the header of the one table that has one is dropped."""
    table = np.genfromtxt(GOLDEN / name, delimiter=",")
    return table[np.isfinite(table).all(axis=1)].T


@pytest.mark.skipif(not VARIANTS, reason="the golden files of ../shared are not beside this checkout")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("owner", PARTITIONS.values(), ids=PARTITIONS.keys())
def test_equal_to_neurocombat(variant, owner):
    """Largest difference 1e-10 of a feature's deviation, whoever holds the cases."""
    values = _read("neurocombat_testdata.csv")
    expected = _read(variant)
    settings = HarmonisationSettings(
        method="combat",
        empirical_bayes="noeb" not in variant,
        mean_only="meanonly" in variant,
        reference_batch="1" if "batchref" in variant else "",
    )
    covariates = GENDER if "_adjusted" in variant else np.zeros((10, 0))
    names = tuple(str(i) for i in range(values.shape[1]))
    sites = [
        CombatSite(
            TrainingTable(names, values[owner == s], np.zeros((owner == s).sum(), bool)),
            BatchDesign(tuple(BATCH[owner == s]), covariates[owner == s]),
        )
        for s in sorted(set(owner))
    ]

    model = federated_combat(sites, settings)

    found = np.empty_like(values)
    for s, site in enumerate(sites):
        found[owner == s] = model.apply(s, site.table.values, site.design)
    assert (10, 200) == values.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
