"""Waiting for tasks, against a node that is a script of answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from goldsmith.base.errors import NodeUnreachable, PveError, TaskFailed
from goldsmith.pve import tasks as room
from goldsmith.pve.advice import find_cause, is_passing
from goldsmith.pve.answers import Upid
from goldsmith.pve.door import Parameter
from goldsmith.pve.tasks import Tasks, parse_upid

UPID = Upid("UPID:pve:00002DD3:000527DE:6B0473CE:vzcreate:100:root@pam!ci:")


@dataclass
class ScriptedNode:
    """A node whose task is, at each look, in the next of its moments: what its log holds, and how it ended."""

    moments: list[tuple[list[str], str] | Exception]
    calls: list[str] = field(default_factory=list)

    def get(self, path: str, **params: Parameter) -> object:
        self.calls.append(path.rpartition("/")[2])
        if path.endswith("/status"):
            moment = self.moments.pop(0) if len(self.moments) > 1 else self.moments[0]
            if isinstance(moment, Exception):
                raise moment
            self.lines, exitstatus = moment
            return {"status": "stopped", "exitstatus": exitstatus} if exitstatus else {"status": "running"}
        start, limit = int(str(params["start"])), int(str(params["limit"]))
        if not self.lines:
            return [{"n": 1, "t": "no content"}]
        return [{"n": n + 1, "t": line} for n, line in enumerate(self.lines)][start : start + limit]

    def delete(self, path: str, params: dict[str, Parameter] | None = None) -> object:
        self.calls.append("DELETE")
        self.moments[:] = [(["stopped"], "interrupted by signal")]
        return None


def test_lines_are_passed_on_once_and_whole() -> None:
    """The third line is half written at two looks."""
    seen: list[str] = []
    node = ScriptedNode(
        [
            ([], ""),
            (["one"], ""),
            (["one", "two", "thr"], ""),
            (["one", "two", "three"], ""),
            (["one", "two", "three"], ""),
            (["one", "two", "three", "TASK OK"], "OK"),
        ]
    )
    result = Tasks(node, "pve").wait(UPID, seen.append)
    assert seen == ["one", "two", "three", "TASK OK"]
    assert result.lines == tuple(seen)


def test_a_line_is_passed_on_when_it_has_settled() -> None:
    """A live log must not stay a line behind until the end."""
    moments: list[tuple[list[str], str] | Exception] = [(["slow step"], ""), (["slow step"], ""), (["slow step"], "OK")]
    node = ScriptedNode(moments)
    at: list[int] = []
    Tasks(node, "pve").wait(UPID, lambda _line: at.append(node.calls.count("status")))
    assert at == [2]


def test_a_long_log_is_read_in_pages() -> None:
    lines = [f"line {n}" for n in range(2 * room.LOG_PAGE + 7)]
    seen: list[str] = []
    result = Tasks(ScriptedNode([(lines[:3], ""), (lines, "OK")]), "pve").wait(UPID, seen.append)
    assert seen == lines
    assert result.lines == tuple(lines[-room.TAIL_LINES :])


def test_warnings_are_no_failure() -> None:
    result = Tasks(ScriptedNode([(["TASK WARNINGS: 2"], "WARNINGS: 2")]), "pve").wait(UPID)
    assert result.warnings == 2


def test_a_failure_tells_what_where_and_why() -> None:
    lines = [*(f"line {n}" for n in range(100)), "TASK ERROR: no space"]
    with pytest.raises(TaskFailed, match=r"^vzcreate 100 failed on the node: no space$") as failed:
        Tasks(ScriptedNode([(lines, "no space")]), "pve").wait(UPID)
    assert failed.value.detail.splitlines()[-1] == "TASK ERROR: no space"
    assert len(failed.value.detail.splitlines()) == room.TAIL_LINES
    assert UPID in failed.value.hint


@pytest.mark.parametrize("exitstatus", ["unexpected status", "job errors", "WARN", "ok"])
def test_only_ok_and_warnings_are_good(exitstatus: str) -> None:
    with pytest.raises(TaskFailed, match=exitstatus):
        Tasks(ScriptedNode([([], exitstatus)]), "pve").wait(UPID)


def test_a_lost_connection_is_picked_up_again() -> None:
    gone = NodeUnreachable("gone")
    node = ScriptedNode([(["a"], ""), gone, gone, (["a", "b"], "OK")])
    seen: list[str] = []
    Tasks(node, "pve").wait(UPID, seen.append)
    assert seen == ["gone: the node is looked for again, for 120 s", "a", "b"]


def test_a_task_is_looked_for_at_the_node_that_runs_it() -> None:
    """An upload's runs on the node of the cluster that received it, not on the one that it is for (PVE 8.4)."""
    asked: list[str] = []

    class Cluster(ScriptedNode):
        def get(self, path: str, **params: Parameter) -> object:
            asked.append(path.removesuffix("/status").removesuffix("/log"))
            return super().get(path, **params)

        def delete(self, path: str, params: dict[str, Parameter] | None = None) -> object:
            asked.append(path)
            return super().delete(path, params)

    theirs = Tasks(Cluster([([], ""), (["a"], "OK")]), "pve2")
    theirs.wait(UPID)
    theirs.stop(UPID)
    assert set(asked) == {f"/nodes/pve/tasks/{UPID}"}


