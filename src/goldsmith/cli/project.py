"""Places: the user's project, and goldsmith's own directories on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from goldsmith.base.errors import UsageError

IMAGES = "images"


def find_project(start: Path) -> Path | None:
    """Return the nearest folder from `start` upward that has `images/`."""
    return next((folder for folder in (start, *start.parents) if (folder / IMAGES).is_dir()), None)


def get_project(named: Path | None, start: Path) -> Path:
    """Return the project that is meant: the named folder, else the one that `start` lies in. Absolute.

    :raises UsageError: there is none.
    """
    found = find_project(start.absolute()) if named is None else named.absolute()
    if found is not None and (found / IMAGES).is_dir():
        return found
    where = f"{start} and the folders above it have" if named is None else f"{found} has"
    raise UsageError(
        f"{where} no {IMAGES}/: that is no goldsmith project",
        hint="go to one, name one with --project, or make one: goldsmith init DIRECTORY",
    )


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where goldsmith keeps what it is at: journals of builds, keys of kept guests, crash reports.

    `$XDG_STATE_HOME/goldsmith`, by default `~/.local/state/goldsmith` (XDG Base Directory Specification 0.8; a
    relative path does not count).
    """
    return _find_base("XDG_STATE_HOME", ".local/state", environment) / "goldsmith"


def downloads_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where packages lie that builds share: in `$XDG_CACHE_HOME/goldsmith`, by default `~/.cache/goldsmith`."""
    return _find_base("XDG_CACHE_HOME", ".cache", environment) / "goldsmith" / "downloads"


def _find_base(variable: str, usual: str, environment: Mapping[str, str]) -> Path:
    given = Path(environment.get(variable, ""))
    return given if given.is_absolute() else Path(environment.get("HOME") or Path.home()) / usual
