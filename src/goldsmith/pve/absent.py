"""No shell: what stands for one where the configuration says that there is none, and says so when it is needed."""

from __future__ import annotations

from goldsmith.base.errors import ShellMissing
from goldsmith.pve.shell import CommandShell
from goldsmith.pve.way import Way


class AbsentShell(CommandShell):
    """Stands for root's shell on a machine where there is none. Whatever is to be started there is an error."""

    def __init__(self, machine: str) -> None:
        self.machine = machine

    def get_way(self, *, terminal: bool = False) -> Way:  # noqa: ARG002 - there is none, whoever sits before it
        """Return nothing.

        :raises ShellMissing: always.
        """
        raise refuse("this", self.machine)


def refuse(what: str, machine: str) -> ShellMissing:
    """Return the error for something that only a shell can do."""
    return ShellMissing(
        f"{what} needs root's shell on {machine}, and there is none (proxmox_shell: none)",
        hint="set proxmox_shell to ssh where the node lets you in, or do without it",
    )
