"""MONAI bundles of the layout brats_mri_segmentation, made here with random weights: honoured, or refused by name."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import SegResNet

from client.segment.bundle import read_bundle
from client.segment.weights import load_network
from client.site import open_site
from client.tasks.segment_import import import_weights
from client.tasks.segment_train import installed_weights
from common.config.protocol import Protocol
from common.config.segmentation import SegmentationSettings
from common.errors import ConfigError, InputError
from common.networks.segmentation_network import deepest_map
from tests.segment_site import segment_protocol, write_segment_site

METADATA = {
    "version": "0.0.1",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 4, "channel_def": {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}}},
        "outputs": {
            "pred": {
                "num_channels": 3,
                "channel_def": {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"},
            }
        },
    },
}
NETWORK = {
    "_target_": "SegResNet",
    "blocks_down": [1, 1, 1, 1],
    "blocks_up": [1, 1, 1],
    "init_filters": 8,
    "in_channels": 4,
    "out_channels": 3,
    "dropout_prob": 0.2,
}
INFERENCE = {
    "imports": ["$import os"],
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
        ],
    },
}


def plain_network():
    torch.manual_seed(0)
    return SegResNet(
        spatial_dims=3, init_filters=8, in_channels=4, out_channels=3, dropout_prob=0.2, blocks_down=(1, 1, 1, 1)
    ).eval()


def write_bundle(folder: Path, *, metadata=METADATA, inference=INFERENCE, content=None) -> str:
    """Returns the SHA-256 of model.pt."""
    for name, text in (("metadata", metadata), ("inference", inference)):
        path = folder / "configs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(text))
    path = folder / "models" / "model.pt"
    path.parent.mkdir(exist_ok=True)
    torch.save(plain_network().state_dict() if content is None else content, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed(source, place, value):
    """A copy of nested dictionaries with one value changed."""
    copied = copy.deepcopy(source)
    *path, last = place
    inner = copied
    for key in path:
        inner = inner[key]
    inner[last] = value
    return copied


def test_a_bundle_is_used_as_it_was_meant(tmp_path):
    """T1CE and FLAIR in their channels, T1 and T2 zero, the output `Whole tumor`, the same logits as MONAI's own."""
    site = open_site(write_segment_site(tmp_path, "aachen", segment_protocol(), 4, seed=0))
    sha256 = write_bundle(tmp_path / "bundle")

    found = import_weights(site, tmp_path / "bundle", name="brats", sha256=sha256)

    protocol = Protocol.model_validate({"name": "p", **found.protocol})
    network = load_network(protocol.segmentation, device="cpu", installed=installed_weights(site))
    t1ce, flair, zero = torch.randn(16, 16, 16), torch.randn(16, 16, 16), torch.zeros(16, 16, 16)
    with torch.no_grad():
        ours = network(torch.stack([t1ce, flair])[None])
        theirs = plain_network()(torch.stack([t1ce, zero, zero, flair])[None])[:, 1:2]
        deepest = deepest_map(network, torch.stack([t1ce, flair])[None])
    torch.testing.assert_close(ours, theirs)
    assert (1, 64, 2, 2, 2) == tuple(deepest.shape)
    assert (64, 1.0) == (protocol.visual.channels, protocol.segmentation.working_mm)
    assert 64 * 16**3 == protocol.visual.length


def test_the_prepared_images_are_what_its_normalisation_makes():
    """z-scores of the brain, zero outside, do not change under NormalizeIntensity(nonzero, channel_wise)."""
    from monai.transforms import NormalizeIntensity

    rng = np.random.default_rng(0)
    raw = np.where(rng.random((2, 12, 12, 12)) < 0.6, rng.normal(500, 90, (2, 12, 12, 12)), 0)
    inside = raw[0] != 0
    raw[1][~inside] = 0
    raw[1][inside] = rng.normal(90, 20, inside.sum())
    scored = np.stack([np.where(inside, (c - c[inside].mean()) / c[inside].std(), 0) for c in raw])
    theirs = NormalizeIntensity(nonzero=True, channel_wise=True)

    np.testing.assert_allclose(theirs(raw.copy()), scored, atol=1e-4)
    np.testing.assert_allclose(theirs(scored.copy()), scored, atol=1e-4)


