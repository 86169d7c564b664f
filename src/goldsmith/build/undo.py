"""Taking back what a build has made: registered when it is made, done in reverse order, however the build ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from goldsmith.base.errors import GoldsmithError
from goldsmith.base.events import Events, Undone
from goldsmith.build.journal import Journal


class Undo:
    """A stack of things to be removed. What cannot be is told, kept in the journal, and hinders nothing else."""

    def __init__(self, events: Events, journal: Journal) -> None:
        self._stack = ExitStack()
        self._events = events
        self._journal = journal

    def add(self, what: str, action: Callable[[], object], *, told: bool = True) -> Callable[[], None]:
        """Register the removal of something; the returned function removes it now, once.

        :param told: whether a person is to hear of it.
        """
        pending = [action]

        def remove() -> None:
            if pending:
                self._remove(what, pending.pop(), told)

        self._stack.callback(remove)
        return remove

    def _remove(self, what: str, action: Callable[[], object], told: bool) -> None:
        try:
            action()
        except (GoldsmithError, OSError) as error:
            self._journal.left_behind.append(what)
            self._events.emit(Undone(what=what, error=str(error)))
        except BaseException:
            self._journal.left_behind.append(what)
            raise
        else:
            if told:
                self._events.emit(Undone(what=what))

    def keep_all(self) -> None:
        """Forget everything: it is somebody else's now."""
        self._stack.pop_all()

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
