"""The story on a terminal: what has happened scrolls by, what is going on is shown below it and changes in place.

The one door to rich.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import RLock

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from goldsmith.base.events import (
    Event,
    PlaybookTask,
    PlaybookTaskStarted,
    QuestionAnswered,
    QuestionAsked,
    StepFailed,
    StepFinished,
    StepStarted,
    Transfer,
)
from goldsmith.cli.words import (
    Line,
    clean,
    join,
    render_end,
    render_heading,
    render_number,
    render_other,
    render_seconds,
    render_task,
    render_transfer,
)

STYLES = {"good": "green", "bad": "bold red", "warning": "yellow", "changed": "yellow", "quiet": "dim", "": ""}
REFRESHES = 8
"""Each second."""
BAR_WIDTH = 30


class PatientConsole(Console):
    """A console that falls silent when its reader has gone; rich's own ends the program, even while it undoes."""

    def on_broken_pipe(self) -> None:
        """Write nothing any more."""
        self.quiet = True


def open_console(*, color: bool) -> Console:
    """Return standard error as rich sees it."""
    return PatientConsole(stderr=True, no_color=not color, highlight=False, markup=False, emoji=False)


class LiveStory:
    """Shows events on a terminal. Events may come from several threads.

    :param clock: seconds, for the times that run.
    """

    def __init__(self, console: Console, *, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._verbose, self._clock = console, verbose, clock
        unicode = not console.options.ascii_only
        self._good, self._bad, self._now = ("✓ ", "✗ ", "▸ ") if unicode else ("ok ", "FAILED ", "> ")
        self._step: StepStarted | None = None
        self._about = ""
        self._task = ""
        self._transfer: Transfer | None = None
        self._step_since = self._task_since = clock()
        self._note = ""
        self._live: Live | None = None
        self._lock = RLock()

    @contextmanager
    def open(self, *, auto_refresh: bool = True) -> Iterator[None]:
        """Show what is going on while the block runs; what has happened stays on the screen."""
        live = Live(
            get_renderable=self._render_now, console=self._console, transient=True, auto_refresh=auto_refresh,
            refresh_per_second=REFRESHES, redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        live.start()
        self._live = live
        try:
            yield
        finally:
            self._live = None
            with suppress(OSError):  # the terminal may have gone
                live.stop()

    def answer(self, text: str) -> None:
        """Show a note from a signal handler: nothing is written here, as a write may be what it interrupts."""
        self._note = text

    def hear(self, event: Event) -> None:
        """Show an event. A terminal that has gone (SIGHUP) does not stop the work."""
        with self._lock, suppress(OSError, ValueError):
            self._make_way(event)
            line = self._follow(event)
            if line is not None:
                self._console.print(Text(line.text, STYLES[line.style]), soft_wrap=True)
                if self._live is not None:
                    self._live.refresh()  # else what has just ended would stand below for a moment longer

    def _make_way(self, event: Event) -> None:
        """Leave the terminal to a question, and come back after it."""
        if self._live is not None and isinstance(event, QuestionAsked):
            self._live.stop()
        elif self._live is not None and isinstance(event, QuestionAnswered):
            self._live.start()

    def _follow(self, event: Event) -> Line | None:
        """Take an event into account, and return what stays of it on the screen."""
        match event:
            case StepStarted():
                return self._begin(event)
            case StepFinished():
                return self._end(event, self._good)
            case StepFailed():
                return self._end(event, self._bad)
            case PlaybookTaskStarted():
                self._task, self._task_since = event.task, self._clock()
                return None
            case PlaybookTask():
                self._task = ""
                return None if event.outcome in ("ok", "skipped") else render_task(event)
            case Transfer():
                self._transfer = event
                return None
        return render_other(event, verbose=self._verbose, about=self._about)

    def _begin(self, event: StepStarted) -> Line | None:
        self._step, self._step_since = event, self._clock()
        self._task, self._transfer = "", None
        heading, self._about = render_heading(event, self._about), event.subject
        return heading

    def _end(self, event: StepFinished | StepFailed, mark: str) -> Line:
        line = render_end(event, f"{mark}{render_number(self._step)}")
        self._step, self._task, self._transfer = None, "", None
        return line

    def _render_now(self) -> Group:
        """Return what is going on, each thing on one line."""
        now, shown = self._clock(), list[Text | Table]()
        if (step := self._step) is not None:
            since = render_seconds(now - self._step_since)
            shown.append(_cut(join(f"{self._now}{render_number(step)}{clean(step.step)}", since, clean(step.reason))))
        if self._task:
            shown.append(_cut(join(f"  {clean(self._task)}", render_seconds(now - self._task_since)), "cyan"))
        if (transfer := self._transfer) is not None:
            shown.append(_render_bar(transfer))
        if self._note:
            shown.append(_cut(self._note, "yellow"))
        return Group(*shown)


def _cut(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _render_bar(transfer: Transfer) -> Table:
    grid = Table.grid(padding=(0, 1))
    told = _cut(f"  {render_transfer(transfer)}", "cyan")
    if transfer.total:
        grid.add_row(told, ProgressBar(transfer.total, transfer.done, width=BAR_WIDTH))
    else:
        grid.add_row(told)
    return grid