FORMAT = ("network_data_format", "inputs", "image")
WRONG = [
    ({"metadata": changed(METADATA, (*FORMAT, "num_channels"), 2)}, "bundle-channels"),
    ({"metadata": changed(METADATA, (*FORMAT, "channel_def", "3"), "DWI")}, "bundle-channels"),
    (
        {"metadata": changed(METADATA, ("network_data_format", "outputs", "pred", "channel_def", "1"), "Oedema")},
        "bundle-channels",
    ),
    ({"metadata": {}}, "bundle-channels"),
    ({"inference": changed(INFERENCE, ("network_def", "_target_"), "os.system")}, "bundle-network"),
    (
        {"inference": changed(INFERENCE, ("network_def", "init_filters"), "$__import__('os').getpid()")},
        "bundle-network",
    ),
    ({"inference": changed(INFERENCE, ("network_def", "act"), "SWISH")}, "bundle-network"),
    ({"inference": changed(INFERENCE, ("network_def", "in_channels"), 2)}, "bundle-channels"),
    ({"inference": changed(INFERENCE, ("network_def", "init_filters"), 16)}, "weights-of-another-network"),
    ({"inference": changed(INFERENCE, ("network_def",), "$nothing")}, "bundle-network"),
    (
        {"inference": changed(INFERENCE, ("preprocessing", "transforms"), [{"_target_": "ScaleIntensityd"}])},
        "bundle-preprocessing",
    ),
    ({"content": {"weights": [1, 2, 3]}}, "bundle-incomplete"),
]


@pytest.mark.parametrize(("change", "code"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path, change, code):
    sha256 = write_bundle(tmp_path, **change)

    with pytest.raises((InputError, ConfigError), match=f"^{code}"):
        read_bundle(tmp_path, sha256=sha256)


def test_a_file_that_was_tampered_with_is_not_opened(tmp_path):
    sha256 = write_bundle(tmp_path)
    with (tmp_path / "models" / "model.pt").open("ab") as file:
        file.write(b"x")

    with pytest.raises(InputError, match=r"^bundle-differs"):
        read_bundle(tmp_path, sha256=sha256)
    with pytest.raises(InputError, match=r"^bundle-differs"):
        read_bundle(tmp_path, sha256="")


class Evil:
    """What a pickle does when it is opened without care."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


def test_code_in_the_weights_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL_FOLDER", str(tmp_path / "evil"))
    sha256 = write_bundle(tmp_path / "bundle", content={"model": Evil()})

    with pytest.raises(InputError, match=r"^bundle-carries-code"):
        read_bundle(tmp_path / "bundle", sha256=sha256)

    assert not (tmp_path / "evil").exists()


def test_half_a_bundle_is_told(tmp_path):
    sha256 = write_bundle(tmp_path)
    (tmp_path / "models" / "model.pt").unlink()

    with pytest.raises(InputError, match=r"^bundle-incomplete"):
        read_bundle(tmp_path, sha256=sha256)
    (tmp_path / "configs" / "metadata.json").unlink()
    with pytest.raises(InputError, match=r"^bundle-incomplete"):
        read_bundle(tmp_path, sha256=sha256)


def test_a_studys_file_is_installed_and_a_changed_one_refused(tmp_path):
    """NAME.safetensors with its card, as a study or a training leaves it."""
    from client.segment.weights import install_weights
    from common.networks.segmentation_network import first_weights

    site = open_site(write_segment_site(tmp_path, "aachen", segment_protocol(), 4, seed=0))
    network = site.protocol.segmentation.network
    install_weights(first_weights(network, seed=1), network, tmp_path / "study", "federated", {"voxel_mm": 2.0})
    file = tmp_path / "study" / "federated.safetensors"

    found = import_weights(site, file, name="ours", sha256="")

    wanted = SegmentationSettings.model_validate(found.protocol["segmentation"])
    load_network(wanted, device="cpu", installed=installed_weights(site))
    with pytest.raises(InputError, match=r"^weights-differ"):
        import_weights(site, file, name="ours", sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"^weights-name"):
        import_weights(site, file, name="../ours", sha256="")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"^weights-unreadable"):
        import_weights(site, file, name="ours", sha256="")


def test_weights_of_another_network_are_named_with_what_differs(tmp_path):
    site = open_site(write_segment_site(tmp_path, "aachen", segment_protocol(), 4, seed=0))
    import_weights(site, tmp_path / "b", name="brats", sha256=write_bundle(tmp_path / "b"))

    with pytest.raises(ConfigError, match=r"weights-of-another-network.*differ in architecture"):
        load_network(SegmentationSettings(weights="brats"), device="cpu", installed=installed_weights(site))
