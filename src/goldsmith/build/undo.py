"""Taking back what a build has made: registered when it is made, done in reverse order, however the build ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TypeVar

from goldsmith.base.errors import GoldsmithError
from goldsmith.base.events import Events, Notice, Undone
from goldsmith.build.journal import Journal

T = TypeVar("T")


class Undo:
    """A stack of things to be removed. What cannot be is told, kept in the journal, and hinders nothing else."""

    def __init__(self, events: Events, journal: Journal) -> None:
        self._stack = ExitStack()
        self._events = events
        self._journal = journal

    def add(self, what: str, action: Callable[[], object]) -> Callable[[], None]:
        """Register the removal of something; the returned function removes it now, once.

        A person hears of it unless `action` returns False: there was nothing to remove.
        """
        pending = [action]

        def remove() -> None:
            if pending:
                self._remove(what, action)
                pending.clear()  # not before: an interrupted removal is done again when all is undone

        self._stack.callback(remove)
        return remove

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Use something until the build ends."""
        return self._stack.enter_context(context)

    def _remove(self, what: str, action: Callable[[], object]) -> None:
        try:
            had_it = action() is not False
        except (GoldsmithError, OSError) as error:
            self._journal.left_behind.append(what)
            self._events.emit(Undone(what=what, error=str(error)))
        except BaseException:
            self._journal.left_behind.append(what)
            raise
        else:
            if what in self._journal.left_behind:
                self._journal.left_behind.remove(what)
            if had_it:
                self._events.emit(Undone(what=what))

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            self._tell_rest()

    def _tell_rest(self) -> None:
        """Say how what could not be removed goes away."""
        if left := self._journal.left_behind:
            whose = f"{self._journal.entry.kind} {self._journal.run_id}"
            told = f"what {whose} could not remove ({', '.join(left)}) is noted in its journal: the next build or test "
            told += "there removes it, or `goldsmith clean`"
            self._events.emit(Notice(message=told, level="warning"))
