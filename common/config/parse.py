"""parse: text -> schema; every fault of a file at once, with field, value and cure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from common.errors import ConfigError

__all__ = ["parse_settings"]

Model = TypeVar("Model", bound=BaseModel)
WHOLE = "(file)"
"""A fault of settings that do not go together."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is built in: ten times as fast, and a site reads two files for every message."""


def parse_settings(kind: type[Model], text: str, *, source: str) -> Model:
    """Read YAML `text` as `kind`.

    source: the file's name, for the hospital's eyes only.
    Raises ConfigError that lists all faults: field, value given, what is wrong, what would be right.
    """
    found: Model = _parse(kind, text, source)
    return found


@lru_cache(maxsize=64)  # a site opens its files for every message; many virtual sites have one protocol's text
def _parse(kind: type[Any], text: str, source: str) -> Any:
    """`parse_settings`; settings are frozen, so that one may stand for all."""
    try:
        _refuse_references(text)
        raw = yaml.load(text, Loader=LOADER)  # noqa: S506  # both are safe loaders
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        # Not only YAML's own: an impossible date or number ends in Python's.
        raise ConfigError(
            "config-not-yaml",
            problem="A settings file is not valid YAML.",
            fix="Mend the line named; indent with spaces, never with tabs.",
            local=f"{source}: {error}",
        ) from None
    if not isinstance(raw, dict):
        raise ConfigError(
            "config-not-a-mapping",
            problem="A settings file must hold `key: value` lines.",
            fix="Start from one of the files in site_configs/.",
            local=f"{source}: found {type(raw).__name__}",
        )
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faults = [_describe(fault, kind) for fault in error.errors()]
        raise ConfigError(
            "config-invalid",
            field=", ".join(_place(fault, kind) for fault in error.errors()),
            problem=f"{len(faults)} setting(s) are wrong.",
            fix="Mend each field named.",
            local=f"{source}:\n" + "\n".join(f"    - {fault}" for fault in faults),
        ) from None


def _refuse_references(text: str) -> None:
    """A few lines of references to references are gigabytes when anything walks through them."""
    if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, LOADER)):
        raise yaml.YAMLError("references (&name, *name) are not read")


def _place(fault: Any, kind: type[BaseModel]) -> str:
    """Where, as far as the schema knows it: an unknown key may hold anything, and this face crosses the wire."""
    parts = [str(part) for part in fault["loc"]] or [WHOLE]
    if fault["type"] == "extra_forbidden":
        parts[-1:] = ["unknown key"]
    return ".".join(parts) if parts[0] in {*kind.model_fields, "unknown key", WHOLE} else "unknown key"


def _describe(fault: Any, kind: type[BaseModel]) -> str:
    """One fault in words: field, value, rule, cure."""
    field = ".".join(str(part) for part in fault["loc"]) or WHOLE
    if fault["type"] == "extra_forbidden":
        known = _known_keys(kind, fault["loc"][:-1])
        return f"{field}: unknown key. Known here: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"{field}: missing. Add it."
    value = repr(fault["input"])
    return f"{field}: got {value[:80]}. {fault['msg']}."


def _known_keys(kind: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the schema that `path` leads to."""
    here: Any = kind
    for part in path:
        field = getattr(here, "model_fields", {}).get(part)
        here = field.annotation if field is not None else here
    return sorted(getattr(here, "model_fields", {}))
