"""Ctrl-C and its like: raised once inside the work, so that everything is undone; after that they are only answered.

A second Ctrl-C in the midst of clearing up would leave behind exactly what the first one is clearing up.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from goldsmith.base.errors import Interrupted
from goldsmith.base.events import Event, StepFailed, StepFinished, StepStarted, Undone

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Answer = Callable[[str], None]


def answer_on_stderr(text: str) -> None:
    """Write a line past all buffers: a signal may come in the midst of a write to them."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


class Interrupts:
    """What signals do at the moment: interrupt, or be answered while something is being cleared up.

    It listens to events, too: after a failed step, and in the last step of a plan, there is nothing to interrupt. When
    more work comes after such a last step (another image), the interrupt comes before that.
    """

    def __init__(self, answer: Answer = answer_on_stderr) -> None:
        self.answer = answer
        self._is_over = False
        self._is_ending = False
        self._waiting = ""
        self._guest = ""

    @property
    def clearing(self) -> bool:
        """Whether signals are only answered."""
        return self._is_over or self._is_ending

    @contextmanager
    def work(self) -> Iterator[None]:
        """Let signals interrupt the block; once it has ended, they are only answered."""
        try:
            yield
        finally:
            self._is_over = True

    def hear(self, event: Event) -> None:
        """Follow a run: which guest there is, and whether it is being cleared up.

        :raises Interrupted: a signal came in the last step of a plan, and now more is about to begin.
        """
        match event:
            case StepStarted() if self._waiting:
                self._is_over = True
                raise Interrupted(self._waiting)
            case StepStarted():
                self._is_ending = event.total > 1 and event.index == event.total
            case StepFinished():
                self._is_ending = False
                if found := re.match(r"guest \d+", event.result):
                    self._guest = found[0]
            case StepFailed():
                self._is_ending = True
            case Undone() if self._guest and event.what.endswith(self._guest):
                self._guest = ""

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        :raises Interrupted: it is the first, and there is something to interrupt.
        """
        if not self.clearing:
            self._is_over = True
            raise Interrupted(signal.Signals(number).name)
        if not self._is_over:
            self._waiting = signal.Signals(number).name
        what = f" ({self._guest})" if self._guest else ""
        self.answer(f"still cleaning up{what}: please wait")


@contextmanager
def catch_signals() -> Iterator[Interrupts]:
    """Let signals interrupt the block, once. One that is ignored (nohup, a shell's background job) stays so."""
    interrupts = Interrupts()
    before = {number: signal.getsignal(number) for number in HEARD}
    caught = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in caught:
        signal.signal(number, interrupts.handle)
    try:
        yield interrupts
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
