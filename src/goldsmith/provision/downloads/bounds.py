"""The store stays small: what has not been wanted for long goes, and what has not been wanted longest, when it is full.

Deciding is pure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from goldsmith.provision.downloads.store import Store, StoredFile

LONGEST = 60 * 86400
"""Seconds after which a file goes that no build has wanted."""
MOST = 5 << 30
"""Bytes of all files together."""


def plan_bounds(files: Iterable[StoredFile], *, now: float, most: int = MOST) -> list[StoredFile]:
    """Decide which files go so that the store becomes neither too old nor too large.

    :param now: seconds since 1970; :param most: bytes.
    """
    gone, room = [], most
    for file in sorted(files, key=lambda file: file.used, reverse=True):
        room -= file.size
        if room < 0 or now - file.used > LONGEST:
            gone.append(file)
    return gone


def plan_prune(files: Iterable[StoredFile], older_than: int | None, *, now: float) -> list[StoredFile]:
    """Decide which files go when somebody asks for it: those not wanted for longer, in seconds; None: all."""
    return [file for file in files if older_than is None or now - file.used > older_than]


def bound_store(store: Store) -> None:
    """Remove what is too old or too much."""
    for file in plan_bounds(store.list_files(), now=time.time()):
        store.remove(file)
