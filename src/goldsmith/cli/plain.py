"""The story as plain lines, for logs and pipes: one for each event, in ASCII of our own, without control characters.

A transfer is told of every ten seconds only: it reports ten times in one.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from threading import RLock
from typing import TextIO

from goldsmith.base.events import Event, PlaybookTask, StepFailed, StepFinished, StepStarted, Transfer
from goldsmith.cli.words import (
    Line,
    clean,
    render_end,
    render_heading,
    render_number,
    render_other,
    render_task,
    render_transfer,
)

TRANSFER_SECONDS = 10.0


class PlainStory:
    """Writes each event as a line. Events may come from several threads.

    :param several: whether several things are done at a time, so that each line says which it is about.
    """

    def __init__(self, stream: TextIO | None = None, *, verbose: bool = False, several: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._verbose, self._several = verbose, several
        self._steps: dict[str, StepStarted] = {}
        self._told_transfer: float | None = None
        self._about = ""
        self._lock = RLock()

    def hear(self, event: Event) -> None:
        """Write an event's line. A reader that has gone does not stop the work."""
        with self._lock:
            whose = f"{clean(event.subject)} | " if self._several and event.subject else ""
            for line in self._render(event):
                with suppress(OSError, ValueError):
                    self._stream.write(f"{whose}{line.text}\n")
                    self._stream.flush()

    def _render(self, event: Event) -> list[Line]:
        match event:
            case StepStarted():
                return self._begin(event)
            case StepFinished():
                return [render_end(event, f"{render_number(self._steps.get(event.subject))}ok: ")]
            case StepFailed():
                return [render_end(event, f"{render_number(self._steps.get(event.subject))}FAILED: ")]
            case PlaybookTask():
                return [render_task(event)]
            case Transfer():
                return self._render_transfer(event)
        line = render_other(event, verbose=self._verbose, about=self._about)
        return [] if line is None else [line]

    def _begin(self, event: StepStarted) -> list[Line]:
        self._steps[event.subject], self._told_transfer = event, event.time
        reason = f" ({clean(event.reason)})" if event.reason else ""
        heading = None if self._several else render_heading(event, self._about)
        self._about = event.subject
        return [*([heading] if heading else []), Line(f"{render_number(event)}{clean(event.step)}{reason}")]

    def _render_transfer(self, event: Transfer) -> list[Line]:
        if self._told_transfer is None:
            self._told_transfer = event.time
        if event.time - self._told_transfer < TRANSFER_SECONDS:
            return []
        self._told_transfer = event.time
        return [Line(f"  {render_transfer(event)}")]
