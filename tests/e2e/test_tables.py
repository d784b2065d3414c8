"""Hospitals that only have tables of features run every phase and get the numbers of those that had images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from client.cli import app
from client.site import open_site
from client.tasks.load_cohort import load_cohort
from common.catalogue import SEQUENCES, radiomics_names
from common.command import run_command
from common.config.visual import VisualSettings
from common.metrics.score_histogram import view
from simulation.engines import run_local
from tests.builders import small_protocol, write_federation

MIRP = Path(__file__).parents[2] / "site_configs" / "mappings" / "mirp.yaml"
SIZES = {"aachen": 16, "bern": 24}


def _write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _to_tables(site_file):
    """Throw images and cache away; leave a manifest without paths, and one PyRadiomics-like table per sequence."""
    site = open_site(site_file)
    cohort = load_cohort(site)
    with site.settings.manifest.open() as file:
        manifest = list(csv.DictReader(file))
    for row in manifest:
        row.update(t1ce_path="", flair_path="")
    _write(site.settings.manifest, manifest)
    for sequence in SEQUENCES:
        rows = []
        for cases in (cohort.training, cohort.test):
            for pseudonym, values in zip(cases.pseudonyms, cases.table.values, strict=True):
                named = zip(cases.table.names, values, strict=True)
                mine = {n.removeprefix(f"{sequence}_"): repr(float(v)) for n, v in named if n.startswith(sequence)}
                rows.append({"Patient": pseudonym, "diagnostics_Versions_PyRadiomics": "v3.0.1", **mine})
        _write(site_file.parent / f"{sequence}.csv", rows)
    shutil.rmtree(site.settings.cache)
    return site_file.parent


def _import(folder, monkeypatch, capsys, *more: str):
    tables = [word for s in SEQUENCES for word in ("--table", f"{s}={folder / s}.csv")]
    words = ["import-table", "--site", folder / "site.yaml", *tables, "--id", "Patient", *more, "--json"]
    monkeypatch.setattr("sys.argv", ["fedmidline-site", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_every_phase_runs_on_tables(tmp_path, monkeypatch, capsys):
    federation = write_federation(tmp_path, small_protocol(visual=VisualSettings(variant="none")), SIZES)
    with_images = run_local(federation.study, list(federation.sites.values()))
    for name, site_file in federation.sites.items():
        code, out, _ = _import(_to_tables(site_file), monkeypatch, capsys)
        assert (0, SIZES[name]) == (code, json.loads(out)["imported"])
        assert ["diagnostics_Versions_PyRadiomics"] == json.loads(out)["ignored_columns"]
    for file in federation.study.parent.iterdir():
        if file.suffix != ".yaml":
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    state = run_local(federation.study, list(federation.sites.values()))

    assert "completed" == state.status()
    assert view(state.histograms["test"]).auc > 0.9
    np.testing.assert_array_equal(with_images.moments.radiomics_mean, state.moments.radiomics_mean)
    assert with_images.selection.signature == state.selection.signature


def test_every_phase_runs_on_tables_of_mirp(tmp_path, monkeypatch, capsys):
    """Its own columns and identifier, one table per sequence, one mapping for both."""
    mapping = yaml.safe_load(MIRP.read_text())
    names = tuple(f"{sequence}_{name}" for sequence in SEQUENCES for name in mapping.values())
    protocol = small_protocol(radiomics={"features": names}, visual=VisualSettings(variant="none"))
    federation = write_federation(tmp_path, protocol, SIZES)
    theirs = {name: column for column, name in mapping.items()} | {"Patient": "sample_name"}
    for site_file in federation.sites.values():
        folder = _to_tables(site_file)
        for sequence in SEQUENCES:
            _edit(folder / f"{sequence}.csv", lambda rows: [{theirs.get(k, k): v for k, v in r.items()} for r in rows])
        words = ("--id", "sample_name", "--mapping", str(MIRP))
        code, out, _ = _import(folder, monkeypatch, capsys, *words)
        assert (0, []) == (code, json.loads(out)["cases_without_row"])

    state = run_local(federation.study, list(federation.sites.values()))

    assert "completed" == state.status()
    assert 202 == len(state.moments.radiomics_mean)
    assert view(state.histograms["test"]).auc > 0.9


def test_a_table_that_was_mended_is_another_input(tmp_path, monkeypatch, capsys):
    federation = write_federation(tmp_path, small_protocol(visual=VisualSettings(variant="none")), {"bern": 24})
    folder = _to_tables(federation.sites["bern"])
    _import(folder, monkeypatch, capsys)
    before = load_cohort(open_site(folder / "site.yaml")).training
    file = folder / f"{SEQUENCES[0]}.csv"
    with file.open() as text:
        rows = list(csv.DictReader(text))
    column = list(rows[0])[-1]
    for row in rows:
        row[column] = repr(float(row[column]) + 1)
    _write(file, rows)

    assert 0 == _import(folder, monkeypatch, capsys)[0]

    after = load_cohort(open_site(folder / "site.yaml")).training
    assert not set(before.keys) & set(after.keys)
    assert not np.array_equal(before.table.values, after.table.values)


@pytest.fixture
def folder(tmp_path):
    federation = write_federation(tmp_path, small_protocol(visual=VisualSettings(variant="none")), {"bern": 12})
    return _to_tables(federation.sites["bern"])


def _edit(path, change):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    _write(path, change(rows))


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda rows: [{k: v for k, v in r.items() if "ngtdm" not in k} for r in rows], "table-incomplete", "ngtdm"),
        (lambda rows: [{**rows[0], "original_glcm_Id": "nan"}, *rows[1:]], "table-not-finite", "original_glcm_Id"),
        (lambda rows: [*rows, rows[0]], "table-row-twice", "Patient"),
        (
            lambda rows: [{k.replace("Patient", "ID"): v for k, v in r.items()} for r in rows],
            "table-without-id",
            "Patient",
        ),
    ],
)
def test_bad_tables_are_refused(change, code, named, folder, monkeypatch, capsys):
    _edit(folder / "FLAIR.csv", change)

    exit_code, _, err = _import(folder, monkeypatch, capsys)

    assert 2 == exit_code
    assert code in err
    assert named in err


def test_other_names_are_mapped_and_gaps_are_told(folder, monkeypatch, capsys):
    _edit(
        folder / "T1CE.csv",
        lambda rows: [{k.replace("original_glcm_Id", "cm_inv"): v for k, v in r.items()} for r in rows],
    )
    _edit(folder / "FLAIR.csv", lambda rows: [*rows[1:], {**rows[0], "Patient": "stranger"}])
    pairs = {
        "cm_inv": "T1CE_original_glcm_Id",
        "cm_invm": "T1CE_original_glcm_Idm",
        "cm_invmn": "T1CE_original_glcm_Idmn",
    }
    lines = [f"{theirs}: {ours}" for theirs, ours in {**pairs, "cm_invn": "T1CE_original_glcm_Idn"}.items()]
    (folder / "map.yaml").write_text("\n".join(lines))

    code, out, _ = _import(folder, monkeypatch, capsys, "--mapping", str(folder / "map.yaml"))

    found = json.loads(out)
    assert (0, 11, 1, []) == (code, found["imported"], len(found["cases_without_row"]), found["rows_without_case"])


def test_a_protocol_with_visual_features_takes_no_table(tmp_path, monkeypatch, capsys):
    federation = write_federation(tmp_path, small_protocol(), {"bern": 12})

    code, _, err = _import(_to_tables(federation.sites["bern"]), monkeypatch, capsys)

    assert 2 == code
    assert "table-has-no-visual" in err


@pytest.mark.parametrize(
    "radiomics", [{"features": radiomics_names()[5:1000:20]}, {"preset": "thick_slice_2d"}], ids=["named", "flat"]
)
def test_studies_on_other_catalogues(radiomics, tmp_path):
    """Fewer features by name, or two-dimensional ones: every phase follows the protocol's names."""
    protocol = small_protocol(radiomics=radiomics, visual=VisualSettings(variant="none"), selection={"k": 5})
    federation = write_federation(tmp_path, protocol, SIZES)

    state = run_local(federation.study, list(federation.sites.values()))

    names = protocol.radiomics.names()
    assert "completed" == state.status()
    assert {"named": 50, "flat": 958}["named" if "features" in radiomics else "flat"] == len(names)
    assert len(names) == len(state.moments.radiomics_mean) == len(state.selection.scores)
    assert set(state.selection.signature) <= set(names)


def test_names_of_another_catalogue_are_refused():
    with pytest.raises(ValueError, match="not in the preset's catalogue"):
        small_protocol(radiomics={"features": ("T1CE_wavelet-LH_glcm_Id",)})
