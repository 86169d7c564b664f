"""The names of the built-in checks that every image is tested with, and what may be said about them in vars.yml."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from goldsmith.definition.values import UNPRINTABLE, USER

HYGIENE_CHECKS = {
    "system-running": "systemd says that the system runs",
    "no-failed-units": "no unit of systemd has failed",
    "machine-id": "the machine-id was made when the guest first booted, and no two guests share one",
    "host-keys": "SSH host keys were made for this guest, and no two guests share one",
    "no-build-key": "no account lets in a key that was made for a build",
    "no-leftover-users": "no account with a user id of 1000 or more but those that the variables name",
    "no-default-passwords": "no account needs no password, or has one that everybody tries first",
    "root-locked": "root has no password with which anybody could log in",
    "no-world-writable": "no file or folder may be written by everybody (temporary folders with the sticky bit may)",
    "apt-sources": "apt has sources that it understands, and none that only the machine of the build reaches",
    "no-caches": "no package lists and packages of apt lie about",
    "no-logs-of-build": "no log tells of the guest in which the image was built",
    "no-random-seed": "no seed of random numbers, and no secret of systemd, is in the image",
    "no-build-leftovers": "nothing of goldsmith, Ansible or a shell's history is left, and /tmp was empty",
    "time-to-ready": "how long it took from the order to start until the guest let us in",
    "disk-used": "what the files of the root file system take",
    "memory-used": "what all processes take at rest, without the kernel's caches",
    "upgrade-state": "how many packages the mirror has in a newer version",
}
"""What is checked, in the order in which it is reported; goldsmith.verify.hygiene has the code."""
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
