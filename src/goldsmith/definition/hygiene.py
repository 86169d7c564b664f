"""The names of the built-in checks that every image is tested with, and what may be said about them in vars.yml."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from goldsmith.definition.values import UNPRINTABLE, USER

HYGIENE_CHECKS = (
    "system-running",
    "no-failed-units",
    "machine-id",
    "host-keys",
    "no-build-key",
    "no-leftover-users",
    "no-default-passwords",
    "root-locked",
    "no-world-writable",
    "apt-sources",
    "no-caches",
    "no-logs-of-build",
    "no-random-seed",
    "no-build-leftovers",
    "time-to-ready",
    "disk-used",
    "memory-used",
    "upgrade-state",
)
"""In the order in which they are reported; goldsmith.verify.hygiene has the code."""
LIMITED_CHECKS = {
    "time-to-ready": "seconds",
    "disk-used": "MiB",
    "memory-used": "MiB",
    "upgrade-state": "packages",
}
"""Checks that measure, with the unit of their limit."""


def _mapping(value: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return a mapping from names of checks.

    :raises ValueError: it is none, or it names a check that does not exist; says what comes near.
    """
    if not isinstance(value, Mapping):
        raise ValueError("is not a mapping from names of checks")
    known = tuple(known)
    wrong = [str(name) for name in value if name not in known]
    if wrong:
        raise ValueError("; ".join(f"{name!r} is no check{_advise(name, known)}" for name in wrong))
    return dict(value)


def _advise(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name.lower().replace("_", "-"), known, n=1, cutoff=0.6)
    if near:
        return f" (did you mean '{near[0]}'?)"
    return " with a limit" if name in HYGIENE_CHECKS else ""


def _reasons(value: Any) -> dict[str, str]:
    reasons = _mapping(value, HYGIENE_CHECKS)
    for name, reason in reasons.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"{name!r} has no reason; say in a few words why it does not apply")
        if UNPRINTABLE.search(reason):
            raise ValueError(f"the reason for {name!r} holds a line break or another control character")
    return {name: reason.strip() for name, reason in reasons.items()}


def _limits(value: Any) -> dict[str, float]:
    limits = _mapping(value, LIMITED_CHECKS)
    return {name: _limit(name, limit) for name, limit in limits.items()}


def _limit(name: str, limit: Any) -> float:
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit < math.inf:
        raise ValueError(f"the limit for {name!r} is not a number of {LIMITED_CHECKS[name]}")
    return float(limit)


def _users(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("is not a list")
    wrong = [name for name in value if not isinstance(name, str) or not USER.match(name)]
    if wrong:
        raise ValueError(f"{', '.join(map(repr, wrong))} cannot be a login name")
    return tuple(value)


def _object(names: Iterable[str], item: Mapping[str, Any]) -> WithJsonSchema:
    properties = {name: dict(item) for name in names}
    return WithJsonSchema({"type": "object", "properties": properties, "additionalProperties": False})


Reasons = Annotated[
    Mapping[str, str], BeforeValidator(_reasons), _object(HYGIENE_CHECKS, {"type": "string", "minLength": 1})
]
Limits = Annotated[
    Mapping[str, float], BeforeValidator(_limits), _object(LIMITED_CHECKS, {"type": "number", "minimum": 0})
]
Users = Annotated[tuple[str, ...], BeforeValidator(_users)]
