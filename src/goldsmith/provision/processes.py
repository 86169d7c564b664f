"""Ending everything that a run of Ansible has started, wherever it has hidden.

Ansible puts each worker into a session of its own, ssh's masters and mitogen's multiplexers go into the background: a
process group does not hold them. All inherit their environment, so that a mark in it finds them, orphans too.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MARK = "GOLDSMITH_PROVISION"


def list_marked(mark: str) -> list[int]:
    """Return the process numbers of all living processes that were started with `mark` in their environment.

    :param mark: the path of the run's directory for sockets, which no other run has.
    """
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _has(entry, mark)]


def _has(process: Path, mark: str) -> bool:
    """Tell whether a process has it; one that has gone, is a zombie or is another user's has not.

    ssh's masters write their title over their environment (`ssh: SOCKET [mux]`), but it names their socket.
    """
    try:
        return f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0") or (
            process / "cmdline"
        ).read_bytes().startswith(f"ssh: {mark}/".encode())
    except OSError:
        return False


def end_marked(mark: str, *, grace: float = 0.5, timeout: float = 5.0) -> list[int]:
    """End all marked processes: SIGTERM, after `grace` seconds SIGKILL; return those that outlive `timeout` seconds.

    Looks again until none is left: a process may start another one while it is being looked for.
    """
    begun = time.monotonic()
    while pids := list_marked(mark):
        elapsed = time.monotonic() - begun
        if elapsed > timeout:
            return pids
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM if elapsed < grace else signal.SIGKILL)
        time.sleep(0.02)
    return []
