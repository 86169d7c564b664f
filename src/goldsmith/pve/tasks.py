"""Tasks on a node: waiting for one while its log is passed on live, stopping one, judging how it ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from goldsmith.base.errors import NodeUnreachable, PveError, TaskFailed
from goldsmith.pve.advice import find_advice, find_cause, is_passing
from goldsmith.pve.answers import Entry, Upid, read_entries
from goldsmith.pve.door import Parameter
from goldsmith.pve.slots import OnWait, Place, Slots

OnLine = Callable[[str], None]
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two looks: an embedded node's task takes 0.1 s, a real dump minutes."""
PATIENCE = 120.0
"""Seconds for which a node that has gone away in mid-task is looked for (a restart of pveproxy, a bad network)."""
LOCK_PATIENCE, LOCK_PAUSE = 120.0, 0.5
"""Seconds for which a task that did not get a lock is begun again, and between two tries."""
LOG_PAGE = 500
TAIL_LINES = 30
RECENT = 200
"""Tasks of one guest that are looked at, at most."""
STOP_TIMEOUT = 60.0


class Caller(Protocol):
    """The calls of the API: what `door.Door` offers, and all that this room needs of it."""

    def get(self, path: str, /, **params: Parameter) -> object:
        """Read."""
        ...

    def delete(self, path: str, params: dict[str, Parameter] | None = None) -> object:
        """Remove or stop something."""
        ...


@dataclass(frozen=True)
class TaskName:
    """What a UPID says. `type` is Proxmox's (`vzcreate`), `id` mostly a vmid and may be empty."""

    node: str
    started: int
    type: str
    id: str
    user: str

    def __str__(self) -> str:
        return f"{self.type} {self.id}" if self.id else self.type


def parse_upid(upid: str) -> TaskName:
    """Parse `UPID:pve:00002DD3:000527DE:6B0473CE:vzcreate:100:root@pam!ci:`.

    :raises PveError: it is none.
    """
    parts = upid.split(":")
    if len(parts) < 9 or parts[0] != "UPID":
        raise PveError(f"'{upid}' names no task")
    try:
        return TaskName(parts[1], int(parts[4], 16), parts[5], ":".join(parts[6:-2]), parts[-2])
    except ValueError as error:
        raise PveError(f"'{upid}' names no task") from error


@dataclass(frozen=True)
class TaskResult:
    """A task that ended well. `warnings` counts those it gave; `lines` is the end of its log."""

    upid: Upid
    seconds: float
    warnings: int = 0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskState:
    """A task at one moment. `exitstatus` is empty while it runs, then `OK`, `WARNINGS: n` or what went wrong."""

    running: bool
    exitstatus: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it ended well. Warnings are no failure."""
        return self.exitstatus == "OK" or self.exitstatus.startswith("WARNINGS")


class TaskTimedOut(TaskFailed):
    """A task did not end within the time we gave it. It may go on."""


class _Log:
    """Follows a task's log. The last line of a running task may be half written: it waits until it has settled."""

    def __init__(self, fetch: Callable[[int], list[Entry]], on_line: OnLine | None) -> None:
        self._fetch, self._on_line = fetch, on_line
        self._next = 0
        self._unsettled: str | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def read(self, *, finished: bool) -> None:
        """Pass on what has come since the last time."""
        while page := [entry.text("t") for entry in self._fetch(self._next)]:
            if self._next == 0 and page == ["no content"]:  # how PVE shows an empty log
                return
            if len(page) >= LOG_PAGE:
                self._pass_on(page)
                continue
            if finished:
                self._pass_on(page)
                return
            settled = page if page[-1] == self._unsettled else page[:-1]
            self._unsettled = page[-1]
            self._pass_on(settled)
            return

    def _pass_on(self, lines: list[str]) -> None:
        self._next += len(lines)
        self.tail.extend(lines)
        if self._on_line is not None:
            for line in lines:
                self._on_line(line)


