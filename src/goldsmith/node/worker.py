"""A task's own process: its log is standard output, a stop becomes an exception, the last line says how it ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

from goldsmith.base.errors import GoldsmithError
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault, TaskInterrupted
from goldsmith.node.tasks import TaskStore, Upid, get_start_ticks

Spawn = Callable[..., str]


class Work(Protocol):
    """What a worker is asked to do; see `spawner.Request`."""

    type: str
    id: str
    user: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


class WorkerTask:
    """A running task as its work sees it (`routing.Task`)."""

    def __init__(self, upid: str, spawn: Spawn) -> None:
        self.upid = upid
        self.warnings = 0
        self._spawn = spawn
        self._lock = threading.Lock()

    def log(self, line: str) -> None:
        """Write a line into the task's log; from any thread."""
        with self._lock:
            os.write(1, (line.rstrip("\n") + "\n").encode(errors="replace"))

    def warn(self, line: str) -> None:
        """Write a `WARN:` line; the task then ends with `WARNINGS: n`."""
        self.warnings += 1
        self.log(f"WARN: {line}")

    def spawn(self, kind: str, name: str, work: Callable[..., Any], *arguments: Any) -> str:
        """Start another task for the same user, in a process of its own, and return its UPID."""
        return self._spawn(kind, name, work, *arguments)


def run_worker(node: Node, request: Work, announce: Callable[[str], None], spawn: Spawn) -> NoReturn:
    """Be a worker: enter the task, do the work, say how it ended. Never returns."""
    store = TaskStore(node.tasks)
    server_log = os.dup(2)
    try:
        pid = os.getpid()
        upid = Upid(node.name, pid, get_start_ticks(pid) or 0, int(time.time()), request.type, request.id, request.user)
        _redirect(store.register(upid))
    except OSError as error:
        announce(f"unable to create output file - {error}")
        os._exit(1)
    _raise_on_stop()
    announce(str(upid))
    task = WorkerTask(str(upid), spawn)
    task.log(_run(task, node, request, server_log))
    _ignore_stop()
    with suppress(Exception):
        store.finish(upid)
    os._exit(0)


def _redirect(log: Path) -> None:
    """Make the log standard output and error; standard input is empty."""
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(file)


def _raise_on_stop() -> None:
    """Turn the first SIGTERM or SIGINT into an exception; what is undone then must not be interrupted again."""

    def stop(*_: object) -> NoReturn:
        _ignore_stop()
        raise TaskInterrupted

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _ignore_stop() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(task: WorkerTask, node: Node, request: Work, server_log: int) -> str:
    """Do the work and return the log's last line."""
    try:
        request.work(task, node, *request.arguments)
    except ApiFault as fault:
        return _render_error(fault.reason, fault.errors)
    except GoldsmithError as error:
        for line in error.detail.splitlines():
            task.log(line)
        return _render_error(error.message)
    except Exception as error:
        text = f"worker {task.upid} failed:\n{traceback.format_exc()}"
        with suppress(OSError):
            os.write(server_log, text.encode(errors="replace"))
        return _render_error(f"{type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return f"TASK WARNINGS: {task.warnings}" if task.warnings else "TASK OK"


def _render_error(reason: str, errors: dict[str, str] | None = None) -> str:
    """Render an error as one line, as PVE's fork_worker does."""
    text = " ".join([reason, *(f"{name}: {said}" for name, said in (errors or {}).items())])
    return "TASK ERROR: " + " ".join(text.split("\n")).strip()
