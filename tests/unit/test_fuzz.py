"""Malformed records: every reader ends with what it reads or with one of our coded errors, whose wire-safe face holds
neither a path of this machine nor a word that the sender planted.

    make fuzz      20,000 examples and more instead of some hundreds (FUZZ_EXAMPLES=a number per test)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from client.connection import open_kit
from client.ingest.manifest import read_manifest
from client.review.bundle import open_bundle, write_bundle
from client.review.reader_files import ReaderFiles
from client.segment import weights as installed
from client.segment.bundle import read_bundle
from client.site import open_site
from common.config.deployment import DeploymentSettings
from common.config.kit import KitSettings
from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.config.segmentation import SegmentationSettings
from common.config.site import SiteSettings
from common.config.study import StudySettings
from common.deployment.kit_files import verify_kit
from common.errors import StudyError
from common.messages.base import Refusal, Reply, Request
from common.messages.records import from_records, is_refusal, to_records
from server.checkpoint import load_checkpoint, save_checkpoint
from server.provision.registry import REGISTRY, load_registry
from server.standard_scale import read_landmarks
from server.workflow import ANSWERS
from tests.builders import small_protocol
from tests.unit.test_admission import QUESTIONS, STATE

PLANTED = "Mueller-Anna-1987"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzzed(share=1.0, fast=40):
    """So many examples; the same every time unless HYPOTHESIS_PROFILE=explore."""
    number = max(1, int(EXAMPLES * share)) if EXAMPLES else fast
    return settings(max_examples=number, suppress_health_check=list(HealthCheck))


def judged(read):
    """Run a reader; whatever it raises must be ours, and its face must tell nothing."""
    try:
        return read()
    except StudyError as error:
        face = str(error)
        assert error.code  # noqa: PT017  # both ends are right
        assert error.fix  # noqa: PT017
        for secret in (PLANTED, tempfile.gettempdir(), str(Path.home()), str(Path(__file__).parents[2])):
            assert secret not in face, face
        return None


# Messages, both sides


def kinds(base):
    found, waiting = [], [base]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


MESSAGES = {kind.__name__: kind for kind in [*kinds(Request), *kinds(Reply)]}
NAMES = st.sampled_from([
    *("site", "schema_version", "exchange", "fingerprint", "round", "model", "update", "parts", "encoding", "counts"),
    *("count", "cases", "study", "masking", "harmoniser", "weights", "session", "sealed", "shapes", "blocks", PLANTED),
])  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(PLANTED), st.just("../../etc")
)
VALUES = st.recursive(
    SCALARS, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(NAMES, v, max_size=3)), max_leaves=8
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@cache
def honest():
    """One record of every message that the phases know, and what can be built of the others."""
    found = []
    for phase, request, kind, fields in QUESTIONS.values():
        found += [(type(request or phase.question(STATE)), to_records(request or phase.question(STATE)))]
        found += [(kind, to_records(kind(site="bern", **fields)))]
    return [*found, (Refusal, to_records(Refusal(site="bern", code="late")))]


@st.composite
def npy(draw):
    """Whole, torn, with a header that lies, a pickle, an archive, or noise."""
    array = draw(st.sampled_from([np.arange(6.0), np.zeros((2, 3), np.uint8), np.array(["x"]), np.array(3)]))
    whole = Array(array).data
    how = draw(st.sampled_from(["whole", "torn", "header", "pickle", "zip", "noise", "flip"]))
    if how == "torn":
        return whole[: draw(st.integers(0, len(whole)))]
    if how == "header":
        shape = draw(st.sampled_from(["(10**15,)", "(-1,)", "(99999999999999,)", "(0,)", "((1,),)", "(True,)", "x"]))
        descr = draw(st.sampled_from(["'<f8'", "'|O'", "'<U999999999'", "[('a','<f8')]", "None"]))
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)
    if how == "pickle":
        return pickle.dumps({"site": PLANTED})
    if how == "zip":
        stream = io.BytesIO()
        np.savez(stream, a=array)
        return stream.getvalue()
    if how == "flip":
        place = draw(st.integers(0, len(whole) - 1))
        return whole[:place] + bytes([draw(st.integers(0, 255))]) + whole[place + 1 :]
    return draw(st.binary(max_size=200)) if how == "noise" else whole


@st.composite
def records(draw):
    """An honest message with up to four faults in its text, its arrays or its frame."""
    kind, good = draw(st.sampled_from(honest()))
    text = json.loads(str(good["message"]["json"]))
    arrays = dict(good.array_records["arrays"])
    name = str(good["message"]["kind"])
    raw = None
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.sampled_from(["set", "drop", "array", "less", "kind", "raw", "deep", "other"]))
        if how == "set":
            text[draw(st.one_of(NAMES, st.sampled_from(sorted(text) or ["x"])))] = draw(VALUES)
        elif how == "drop" and text:
            text.pop(draw(st.sampled_from(sorted(text))))
        elif how == "array":
            place = draw(st.one_of(PATHS, st.sampled_from(sorted(arrays) or ["x"])))
            stype = draw(st.sampled_from(["numpy.ndarray", "numpy.ndarray", PLANTED]))
            arrays[place] = Array("float64", (6,), stype, draw(npy()))
        elif how == "less" and arrays:
            arrays.pop(draw(st.sampled_from(sorted(arrays))))
        elif how == "kind":
            name = draw(st.sampled_from([*MESSAGES, PLANTED]))
        elif how == "raw":
            raw = draw(st.one_of(st.text(max_size=60), st.sampled_from(["[" * 100_000, '{"a":' * 5_000, "9" * 5_000])))
        elif how == "other":
            kind = MESSAGES[draw(st.sampled_from(sorted(MESSAGES)))]
            name = kind.__name__
    body = {"kind": name, "json": json.dumps(text) if raw is None else raw}
    for part in draw(st.sets(st.sampled_from(sorted(body)), max_size=1)):
        if draw(st.booleans()):
            body[part] = draw(st.sampled_from([b"\xff", 3, [1.5], ["a"]]))
    frame = {"arrays": ArrayRecord(arrays), "message": ConfigRecord(body)}
    for part in draw(st.sets(st.sampled_from(sorted(frame)), max_size=1)):
        if draw(st.integers(0, 4)) == 0:
            frame.pop(part)
    return kind, RecordDict(frame)


@fuzzed(fast=400)
@given(records())
def test_no_message_is_read_otherwise_than_as_itself_or_a_coded_error(message):
    kind, found = message
    is_refusal(found)

    read = judged(lambda: from_records(found, kind))

    assert read is None or type(read) is kind
    for _, answer in ANSWERS.values():
        judged(lambda answer=answer: from_records(found, answer))


# Files


def noise_of(good: bytes):
    """The file torn, with other bytes, or nothing like it."""
    size = len(good)

    @st.composite
    def draw_noise(draw):
        how = draw(st.sampled_from(["noise", "torn", "flip", "insert", "pickle", "zip"]))
        if how == "torn":
            return good[: draw(st.integers(0, size))]
        if how in ("flip", "insert"):
            changed = bytearray(good)
            for _ in range(draw(st.integers(1, 4))):
                place = draw(st.integers(0, size - 1))
                changed[place : place + (how == "flip")] = draw(st.binary(min_size=1, max_size=4))
            return bytes(changed)
        if how == "pickle":
            return pickle.dumps({"a": PLANTED})
        if how == "zip":
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr(
                    draw(st.sampled_from(["../a.npy", "__state__.npy", "a"])), draw(st.binary(max_size=99))
                )
            return stream.getvalue()
        return draw(st.binary(max_size=300))

    return draw_noise()


@cache
def checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "c.npz", STATE)
        return (Path(folder) / "c.npz").read_bytes()


@fuzzed(0.05)
@given(noise_of(checkpoint()))
def test_checkpoints(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.npz"
        path.write_bytes(data)
        judged(lambda: load_checkpoint(path))


SETTINGS = {kind.__name__: kind for kind in (Protocol, SiteSettings, StudySettings, KitSettings, DeploymentSettings)}
YAML = yaml.safe_dump(small_protocol().model_dump(mode="json"))
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
ODD_YAML = st.sampled_from([
    BOMB, "a: 2020-99-99", "? [a]\n: b", "{" * 3000, "a: !!python/object/apply:os.system [x]", "1: 2", "a: *b", "<<: 3",
    "a: 0x", "!!binary x", "name: \0", "a: !!set {x}", "a: 1e999", "&a [*a]", "&a {name: *a}", "\ufeff", "a: 9_:_",
    "a: !!timestamp x", "a: !!int x", "a: !!float x", "=: =",
])  # fmt: skip


@fuzzed(0.3, fast=100)
@given(
    st.sampled_from(sorted(SETTINGS)),
    st.one_of(
        ODD_YAML,
        st.text(max_size=80),
        noise_of(YAML.encode()).map(lambda data: data.decode("utf-8", "replace")),
        st.dictionaries(NAMES, VALUES, max_size=4).map(json.dumps),
    ),
)
def test_settings(kind, text):
    judged(lambda: parse_settings(SETTINGS[kind], text, source=f"/home/{PLANTED}.yaml"))


@fuzzed(0.05)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_site_and_manifest_files(site, manifest):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{PLANTED}.yaml"
        path.write_bytes(site)
        judged(lambda: open_site(path))
        table = Path(folder) / "manifest.csv"
        table.write_bytes(b"pseudonym,t1ce_path,flair_path,label\r\n" + manifest)
        judged(lambda: read_manifest(table, site="bern"))


@fuzzed(0.02)
@given(st.sampled_from(["ca.crt", "SHA256SUMS", "SHA256SUMS.sig", "kit.yaml", "site.key"]), st.data())
def test_kits(kit, name, data):
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "kit"
        shutil.copytree(kit, copy)
        good = (copy / name).read_bytes()
        (copy / name).write_bytes(data.draw(noise_of(good).filter(lambda noise: noise != good)))
        judged(lambda: verify_kit(copy))
        judged(lambda: open_kit(copy, datetime.now(UTC)))


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """An invited site's own."""
    from server.provision.invite import invite_site
    from server.provision.study import init_study

    folder = tmp_path_factory.mktemp("provisioned")
    (folder / "p.yaml").write_text(YAML)
    study = init_study(folder / "study", folder / "p.yaml", server="localhost:8443")
    invite_site(study, "bern")
    with tarfile.open(next((folder / "study" / "kits").glob("*.tar"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "bern"


@fuzzed(0.05)
@given(noise_of(save({"conv.weight": np.zeros((2, 3), np.float32)})), st.booleans())
def test_weights(data, with_card):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.safetensors"
        path.write_bytes(data)
        card = json.dumps({"sha256": hashlib.sha256(data).hexdigest()}).encode() if with_card else data
        path.with_suffix(".json").write_bytes(card)
        settings = SegmentationSettings(weights="ours")
        judged(lambda: installed.load_network(settings, device="cpu", installed=Path(folder)))


@fuzzed(0.05)
@given(st.binary(max_size=300), st.binary(max_size=100), st.one_of(VALUES, st.none()))
def test_monai_bundles(weights, text, value):
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for part in ("configs", "models"):
            (home / part).mkdir()
        (home / "configs" / "metadata.json").write_bytes(text if value is None else json.dumps(value).encode())
        (home / "configs" / "inference.json").write_text(json.dumps({"network_def": value}))
        (home / "models" / "model.pt").write_bytes(weights)
        judged(lambda: read_bundle(home, sha256=hashlib.sha256(weights).hexdigest()))
        from client.segment.bundle import _weights

        judged(lambda: _weights(weights))
        judged(lambda: _weights(pickle.dumps({"a": text})))


KEY = b"k" * 32


@cache
def review_bundle() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "i.nii.gz"
        image.write_bytes(b"image")
        files = ReaderFiles(t1ce=image, flair=image, brain=image, automatic=image)
        write_bundle({"case-1": files}, reader="reader-1", name="b", key=KEY, path=Path(folder) / "b.tgz")
        with tarfile.open(Path(folder) / "b.tgz") as archive:
            return {m.name: archive.extractfile(m).read() for m in archive if m.isreg()}


@st.composite
def archives(draw):
    """The bundle with strange members: paths that lead out, links, devices, doubles, other contents."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=draw(st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]))) as archive:
        for name, data in review_bundle().items():
            if draw(st.integers(0, 9)):
                content = data if draw(st.integers(0, 4)) else draw(st.binary(max_size=60))
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        for _ in range(draw(st.integers(0, 2))):
            name = draw(st.sampled_from([
                "../../etc/passwd", "/etc/passwd", f"b/{PLANTED}/x", "b/../../x", ".", "b", "b/case-1/mask.nii.gz",
                "b//case-1/x", "\\\\x", "b/readings.csv", "b/seal.json", "b/case-1/..\\x", "", "./.",
                "b/case-1/\0x", "b/../\0x",
            ]))  # fmt: skip
            member = tarfile.TarInfo(name)
            member.pax_headers = {"path": name} if draw(st.booleans()) else {}  # where a name may hold NUL
            member.type = draw(
                st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
            )
            member.linkname = f"../../{PLANTED}"
            content = draw(st.one_of(st.binary(max_size=50), st.sampled_from([b"a,\0,b", b'"' + b"x" * 140_000])))
            member.size = len(content) if member.type == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    whole = stream.getvalue()
    return whole if draw(st.integers(0, 2)) else draw(noise_of(whole))


@fuzzed(0.1, fast=80)
@given(archives())
def test_review_bundles_never_lead_out(data):
    with tempfile.TemporaryDirectory() as folder:
        path, into = Path(folder) / "b.tgz", Path(folder) / "into"
        path.write_bytes(data)
        found = judged(lambda: open_bundle(path, key=KEY, into=into))
        for fault in () if found is None else found.faults.values():
            assert PLANTED not in str(fault)
        assert {p.relative_to(folder).parts[0] for p in Path(folder).rglob("*")} <= {"b.tgz", "into"}
        assert not [p for p in into.rglob("*") if p.is_symlink()]


def test_a_bomb_of_zeros_is_not_unpacked(tmp_path, monkeypatch):
    """Each file small enough, all together not."""
    monkeypatch.setattr("client.review.bundle.LARGEST_BUNDLE", 3_000_000)
    with tarfile.open(tmp_path / "b.tgz", "w:gz") as archive:
        for number in range(4):
            member = tarfile.TarInfo(f"b/{number}")
            member.size = 1_000_000
            archive.addfile(member, io.BytesIO(bytes(member.size)))

    with pytest.raises(StudyError, match="bundle-unsafe"):
        open_bundle(tmp_path / "b.tgz", key=KEY, into=tmp_path / "into")


@fuzzed(0.05)
@given(st.one_of(st.binary(max_size=200), VALUES.map(json.dumps).map(str.encode)))
def test_registry_and_landmark_files(data):
    with tempfile.TemporaryDirectory() as folder:
        for name in (REGISTRY, "landmarks.json"):
            (Path(folder) / name).write_bytes(data)
        judged(lambda: load_registry(Path(folder)))
        judged(lambda: read_landmarks([Path(folder) / "landmarks.json"]))