class Tasks:
    """Tasks of one node."""

    def __init__(self, door: Caller, node: str, slots: Slots | None = None) -> None:
        self._door = door
        self._base = f"/nodes/{node}/tasks"
        self._slots = slots or Slots()

    def begin(self, limits: Mapping[Place, int], begin: Callable[[], Upid], on_wait: OnWait = None) -> Upid:
        """Begin a task when there is a place for it; see `slots`."""
        return self._slots.begin(limits, begin, lambda upid: self.state(upid).running, on_wait)

    def wait(
        self, upid: Upid, on_line: OnLine | None = None, *, timeout: float = 600.0, stop_if_left: bool = False
    ) -> TaskResult:
        """Wait until a task has ended, passing on its log line by line.

        A lost connection is picked up again by the UPID, for `PATIENCE` seconds.

        :param timeout: seconds; the task goes on unless `stop_if_left`.
        :param stop_if_left: stop the task when this is left by an interrupt or a time-out.
        :raises TaskFailed: it ended badly, or not in time; the error's detail is the tail of its log.
        :raises NodeUnreachable: the node has gone away and does not come back.
        """
        try:
            return self._wait(upid, on_line, timeout)
        except BaseException as error:
            ended = isinstance(error, TaskFailed) and not isinstance(error, TaskTimedOut)
            if stop_if_left and not ended and not isinstance(error, NodeUnreachable):
                self.stop(upid)
            raise

    def run(
        self, begin: Callable[[], Upid], on_line: OnLine | None = None, *, timeout: float = 600.0,
        stop_if_left: bool = False, begun: Upid | None = None,
    ) -> TaskResult:  # fmt: skip
        """Begin a task and wait for it; again where it ended as something else had the lock, so that nothing was done.

        :param stop_if_left: see `wait`.
        :param begun: it has been begun already; `begin` is for the times after that.
        :raises TaskFailed: see `wait`.
        """
        since = time.monotonic()
        while True:
            try:
                return self.wait(begun or begin(), on_line, timeout=timeout, stop_if_left=stop_if_left)
            except TaskFailed as error:
                if not is_passing(find_cause(error)) or time.monotonic() - since > LOCK_PATIENCE:
                    raise
            begun = None
            time.sleep(LOCK_PAUSE)

    def _wait(self, upid: Upid, on_line: OnLine | None, timeout: float) -> TaskResult:
        log = _Log(lambda start: self.log(upid, start), on_line)
        begun = answered = time.monotonic()
        pause, is_told = FIRST_PAUSE, False
        while True:
            try:
                state = self.state(upid)
                if on_line is not None or not state.running:
                    log.read(finished=not state.running)
                answered = time.monotonic()
            except NodeUnreachable as error:
                state = TaskState(running=True)
                if time.monotonic() - answered > PATIENCE:
                    error.hint = f"the node went away in the middle of {parse_upid(upid)}, which may still run: {upid}"
                    raise
                is_told = _tell_gone(on_line, error, is_told)
            if not state.running:
                return _judge(upid, state, log, time.monotonic() - begun)
            if time.monotonic() - begun > timeout:
                raise TaskTimedOut(
                    upid, str(parse_upid(upid)), f"still running after {timeout:g} s", "\n".join(log.tail)
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def state(self, upid: Upid) -> TaskState:
        """Return how a task is at this moment."""
        entry = Entry(self._door.get(f"{_locate(upid)}/status"))
        running = entry.text("status") == "running"
        return TaskState(running, "" if running else entry.text("exitstatus"))

    def log(self, upid: Upid, start: int = 0, limit: int = LOG_PAGE) -> list[Entry]:
        """Return log lines (`n` and `t`) from `start` on, counted from 0."""
        answer = self._door.get(f"{_locate(upid)}/log", start=start, limit=limit)
        return [] if isinstance(answer, dict) else read_entries(answer)  # an unknown task's log is an object (PVE 8.4)

    def stop(self, upid: Upid) -> None:
        """Stop a task and wait until it has ended. Harmless for one that has."""
        self._door.delete(_locate(upid))
        deadline, pause = time.monotonic() + STOP_TIMEOUT, FIRST_PAUSE
        while self.state(upid).running:
            if time.monotonic() > deadline:
                raise TaskTimedOut(upid, str(parse_upid(upid)), "does not stop", "")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def list_running(self, vmid: int | None = None) -> list[Upid]:
        """Return tasks that run now, of one guest or of all that we may see."""
        entries = read_entries(self._door.get(self._base, source="active", vmid=vmid))
        return [Upid(entry.text("upid")) for entry in entries if entry.text("status") in ("", "RUNNING")]

    def list_recent(self, vmid: int) -> list[Upid]:
        """Return the tasks about a guest that run or have ended, as far as we may see them, the newest first."""
        entries = read_entries(self._door.get(self._base, source="all", vmid=vmid, limit=RECENT))
        return [Upid(entry.text("upid")) for entry in sorted(entries, key=lambda one: -one.number("starttime"))]


def _locate(upid: Upid) -> str:
    """Return the path of a task, at the node that runs it.

    That is mostly the one that was asked for something; but what is uploaded is filed away by the node of the cluster
    that has received it, wherever it goes (PVE::API2::Storage::Status, upload), and no other one knows that task.
    """
    return f"/nodes/{parse_upid(upid).node}/tasks/{upid}"


def _tell_gone(on_line: OnLine | None, error: NodeUnreachable, is_told: bool) -> bool:
    """Say once that the node has gone away: a person would wonder why nothing happens."""
    if on_line is not None and not is_told:
        on_line(f"{error.message}: the node is looked for again, for {PATIENCE:g} s")
    return True


def _judge(upid: Upid, state: TaskState, log: _Log, seconds: float) -> TaskResult:
    if not state.is_good:
        failed = TaskFailed(upid, str(parse_upid(upid)), state.exitstatus or "unknown status", "\n".join(log.tail))
        failed.hint = "; ".join(filter(None, [find_advice(failed.exitstatus, failed.detail), failed.hint]))
        raise failed
    count = state.exitstatus.removeprefix("WARNINGS:").strip()
    warnings = int(count) if count.isdigit() else 0
    return TaskResult(upid, seconds, warnings, tuple(log.tail))
