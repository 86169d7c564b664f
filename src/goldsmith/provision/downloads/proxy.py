"""What is known and going on at one guest's proxy, shared by the threads that serve its connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from goldsmith.provision.downloads.mirror import Connect
from goldsmith.provision.downloads.rules import Url
from goldsmith.provision.downloads.store import Store
from goldsmith.provision.downloads.tally import Tally


class Proxy:
    """One guest's proxy.

    :param connect: how mirrors are reached.
    """

    def __init__(self, store: Store, connect: Connect) -> None:
        self.store, self.connect = store, connect
        self.tally = Tally()
        self._asked: set[Url] = set()
        self._served: set[Url] = set()
        self._ends: dict[object, Callable[[], None]] = {}
        self._is_ended = False
        self._lock = threading.Lock()

    def note_asked(self, url: Url) -> bool:
        """Note that a URL is asked for; tell whether it was before, which means that the first file was wrong."""
        with self._lock:
            was_asked = url in self._asked
            self._asked.add(url)
            return was_asked

    def note_served(self, url: Url) -> None:
        """Note what was answered from the store."""
        with self._lock:
            self._served.add(url)

    def doubt(self) -> None:
        """Let nothing that was answered from the store be used again unasked: the guest has failed with it."""
        for url in self._served:
            if (kept := self.store.find(url)) is not None:
                with kept:
                    kept.doubt()

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called when the proxy ends while the block runs."""
        key = object()
        with self._lock:
            self._ends[key] = end
            if self._is_ended:
                end()
        try:
            yield
        finally:
            with self._lock:
                del self._ends[key]

    def end(self) -> None:
        """Break all connections, so that no thread waits."""
        with self._lock:
            self._is_ended = True
            for end in self._ends.values():
                end()
