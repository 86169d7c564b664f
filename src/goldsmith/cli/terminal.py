"""Who listens to the events of a run: a live terminal, plain lines, or JSON lines, as the command line wants it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import RLock
from typing import TextIO

from goldsmith.base.events import Event, Events, Listener
from goldsmith.cli.options import Settings
from goldsmith.cli.plain import PlainStory
from goldsmith.cli.signals import Interrupts, catch_signals


class JsonLines:
    """Writes each event as one JSON object in one line. Events may come from several threads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = RLock()

    def hear(self, event: Event) -> None:
        """Write an event. A reader that has gone does not stop the work."""
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(json.dumps(event.as_json(), ensure_ascii=False) + "\n")
            self._stream.flush()


def want_live(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal on which lines can change in place."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


@contextmanager
def open_events(settings: Settings, *, live: bool = True, several: bool = False) -> Iterator[tuple[Events, Interrupts]]:
    """Tell the story of what happens in the block, in which signals interrupt.

    With `--json` it goes to standard output and nowhere else, otherwise to standard error.

    :param live: whether lines may change in place on a terminal; not where something else writes there, too.
    :param several: whether several things are done at a time; there are only plain lines then, and each says which.
    """
    with catch_signals() as interrupts, ExitStack() as stack:
        listener = _open_listener(settings, interrupts, stack, live=live and not several, several=several)
        yield Events(interrupts.hear, listener, masker=settings.masker), interrupts


def _open_listener(
    settings: Settings, interrupts: Interrupts, stack: ExitStack, *, live: bool, several: bool
) -> Listener:
    if settings.json:
        return JsonLines().hear
    if not live or not want_live(sys.stderr):
        return PlainStory(verbose=settings.verbose, several=several).hear
    from goldsmith.cli.live import LiveStory, open_console  # rich is slow to import, and plain lines need none of it

    story = LiveStory(open_console(color=settings.color), verbose=settings.verbose)
    interrupts.answer = story.answer
    stack.enter_context(story.open())
    return story.hear
