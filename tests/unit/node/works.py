"""Work for workers of tests: module-level, as workers need it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from goldsmith.base.process import run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.routing import Task


def work_well(task: Task, node: Node, text: str) -> None:
    task.log(f"{node.name}: {text}")
    os.write(1, b"written straight to standard output\n")


def work_with_warnings(task: Task, node: Node) -> None:
    task.warn("first")
    task.warn("second")


def refuse(task: Task, node: Node) -> None:
    raise ApiFault("CT is locked\n(backup)")


def break_down(task: Task, node: Node) -> None:
    raise LookupError("nobody expected this")


def fail_in_a_program(task: Task, node: Node) -> None:
    run(["sh", "-c", "echo the reason >&2; exit 7"])


def hold_on(task: Task, node: Node, mark: str) -> None:
    """Run a program for long, and undo something on the way out."""
    with ExitStack() as stack:
        Path(mark).touch()
        stack.callback(Path(mark).unlink)
        stack.callback(time.sleep, 0.2)  # undoing takes a moment, in which a second stop must not disturb
        task.log("holding on")
        run(["sleep", "7351"], timeout=600)


def hold_on_deaf(task: Task, node: Node) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    task.log("holding on")
    time.sleep(600)


def start_another(task: Task, node: Node) -> None:
    task.log(task.spawn("second", "", work_well, "from another"))


def end_at_once(task: Task, node: Node) -> None:
    os._exit(3)
