"""Prepared cases on the disk: there as they were, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from client.store.prepared_store import PreparedStore
from tests.review_site import TO_NATIVE, prepared_case


def test_prepared_cases_come_back_as_they_were(tmp_path: Path):
    case, store = prepared_case(1), PreparedStore(tmp_path)
    store.save("k", case)

    back = store.load("k", "")

    assert (case.history, case.quality) == (back.history, back.quality)
    for name in ("t1ce", "flair", "brain_mask", "tumour_mask"):
        one, other = getattr(case, name), getattr(back, name)
        assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))
        assert one.GetOrigin() == pytest.approx(other.GetOrigin(), abs=1e-4)
    point = (12.3, -4.5, 33.0)
    assert back.to_native.TransformPoint(point) == pytest.approx(TO_NATIVE.TransformPoint(point), abs=1e-9)


def test_a_case_saved_by_half_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk in the middle of a case."""
    store, case = PreparedStore(tmp_path), prepared_case(1)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(sitk, "WriteTransform", full)
        with pytest.raises(RuntimeError, match="No space"):
            store.save("k", case)
    assert not store.has("k")
    store.save("k", case)
    assert store.has("k")
