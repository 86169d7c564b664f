"""Tasks on disk: UPIDs, logs, the lists of running and finished ones. Right after any crash, because a process decides.

    <tasks>/active/<UPID>        one empty file per task that has not been seen to end
            index                one line per finished task: `UPID endtime status`, appended
            log/<x>/<UPID>       its log; x is the last hex digit of its start time, as on Proxmox

A task runs if the process named by its UPID (number and start time) is alive. How it ended is the last line of its
log: `TASK OK`, `TASK WARNINGS: n`, `TASK ERROR: text`. Whoever looks at a task whose process has gone files it away.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.files import open_lock, write_atomic

_UPID = re.compile(
    r"UPID:(?P<node>[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?):(?P<pid>[0-9A-F]{8,9}):(?P<pstart>[0-9A-F]{8,9}):"
    r"(?P<starttime>[0-9A-F]{8}):(?P<type>[^:\s]+):(?P<id>[^:\s]*):(?P<user>[^:\s]+):"
)
KEPT = 2000
"""Finished tasks that the list remembers; Proxmox keeps about as many."""
_LAST_LINE_BYTES = 4096


@dataclass(frozen=True)
class Upid:
    """The parts of `UPID:pve:00002DD3:000527DE:6B0473CE:vzcreate:100:root@pam!ci:`."""

    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str

    @classmethod
    def parse(cls, text: str) -> Upid | None:
        """Parse a UPID; None when it is none."""
        match = _UPID.fullmatch(text)
        if match is None:
            return None
        pid, pstart, starttime = (int(match[name], 16) for name in ("pid", "pstart", "starttime"))
        return cls(match["node"], pid, pstart, starttime, match["type"], match["id"], match["user"])

    def __str__(self) -> str:
        numbers = f"{self.pid:08X}:{self.pstart:08X}:{self.starttime:08X}"
        return f"UPID:{self.node}:{numbers}:{self.type}:{self.id}:{self.user}:"

    def describe(self) -> dict[str, Any]:
        """Return the parts as the API shows them: the user without its token, which stands by itself."""
        user, _, token = self.user.partition("!")
        shown = {
            "upid": str(self), "node": self.node, "pid": self.pid, "pstart": self.pstart, "starttime": self.starttime,
            "type": self.type, "id": self.id, "user": user,
        }  # fmt: skip
        return {**shown, "tokenid": token} if token else shown


def get_start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22); None if it has ended.

    A zombie has ended: only its parent has not noticed yet.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_running(upid: Upid) -> bool:
    """Tell whether a task's process is alive."""
    return get_start_ticks(upid.pid) == upid.pstart


@dataclass(frozen=True)
class Finished:
    """A line of the index."""

    upid: Upid
    endtime: int
    status: str


class TaskStore:
    """The tasks below one directory. Any process may read and write it at any time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._active = root / "active"
        self._index = root / "index"

    def ensure(self) -> None:
        """Make the directories."""
        for folder in (self._active, self._root / "log"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def log_path(self, upid: Upid) -> Path:
        """Return where a task's log is."""
        return self._root / "log" / f"{upid.starttime & 0xF:X}" / str(upid)

    def register(self, upid: Upid) -> Path:
        """Enter a task that begins, by its own process; return the path of its empty log."""
        path = self.log_path(upid)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        (self._active / str(upid)).touch(mode=0o600)
        return path

    def finish(self, upid: Upid) -> None:
        """Move a task from the running to the finished ones. Idempotent, whoever comes first does it."""
        with open_lock(self._root / "index.lock", timeout=30, what="list of tasks"):
            entry = self._active / str(upid)
            if not entry.exists():
                return
            status = self.read_status(upid).replace("\n", " ")
            with self._index.open("a") as file:
                file.write(f"{upid} {self._end_time(upid):08X} {status}\n")
            entry.unlink()

    def _end_time(self, upid: Upid) -> int:
        with suppress(FileNotFoundError):
            return int(self.log_path(upid).stat().st_mtime)
        return int(time.time())

    def read_status(self, upid: Upid) -> str:
        """Return how a task that has ended did: `OK`, `WARNINGS: n`, an error, or PVE's words for a log cut short."""
        try:
            with self.log_path(upid).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LAST_LINE_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return "unable to open file - No such file or directory"
        last = lines[-1] if lines else ""
        if last == "TASK OK":
            return "OK"
        if match := re.fullmatch(r"TASK (WARNINGS: \d+)", last):
            return match[1]
        return last.removeprefix("TASK ERROR: ") if last.startswith("TASK ERROR: ") else "unexpected status"

    def exists(self, upid: Upid) -> bool:
        """Tell whether there was such a task."""
        return self.log_path(upid).exists()

    def list_active(self) -> list[Upid]:
        """Return the tasks that run, the newest first; those found to have ended are filed away."""
        running = []
        for entry in self._active.iterdir():
            upid = Upid.parse(entry.name)
            if upid is not None and is_running(upid):
                running.append(upid)
            elif upid is not None:
                self.finish(upid)
        return sorted(running, key=lambda upid: (upid.starttime, upid.pstart, upid.pid), reverse=True)

    def list_finished(self) -> Iterator[Finished]:
        """Return the tasks that have ended, the newest first."""
        if not self._index.exists():
            return
        seen: set[str] = set()
        for line in reversed(self._index.read_text(errors="replace").splitlines()):
            text, _, rest = line.partition(" ")
            endtime, _, status = rest.partition(" ")
            if (upid := Upid.parse(text)) is not None and text not in seen:
                seen.add(text)
                yield Finished(upid, int(endtime, 16), status)

    def forget_old(self, keep: int = KEPT) -> None:
        """Shorten the index to the newest tasks and delete the others' logs; called when the node starts."""
        with open_lock(self._root / "index.lock", timeout=30, what="list of tasks"):
            kept = list(self.list_finished())
            if len(kept) <= keep:
                return
            lines = [f"{task.upid} {task.endtime:08X} {task.status}\n" for task in reversed(kept[:keep])]
            write_atomic(self._index, "".join(lines), mode=0o600)
            for task in kept[keep:]:
                self.log_path(task.upid).unlink(missing_ok=True)

    def read_log(self, upid: Upid, start: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return lines of a log as the API shows them (`n` from 1; `limit` 0: all) and how many there are."""
        try:
            lines = self.log_path(upid).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return [], 0
        chosen = lines[start : start + limit if limit else None]
        shown = [{"n": start + number, "t": text} for number, text in enumerate(chosen, start=1)]
        return shown if lines else [{"n": 1, "t": "no content"}], max(len(lines), 1)
