"""A client of a PostgreSQL server that writes without a pause, whatever becomes of the server meanwhile."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from pg8000.exceptions import Error
from pg8000.native import Connection

from tests.lxc.guests import wait_until

TIMEOUT = 2.0
"""Seconds until an answer is not waited for any longer."""
PAUSE = 0.005


class Client(Connection):
    """A connection whose socket is closed when the server goes away before it has said hello; pg8000 leaves it open."""

    def __init__(self, user: str, address: str, database: str, password: str) -> None:
        with ExitStack() as failed:
            sock = failed.enter_context(socket.create_connection((address, 5432), TIMEOUT))
            failed.callback(self._close_wrapped)
            super().__init__(user, database=database, password=password, sock=sock)
            failed.pop_all()

    def _close_wrapped(self) -> None:
        """Close the TLS socket that took the plain one's place, if it came to that."""
        if (wrapped := getattr(self, "_usock", None)) is not None:
            wrapped.close()


@dataclass
class Writer:
    """Numbers that are written one after another, each again and again until its commit was acknowledged."""

    connect: Callable[[], Connection]
    acknowledged: dict[int, float] = field(default_factory=dict)
    """By number: the moment (seconds, monotonic) of its acknowledgement."""
    retried: set[int] = field(default_factory=set)
    """Numbers that were sent more than once: the acknowledgement may have been lost."""
    faults: Counter[str] = field(default_factory=Counter)
    _done: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        """Write until told to stop."""
        numbers = itertools.count()
        number = next(numbers)
        while not self._done.is_set():
            try:
                with closing(self.connect()) as connection:
                    while not self._done.is_set():
                        connection.run("INSERT INTO written (number) VALUES (:number)", number=number)
                        self.acknowledged[number] = time.monotonic()
                        number = next(numbers)
                        time.sleep(PAUSE)
            except (Error, OSError) as error:
                self.faults[type(error).__name__] += 1
                self.retried.add(number)
                time.sleep(PAUSE)

    def wait_for_more(self, count: int = 20) -> None:
        """Wait until some more numbers have been acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted, what=f"{count} more commits; {self.faults}")

    def find_pause(self, since: float) -> float:
        """The longest time (seconds) between two acknowledgements since a moment."""
        moments = [moment for moment in self.acknowledged.values() if moment >= since]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def stop(self) -> None:
        self._done.set()

    def check_against(self, rows: list[int]) -> None:
        """All that was acknowledged is there; nothing is there twice, or at all, without a reason."""
        found = Counter(rows)
        assert self.acknowledged.keys() - found.keys() == set(), "acknowledged, and lost"
        assert found.keys() - self.acknowledged.keys() <= self.retried, "never sent to an end"
        assert {number for number, times in found.items() if times > 1} <= self.retried, "doubled"


@contextmanager
def write_on(connect: Callable[[], Connection]) -> Iterator[Writer]:
    """Write while the block runs."""
    writer = Writer(connect)
    thread = threading.Thread(target=writer.write, name="writer", daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop()
        thread.join(10 * TIMEOUT)
        assert not thread.is_alive()
