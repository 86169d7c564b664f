"""A guest's shell through the API: programs are started by `run`, so that all of `CommandShell` works there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from goldsmith.base.errors import ProgramFailed, ShellFailed
from goldsmith.base.process import Argument
from goldsmith.pve.client import Pve, PveVersion
from goldsmith.pve.console.invitation import Invitation
from goldsmith.pve.console.wire import PREFIX, UNREACHED
from goldsmith.pve.shell import CommandShell
from goldsmith.pve.way import Way

RUN = Path(__file__).with_name("run.py")
CMODE = "shell"
"""The console's mode in which it is root's shell, and not a login (pct.conf(5))."""
FIRST_FOR_TOKENS = PveVersion(9, 1)
"""Since then a token opens consoles (libpve-access-control 9.0.4); before, only a user who has logged in does."""


class ConsoleShell(CommandShell):
    """Root's shell in a guest, through its console or its guest agent.

    :param machine: the guest's name, for messages.
    :param socket: the owner's.
    :param way: which of the two it is, for messages.
    """

    def __init__(self, machine: str, socket: Path, way: str = "console") -> None:
        self.machine = machine
        self.socket = socket
        self._way = way

    def get_way(self, *, terminal: bool = False) -> Way:  # noqa: ARG002 - programs there have no terminal
        """Return the way through the API. Bytes, signals and exit codes are passed on as they are."""
        return Way((sys.executable, "-I", "-S", str(RUN), str(self.socket)))

    def explain(self, argv: Sequence[Argument], error: ProgramFailed) -> ShellFailed:
        """Return our error for a program that failed in the guest, or that was never reached there."""
        said = [line for line in error.output.splitlines() if line.startswith(PREFIX)]
        if error.returncode == UNREACHED and said:
            reason = said[-1].removeprefix(PREFIX)
            return ShellFailed(
                f"{self.machine} cannot be entered through its {self._way}: {reason}", detail=error.detail
            )
        return super().explain(argv, error)


def find_token_fault(pve: Pve) -> str:
    """Return what to do where a token opens no console; empty where it does, or where no token is used."""
    if not pve.connection.token_id or (version := pve.version()) >= FIRST_FOR_TOKENS:
        return ""
    since = f"{FIRST_FOR_TOKENS.major}.{FIRST_FOR_TOKENS.minor}"
    way = "log in with a password (proxmox_api_user, proxmox_api_password)"
    return f"a token opens consoles since Proxmox VE {since}, this is {version}: {way}"


@contextmanager
def open_console(pve: Pve, node: str, vmid: int, machine: str) -> Iterator[ConsoleShell]:
    """Use a container's shell through its console while the block runs. It is entered when the first program starts.

    Its `cmode` has to be `shell`. Calls of the API are made by a thread, over connections of its own.
    """
    from goldsmith.pve.console.owner import open_owner
    from goldsmith.pve.console.terminal import open_console_session  # aiohttp takes its time to be imported

    with closing(pve.fork()) as own:

        def invite() -> Invitation:
            invitation = own.node(node).guests.invite(vmid)
            return replace(invitation, advice=find_token_fault(own))

        with open_owner(lambda: open_console_session(invite)) as socket:
            yield ConsoleShell(machine, socket)


@contextmanager
def open_agent(pve: Pve, node: str, vmid: int, machine: str) -> Iterator[ConsoleShell]:
    """Use a virtual machine's shell through its guest agent while the block runs; entered when a program first starts.

    Its option `agent` has to be on, and qemu-guest-agent to run in it.
    """
    from goldsmith.pve.console.agent import open_agent_session
    from goldsmith.pve.console.owner import open_owner

    with closing(pve.fork()) as own:
        agent = own.node(node).get_agent(vmid)
        with open_owner(lambda: open_agent_session(agent)) as socket:
            yield ConsoleShell(machine, socket, "guest agent")
