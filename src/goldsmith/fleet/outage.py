"""How long a replaced server gives no answer: from the last good one of the old guest to the first of the new.

It is asked seldom as long as nothing happens, and closely from just before the old guest is cut off until the new one
is checked: each question costs the server something (sshd starts a process for it), most of all while guests boot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from goldsmith.definition.fleet import Server
from goldsmith.fleet.actions.checks import find_port_fault, find_url_fault
from goldsmith.fleet.goals import ChecksHold, Goal, LinkDown, Stopped

SELDOM, CLOSELY = 1.0, 0.02
"""Seconds between two questions."""
PATIENCE = 0.2
"""Seconds until a connection counts as refused: a lost packet is sent again after one second, which is no answer."""
SSH = 22

Probe = Callable[[], bool]


@dataclass
class Outage:
    """What was seen. Seconds."""

    asked: int = 0
    longest: float = 0.0
    """The longest time without an answer between two that came; not where nobody asked."""
    last_good: float | None = field(default=None, repr=False)
    _is_gap: bool = field(default=False, repr=False)
    """Whether the time since the last good answer counts: it was looked at closely, or something failed."""
    _closely: threading.Event = field(default_factory=threading.Event, repr=False)
    _fresh: threading.Event = field(default_factory=threading.Event, repr=False)
    _is_checked: bool = field(default=False, repr=False)

    def note(self, good: bool, now: float) -> None:
        """Take an answer, or its lack, into account."""
        self.asked += 1
        if not good:
            self._is_gap = True
        else:
            if self._is_gap and self.last_good is not None:
                self.longest = max(self.longest, now - self.last_good)
            self.last_good, self._is_gap = now, self._closely.is_set()
        self._fresh.set()

    def expect(self, goal: Goal) -> None:
        """Look closely from before the server is cut off or stopped until it is checked."""
        if isinstance(goal, ChecksHold):
            self._is_checked = True
            self._closely.clear()
        elif isinstance(goal, LinkDown | Stopped) and not self._is_checked and not self._closely.is_set():
            self._fresh.clear()
            self._closely.set()
            self._fresh.wait(PATIENCE if self.asked else 0)  # the last good answer is to be a fresh one

    def watch(self, probe: Probe, done: threading.Event) -> None:
        """Ask again and again. Whatever gives no answer is asked often: that costs nobody anything."""
        while not done.is_set():
            good = probe()
            self.note(good, time.monotonic())
            if self._closely.is_set() or not good:
                done.wait(CLOSELY)
            else:
                self._closely.wait(SELDOM)

    def end(self, done: threading.Event) -> None:
        """Have `watch` return."""
        done.set()
        self._closely.set()


def find_probe(server: Server) -> Probe | None:
    """Return what asks a server whether it answers: its first port or URL that is checked, else its ssh."""
    for check in server.variables.checks:
        if check.url:
            return partial(_answers_url, check.url)
    fixed = server.variables.fixed_address
    if fixed is None:
        return None
    port = next((check.port for check in server.variables.checks if check.port), SSH)
    return partial(_answers, str(fixed.ip), port)


def _answers(host: str, port: int) -> bool:
    return find_port_fault(host, port, timeout=PATIENCE) is None


def _answers_url(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return _answers(parts.hostname or "", port) and find_url_fault(url) is None


@contextmanager
def watch_outage(server: Server) -> Iterator[Outage]:
    """Ask a server again and again while the block runs, in a thread of its own."""
    outage, probe, done = Outage(), find_probe(server), threading.Event()
    if probe is None:
        yield outage
        return
    thread = threading.Thread(target=outage.watch, args=(probe, done), name=f"outage-{server.name}", daemon=True)
    thread.start()
    try:
        yield outage
    finally:
        outage.end(done)
        thread.join(1.0)
