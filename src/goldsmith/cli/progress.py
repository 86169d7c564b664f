"""Progress of commands whose outcome is one document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from goldsmith.base.events import Events
from goldsmith.cli.options import Settings
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.terminal import open_events


@contextmanager
def open_progress(settings: Settings) -> Iterator[Events]:
    """Show how far a transfer is, a few times a second; with `--json`, where one document is wanted, not at all."""
    if settings.json:
        with catch_signals():
            yield Events(masker=settings.masker)
        return
    with open_events(settings) as (events, _):
        yield events
