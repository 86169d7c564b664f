"""A shell that is opened when it is first needed: looking at a node asks nobody for keys and passwords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from goldsmith.base.errors import ProgramFailed, ShellFailed
from goldsmith.base.process import Argument
from goldsmith.pve.shell import CommandShell
from goldsmith.pve.way import Way


class DeferredShell(CommandShell):
    """Root's shell on one machine, opened by the first program that is started there. For several threads."""

    def __init__(self, machine: str, open_shell: Callable[[], CommandShell]) -> None:
        """Open nothing yet.

        :param open_shell: opens it; called once unless it raises. Whoever gave it closes what it opens.
        """
        self.machine = machine
        self._open_shell = open_shell
        self._shell: CommandShell | None = None
        self._lock = Lock()

    def get_way(self, *, terminal: bool = False) -> Way:
        """Return how programs are started there, as root."""
        return self._get_shell().get_way(terminal=terminal)

    def explain(self, argv: Sequence[Argument], error: ProgramFailed) -> ShellFailed:
        """Return our error for a program that failed."""
        return self._get_shell().explain(argv, error)

    def _get_shell(self) -> CommandShell:
        with self._lock:
            if self._shell is None:
                self._shell = self._open_shell()
            return self._shell
