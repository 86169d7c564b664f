"""What was published from this machine, on disk: a template bears no notes, and its version may leave the repository.

<state>/published/<digest of place and volume id>.json     place, volid, version, digest, size
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from goldsmith.base.digest import digest_json
from goldsmith.base.files import write_atomic

FOLDER = "published"


@dataclass(frozen=True)
class Brought:
    """A template that was brought from here. `size` in bytes."""

    place: str
    """See `Place.identify`."""
    volid: str
    version: str
    digest: str
    size: int


def _file(state: Path, place: str, volid: str) -> Path:
    return state / FOLDER / f"{digest_json([place, volid]).removeprefix('sha256:')[:24]}.json"


def note_brought(state: Path, brought: Brought) -> None:
    """Write down that a template was brought."""
    file = _file(state, brought.place, brought.volid)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, json.dumps(asdict(brought), indent=2))


def forget_brought(state: Path, place: str, volid: str) -> None:
    """Forget a template that is gone."""
    _file(state, place, volid).unlink(missing_ok=True)


def find_brought(state: Path, place: str, volid: str) -> Brought | None:
    """Find what was written down of a template; None where nothing was, or nobody can read it any more."""
    with suppress(OSError, ValueError, TypeError):
        return Brought(**json.loads(_file(state, place, volid).read_text(encoding="utf-8")))
    return None


def list_brought(state: Path, place: str, volids: Iterable[str]) -> dict[str, Brought]:
    """Return what was written down of some templates, by volume id."""
    found = {volid: find_brought(state, place, volid) for volid in volids}
    return {volid: brought for volid, brought in found.items() if brought is not None}
