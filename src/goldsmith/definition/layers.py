"""The layers of an image, as `layers` in vars.yml names them: stages of its provisioning, one built upon the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from goldsmith.definition.fields import read_packages
from goldsmith.definition.values import NAME

SOURCES = ("playbook", "role", "apps")
KEYS = ("name", *SOURCES, "variables", "refresh_after")
ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,2}\Z|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
PERIOD = re.compile(r"(\d+)([mhdw])\Z")
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
PERIOD_FORM = "a number with m, h, d or w, as in 7d"


@dataclass(frozen=True)
class LayerDefinition:
    """One layer: exactly one of `playbook`, `role` and `apps` is given."""

    name: str
    playbook: PurePosixPath | None = None
    """Relative to the image's folder."""
    role: str | None = None
    apps: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Win over the image's own, in this layer."""
    refresh_after: int | None = None
    """Seconds; None: the image's `refresh_after` for packages, never for others."""


def read_period(value: Any) -> int:
    """Return a period in seconds.

    :raises ValueError: it is none.
    """
    found = PERIOD.match(value) if isinstance(value, str) else None
    if found is None or not int(found[1]):
        raise ValueError(f"is not {PERIOD_FORM}")
    return int(found[1]) * UNITS[found[2]]


def _layers(value: Any) -> tuple[LayerDefinition, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("is not a list of layers")
    layers = [entry if isinstance(entry, LayerDefinition) else _layer(entry, n) for n, entry in enumerate(value, 1)]
    names = [layer.name for layer in layers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice")
    return tuple(layers)


def _layer(entry: Any, number: int) -> LayerDefinition:
    if not isinstance(entry, Mapping):
        raise ValueError(f"layer {number} is not a mapping with playbook, role or apps")
    unknown = [str(key) for key in entry if key not in KEYS]
    if unknown:
        raise ValueError(f"layer {number} has {', '.join(map(repr, unknown))}, which no layer knows")
    sources = [source for source in SOURCES if entry.get(source) is not None]
    if len(sources) != 1:
        raise ValueError(
            f"layer {number} has {' and '.join(sources) or 'none'} of playbook, role and apps; one is wanted"
        )
    source = sources[0]
    refresh = entry.get("refresh_after")
    return LayerDefinition(
        playbook=_playbook(entry[source], number) if source == "playbook" else None,
        role=_role(entry[source], number) if source == "role" else None,
        apps=read_packages(entry[source]) if source == "apps" else (),
        variables=_variables(entry.get("variables"), number),
        refresh_after=None if refresh is None else read_period(refresh),
        name=_name(_call(source, entry[source]) if entry.get("name") is None else entry["name"], number),
    )


def _call(source: str, value: Any) -> Any:
    """Return what a layer without a name is called by: its role, its playbook's file, or its kind."""
    if not isinstance(value, str) or source == "apps":
        return source
    return value.lower() if source == "role" else PurePosixPath(value).stem.lower()


def _name(text: Any, number: int) -> str:
    if not isinstance(text, str) or not NAME.match(text):
        raise ValueError(f"layer {number}: {text!r} is no name; use lower-case letters, digits and single . _ -")
    return text


def _playbook(value: Any, number: int) -> PurePosixPath:
    path = PurePosixPath(value) if isinstance(value, str) and value.strip() else None
    if path is None or path.is_absolute():
        raise ValueError(f"layer {number}: the playbook is not a path relative to the image's folder")
    return path


def _role(value: Any, number: int) -> str:
    if not isinstance(value, str) or not ROLE.match(value):
        raise ValueError(f"layer {number}: {value!r} is no name of a role")
    return value


def _variables(value: Any, number: int) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and VARIABLE.match(key) for key in value):
        raise ValueError(f"layer {number}: variables is not a mapping from names to values")
    return dict(value)


_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "playbook": {"type": "string"},
            "role": {"type": "string"},
            "apps": {"type": "array", "items": {"type": "string"}},
            "variables": {"type": "object"},
            "refresh_after": {"type": "string", "pattern": PERIOD.pattern.removesuffix(r"\Z") + "$"},
        },
        "additionalProperties": False,
        "oneOf": [{"required": [source]} for source in SOURCES],
    },
}
Layers = Annotated[tuple[LayerDefinition, ...], BeforeValidator(_layers), WithJsonSchema(_SCHEMA)]
Period = Annotated[int, BeforeValidator(read_period), WithJsonSchema({"type": "string", "pattern": r"^\d+[mhdw]$"})]
