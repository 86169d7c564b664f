"""How much of one kind of work we ask of a node at a time: dumps one by one, some guests made on it and its storages.

A node queues what it cannot do at once behind locks, for ten seconds (a storage's) or three hours (vzdump's); whoever
waits there in vain gets an error. So what is over the limit waits here. A place is taken by the task itself until the
node says that it has ended, whoever waits for it and whenever: nobody has to give it back, and a thread that begins
several tasks before it waits for the first cannot block itself.

Another process of ours, or somebody else, is not counted; then the node's own locks decide, as ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from goldsmith.base.errors import ApiFailed
from goldsmith.pve.answers import Upid

DUMPS_AT_ONCE = 1
"""On one node, which dumps one guest at a time (PVE 8.4)."""
MADE_AT_ONCE, MADE_ON_STORAGE = 8, 4
"""Guests that are created, restored or copied at a time on one node, and on one storage of it."""
PAUSE = 0.1
"""Seconds between two looks at the tasks that are in the way."""
MOST_PATIENCE = 4 * 3600.0
"""Seconds after which work begins all the same."""

Place = tuple[str, ...]
"""What is limited: `("dump", "pve1")`, `("make", "pve1", "local-lvm")`."""
IsRunning = Callable[[Upid], bool]
OnWait = Callable[[int], None] | None


@dataclass
class Slots:
    """The work that one process has in hand, for all its threads."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _begun: dict[Place, list[Upid | None]] = field(default_factory=dict)
    """For each place, the tasks in it; None: one that is just being begun."""

    def begin(
        self, limits: Mapping[Place, int], begin: Callable[[], Upid], is_running: IsRunning, on_wait: OnWait = None
    ) -> Upid:
        """Begin a task when there is a place for it everywhere.

        :param limits: the places that it takes, and how many tasks each has room for.
        :param is_running: asks the node.
        :param on_wait: called with how many are before it, once, where it has to wait.
        """
        since, told = time.monotonic(), on_wait is None
        while not self._take(limits) and time.monotonic() - since < MOST_PATIENCE:
            self._forget_ended(limits, is_running)
            if not told and on_wait is not None:
                told = True
                on_wait(max(len(self._begun.get(place, [])) for place in limits))
            time.sleep(PAUSE)
        upid: Upid | None = None
        try:
            upid = begin()
            return upid
        finally:
            self._settle(limits, upid)

    def _take(self, limits: Mapping[Place, int]) -> bool:
        with self._lock:
            if any(len(self._begun.get(place, [])) >= most for place, most in limits.items()):
                return False
            for place in limits:
                self._begun.setdefault(place, []).append(None)
            return True

    def _settle(self, limits: Mapping[Place, int], upid: Upid | None) -> None:
        """Give the places to the task that was begun, or back where none was."""
        with self._lock:
            for place in limits:
                tasks = self._begun.setdefault(place, [])
                if None in tasks:
                    tasks.remove(None)
                tasks += [] if upid is None else [upid]

    def _forget_ended(self, limits: Mapping[Place, int], is_running: IsRunning) -> None:
        with self._lock:
            known = {upid for place in limits for upid in self._begun.get(place, []) if upid is not None}
        for upid in known:
            if not _runs(upid, is_running):
                self._forget(upid)

    def _forget(self, upid: Upid) -> None:
        with self._lock:
            for tasks in self._begun.values():
                if upid in tasks:
                    tasks.remove(upid)


def _runs(upid: Upid, is_running: IsRunning) -> bool:
    """Tell whether a task runs. One that the node does not know any more does not."""
    try:
        return is_running(upid)
    except ApiFailed:
        return False


def limit_dump(node: str) -> dict[Place, int]:
    """Return the place of a dump."""
    return {("dump", node): DUMPS_AT_ONCE}


def limit_copying(node: str, vmid: int) -> dict[Place, int]:
    """Return the place of a copy of a guest, which Proxmox locks for that long (`disk`, PVE::API2::LXC)."""
    return {("copy", node, str(vmid)): 1}


def limit_making(node: str, storage: str) -> dict[Place, int]:
    """Return the places of the making of a guest. `storage` may be empty: not known."""
    places: dict[Place, int] = {("make", node): MADE_AT_ONCE}
    return {**places, ("make", node, storage): MADE_ON_STORAGE} if storage else places
