"""How long a replaced server gives no answer: from the last good one of the old guest to the first of the new."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from goldsmith.definition.fleet import Server
from goldsmith.fleet.actions.checks import find_port_fault, find_url_fault

INTERVAL = 0.02
"""Seconds between two questions."""
SSH = 22


@dataclass
class Outage:
    """What was seen. Seconds."""

    asked: int = 0
    longest: float = 0.0
    """The longest time without an answer between two that came."""
    last_good: float | None = field(default=None, repr=False)

    def note(self, good: bool, now: float) -> None:
        """Take an answer, or its lack, into account."""
        self.asked += 1
        if not good:
            return
        if self.last_good is not None:
            self.longest = max(self.longest, now - self.last_good)
        self.last_good = now


def find_probe(server: Server) -> Callable[[], bool] | None:
    """Return what asks a server whether it answers: its first port or URL that is checked, else its ssh."""
    for check in server.variables.checks:
        if check.url:
            url = check.url
            return lambda: find_url_fault(url) is None
    fixed = server.variables.fixed_address
    if fixed is None:
        return None
    port = next((check.port for check in server.variables.checks if check.port), SSH)
    return lambda: find_port_fault(str(fixed.ip), port) is None


@contextmanager
def watch_outage(server: Server) -> Iterator[Outage]:
    """Ask a server again and again while the block runs, in a thread of its own."""
    outage, probe, done = Outage(), find_probe(server), threading.Event()
    if probe is None:
        yield outage
        return

    def ask(probe: Callable[[], bool]) -> None:
        while not done.wait(INTERVAL):
            outage.note(probe(), time.monotonic())

    thread = threading.Thread(target=ask, args=(probe,), name=f"outage-{server.name}", daemon=True)
    thread.start()
    try:
        yield outage
    finally:
        done.set()
        thread.join(1.0)
