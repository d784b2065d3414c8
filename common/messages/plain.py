"""plain: a pydantic model as one JSON text and a flat dictionary of arrays, and back.

`model/weights/fusion.bias` says where in the model an array belongs.  Messages and checkpoints are
written this way: no pickle anywhere, so that reading one cannot run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

__all__ = ["from_plain", "to_plain"]

Model = TypeVar("Model", bound=BaseModel)
_SET_ASIDE = object()


def to_plain(model: BaseModel) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """JSON text of everything but the arrays, and the arrays by their path; excluded fields stay out."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    return json.dumps(_plain(model, "", arrays), sort_keys=True, allow_nan=False), arrays


def from_plain(kind: type[Model], text: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Model:
    """Inverse of `to_plain`; raises pydantic's ValidationError or json's error."""
    content = json.loads(text)
    for name, array in arrays.items():
        *path, last = name.split("/")
        place = content
        for part in path:
            place = place.setdefault(part, {})
        place[last] = array
    return kind.model_validate(content)


def _plain(value: Any, path: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {name: getattr(value, name) for name, field in fields.items() if not field.exclude}
    if isinstance(value, dict):
        # A key may hold no slash: it separates the parts of an array's path.
        plain = {str(k): _plain(v, f"{path}{k}/", arrays) for k, v in value.items()}
        return {k: v for k, v in plain.items() if v is not _SET_ASIDE}
    if isinstance(value, tuple | list):
        return [_plain(v, f"{path}{i}/", arrays) for i, v in enumerate(value)]
    if isinstance(value, np.ndarray):
        arrays[path.rstrip("/")] = value
        return _SET_ASIDE
    return value
