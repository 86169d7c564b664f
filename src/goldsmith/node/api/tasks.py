"""`/nodes/{node}/tasks`: what runs and what ran, logs, stopping. One sees one's own tasks; auditors see all."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from goldsmith.node.context import Node
from goldsmith.node.faults import ParameterFault
from goldsmith.node.formats import split_list
from goldsmith.node.replies import Answer
from goldsmith.node.routing import Call, Caller, method
from goldsmith.node.tasks import Finished, TaskStore, Upid, is_running

_TASK = "/nodes/{node}/tasks/{upid}"
ANSWER_SECONDS = 4.0
"""How long a stop waits for the task's end before it answers; clients' time limits begin at five seconds."""
KILL_SECONDS = 30.0
"""How long a stopped task may take to undo its work before it is killed."""


def _get_task(call: Call, *, privilege: str = "Sys.Audit") -> Upid:
    """Return the task that is meant, if the caller may deal with it.

    :raises ParameterFault: it is no UPID.
    """
    upid = Upid.parse(call.params["upid"])
    if upid is None:
        raise ParameterFault({"upid": "unable to parse worker upid"})
    if upid.user != call.caller.id:
        call.caller.check(f"/nodes/{call.node.name}", privilege)
    return upid


@method("GET", _TASK)
def index(call: Call) -> list[dict[str, str]]:
    """Return what there is below a task."""
    _get_task(call)
    return [{"name": "log"}, {"name": "status"}]


@method("GET", f"{_TASK}/status")
def get_status(call: Call) -> dict[str, Any]:
    """Return whether a task runs, and how it ended."""
    upid, store = _get_task(call), TaskStore(call.node.tasks)
    if not store.exists(upid):
        raise ParameterFault({"upid": "no such task"})
    if is_running(upid):
        return {**upid.describe(), "status": "running"}
    store.finish(upid)
    return {**upid.describe(), "status": "stopped", "exitstatus": store.read_status(upid)}


@method("GET", f"{_TASK}/log")
def get_log(call: Call) -> Answer:
    """Return lines of a task's log; of an unknown one, PVE's single line (which is no list there)."""
    upid, store = _get_task(call), TaskStore(call.node.tasks)
    lines, total = store.read_log(upid, call.params.get("start", 0), call.params.get("limit", 50))
    if not store.exists(upid):
        return Answer({"n": 1, "t": "unable to open file - No such file or directory"}, {"total": 1})
    return Answer(lines, {"total": total})


@method("DELETE", _TASK)
def stop(call: Call) -> None:
    """Stop a task: it undoes its work and ends. One that has ended already is left alone."""
    upid = _get_task(call, privilege="Sys.Modify")
    if is_running(upid):
        stop_task(upid)


def stop_task(upid: Upid, *, answer_within: float = ANSWER_SECONDS, kill_after: float = KILL_SECONDS) -> None:
    """Ask a task's process to end and wait a little; one that takes too long is killed, later if need be."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(upid.pid)
        if not is_running(upid):  # the number is another process's by now
            os.close(fd)
            return
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if _has_ended(fd, answer_within):
            os.close(fd)
        else:
            threading.Thread(target=_kill_later, args=(fd, kill_after), daemon=True).start()


def _has_ended(fd: int, seconds: float) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def _kill_later(fd: int, seconds: float) -> None:
    if not _has_ended(fd, seconds):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)


@method("GET", "/nodes/{node}/tasks")
def list_tasks(call: Call) -> Answer:
    """Return tasks, the newest first: finished ones unless `source` says otherwise."""
    source, store = call.params.get("source", "archive"), TaskStore(call.node.tasks)
    shown = [_show_active(upid) for upid in store.list_active()] if source in ("active", "all") else []
    if source in ("archive", "all"):
        shown += [_show_finished(task) for task in store.list_finished()]
    chosen = [task for task in _only_visible(call.node, call.caller, shown) if _is_wanted(task, call.params)]
    start, limit = call.params.get("start", 0), call.params.get("limit", 50)
    return Answer(chosen[start : start + limit if limit else None], {"total": len(chosen)})


def _show_active(upid: Upid) -> dict[str, Any]:
    """PVE shows the token as part of the user here, and only here."""
    return {**upid.describe(), "user": upid.user, "status": "RUNNING", "saved": "0"}


def _show_finished(task: Finished) -> dict[str, Any]:
    return {**task.upid.describe(), "endtime": task.endtime, "status": task.status}


def _only_visible(node: Node, caller: Caller, tasks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    if caller.may(f"/nodes/{node.name}", "Sys.Audit"):
        return list(tasks)
    return [task for task in tasks if task["upid"].split(":")[7] == caller.id]


def _kind_of(status: str) -> str:
    if status == "OK":
        return "ok"
    return "warning" if status.startswith("WARNINGS: ") else "unknown" if status == "unexpected status" else "error"


def _is_wanted(task: dict[str, Any], params: dict[str, Any]) -> bool:
    kind = _kind_of(task["status"])
    kinds = split_list(params.get("statusfilter", ""))
    return (
        ("vmid" not in params or task["id"] == str(params["vmid"]))
        and params.get("typefilter", task["type"]) == task["type"]
        and params.get("userfilter", "").lower() in task["user"].lower()
        and params.get("since", 0) <= task["starttime"] <= params.get("until", task["starttime"])
        and (not kinds or task["status"] == "RUNNING" or kind in kinds)
        and (not params.get("errors") or kind == "error")
    )


def list_recent(node: Node, caller: Caller) -> list[dict[str, Any]]:
    """Return what `/cluster/tasks` shows: the running and the last finished tasks."""
    store = TaskStore(node.tasks)
    shown = [_show_active(upid) for upid in store.list_active()]
    shown += [_show_finished(task) for task in store.list_finished()]
    for task in shown:
        task["saved"] = "0" if task["status"] == "RUNNING" else "1"
    return _only_visible(node, caller, shown)[:25]