def test_an_interrupt_stops_the_task_when_asked() -> None:
    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    for stop_if_left in (False, True):
        node = ScriptedNode([(["a", "b"], "")])
        with pytest.raises(KeyboardInterrupt):
            Tasks(node, "pve").wait(UPID, interrupt, stop_if_left=stop_if_left)
        assert ("DELETE" in node.calls) == stop_if_left


def test_a_failed_task_is_not_stopped_once_more() -> None:
    node = ScriptedNode([([], "no space")])
    with pytest.raises(TaskFailed):
        Tasks(node, "pve").wait(UPID, stop_if_left=True)
    assert "DELETE" not in node.calls


def _samples() -> Iterator[tuple[str, str, str, str]]:
    yield UPID, "vzcreate", "100", "root@pam!ci"
    yield "UPID:pve:0000A:0000B:6B0473CE:imgcopy::root@pam:", "imgcopy", "", "root@pam"
    yield "UPID:pve:0000A:0000B:6B0473CE:move_volume:151-mp0>152-mp0:a@pve:", "move_volume", "151-mp0>152-mp0", "a@pve"
    yield "UPID:pve:0000A:0000B:6B0473CE:x:local:backup/y:a@pve:", "x", "local:backup/y", "a@pve"


@pytest.mark.parametrize(("upid", "kind", "ident", "user"), list(_samples()))
def test_a_upid_is_read(upid: str, kind: str, ident: str, user: str) -> None:
    name = parse_upid(upid)
    assert (name.node, name.started, name.type, name.id, name.user) == ("pve", 0x6B0473CE, kind, ident, user)


@pytest.mark.parametrize("upid", ["", "OK", "UPID:pve:1:2:3:vzstart", "UPID:pve:0:0:nothex:vzstart:100:root@pam:"])
def test_what_is_no_upid(upid: str) -> None:
    with pytest.raises(PveError, match="names no task"):
        parse_upid(upid)


@pytest.mark.parametrize(
    ("exitstatus", "detail", "is_passing_by"),
    [
        ("can't lock file '/run/lock/lxc/pve-config-900.lock' - got timeout", "", True),
        ("unable to create CT 900 - can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout", "", True),
        ("unable to restore CT 900 - cfs-lock 'storage-nfs' error: got lock request timeout", "", True),
        ("cfs-lock 'storage-nfs' error: no quorum!", "", False),
        ("CT is locked (backup)", "", True),
        ("CT is locked (disk)", "", True),
        (
            "job errors",
            "INFO: x\nERROR: Backup of VM 900 failed - CT is locked (snapshot)\nTASK ERROR: job errors",
            True,
        ),
        ("job errors", "ERROR: Backup of VM 900 failed - command 'tar' failed: exit code 2", False),
        ("unable to create CT 900 - command 'tar' failed: can't lock file 'x' - got timeout", "", False),
        ("CT is locked (create)", "", False),
    ],
)
def test_what_only_lacked_a_lock_is_begun_again(exitstatus: str, detail: str, is_passing_by: bool) -> None:
    assert is_passing(find_cause(TaskFailed(UPID, "x", exitstatus, detail))) is is_passing_by
