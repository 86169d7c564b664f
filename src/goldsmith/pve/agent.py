"""The guest agent of a virtual machine: programs started in it through the API, by root, without any network.

A container has none: its console leads into it (`pve.console`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from goldsmith.base.errors import ApiFailed
from goldsmith.pve.answers import Entry
from goldsmith.pve.door import Door

MOST_INPUT = 56 << 10
"""Bytes of a program's input. The API takes 64 KiB of them (PVE 7.4 to 9), in a form that all in all has no more on
older nodes (pveproxy, before 8.0), where one byte in thirty of base64 becomes three."""
SHELL = "/bin/sh"
"""A single word, which every version takes: `command` became a list of words in the course of 8."""


@dataclass(frozen=True)
class Ended:
    """How a program in the guest has ended. The agent keeps 16 MiB of each stream (qemu-ga, GUEST_EXEC_MAX_OUTPUT)."""

    code: int
    """Its exit code; 128 and the number of the signal that ended it, as a shell tells it."""
    output: str = ""
    """Bytes as the API gives them, each one character."""
    complaints: str = ""


def parse_ended(answer: object) -> Ended | None:
    """Parse the answer of `exec-status`; None as long as the program runs."""
    entry = Entry(answer)
    if not entry.flag("exited"):
        return None
    code = 128 + entry.number("signal") if entry.get("signal") is not None else entry.number("exitcode")
    return Ended(code, entry.text("out-data"), entry.text("err-data"))


def is_silent(error: ApiFailed) -> bool:
    """Tell whether a call was refused because the agent said nothing for three seconds: it was given nothing then.

    That is also how an agent is told that is not there (PVE 7.4 to 9, qemu-server's assert_agent_available).
    """
    return "guest agent is not running" in error.reason


class Agent:
    """The guest agent of one virtual machine. One call at a time, from any thread.

    It needs VM.Monitor on the guest, since PVE 9.0 VM.GuestAgent.Unrestricted.
    """

    def __init__(self, door: Door, node: str, vmid: int) -> None:
        self._door = door
        self._path = f"/nodes/{node}/qemu/{vmid}/agent"
        self._turn = threading.Lock()

    def start(self, script: str) -> int:
        """Start a shell script of at most `MOST_INPUT` bytes; return the number by which `find_end` knows it."""
        parameters = {"command": SHELL, "input-data": script}
        with self._turn:
            return Entry(self._door.post(f"{self._path}/exec", parameters)).number("pid")

    def find_end(self, pid: int) -> Ended | None:
        """Return how a program has ended, which the agent tells once; None as long as it runs.

        :raises ApiFailed: there is no such program, or its end was told before.
        """
        with self._turn:
            return parse_ended(self._door.get(f"{self._path}/exec-status", pid=pid))
