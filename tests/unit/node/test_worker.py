"""Tasks in processes of their own: how they begin, end, are stopped, and outlive the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goldsmith.node.api import tasks as api
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.settings import NodeSettings
from goldsmith.node.spawner import Request, request_task
from goldsmith.node.tasks import TaskStore, Upid, get_start_ticks, is_running
from tests.unit.node import spawning, works


def wait_until(check: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


@dataclass
class Spawned:
    """A spawner whose server is a process of ours."""

    node: Node
    server: subprocess.Popen[str]
    spawner: int

    @property
    def store(self) -> TaskStore:
        return TaskStore(self.node.tasks)

    def begin(self, work: Callable[..., Any], *arguments: Any) -> Upid:
        text = request_task(self.node, Request("test", "100", "root@pam!ci", work, arguments))
        upid = Upid.parse(text)
        assert upid is not None
        return upid

    def wait(self, upid: Upid) -> str:
        wait_until(lambda: not is_running(upid))
        self.store.finish(upid)
        return self.store.read_status(upid)

    def log(self, upid: Upid) -> list[str]:
        return [line["t"] for line in self.store.read_log(upid, 0, 0)[0]]


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawned]:
    yield from start(tmp_path)


def start(state: Path) -> Iterator[Spawned]:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-m", spawning.__name__, str(state)]
    with (
        (state / "server.log").open("ab") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=root) as server,
    ):
        assert server.stdout is not None
        yield Spawned(Node(NodeSettings(state=state)), server, int(server.stdout.readline()))
        server.kill()


def test_a_task_that_goes_well(spawned: Spawned) -> None:
    begun = time.monotonic()
    upid = spawned.begin(works.work_well, "hello")
    assert time.monotonic() - begun < 0.5
    assert (upid.node, upid.type, upid.id, upid.user) == ("pve", "test", "100", "root@pam!ci")
    assert spawned.wait(upid) == "OK"
    assert spawned.log(upid) == ["pve: hello", "written straight to standard output", "TASK OK"]
    assert [task.upid for task in spawned.store.list_finished()] == [upid]


@pytest.mark.parametrize(
    ("work", "status"),
    [
        (works.work_with_warnings, "WARNINGS: 2"),
        (works.refuse, "CT is locked (backup)"),
        (works.break_down, "LookupError: nobody expected this"),
        (works.fail_in_a_program, "sh ended with code 7"),
        (works.end_at_once, "unexpected status"),
    ],
)
def test_how_tasks_end(spawned: Spawned, work: Callable[..., None], status: str) -> None:
    upid = spawned.begin(work)
    assert spawned.wait(upid) == status
    assert [task.status for task in spawned.store.list_finished()] == [status]


def test_what_a_program_said_is_in_the_log(spawned: Spawned) -> None:
    upid = spawned.begin(works.fail_in_a_program)
    spawned.wait(upid)
    assert "the reason" in spawned.log(upid)


def test_the_cause_of_what_nobody_expected_is_in_the_servers_log(spawned: Spawned) -> None:
    upid = spawned.begin(works.break_down)
    spawned.wait(upid)
    text = (spawned.node.settings.state / "server.log").read_text()
    assert str(upid) in text
    assert "in break_down" in text
    assert not [line for line in spawned.log(upid) if "Traceback" in line]


def test_a_stopped_task_undoes_its_work(spawned: Spawned, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    upid = spawned.begin(works.hold_on, str(mark))
    wait_until(mark.exists)
    child = wait_until(lambda: find_children(upid.pid))[0]
    api.stop_task(upid)
    assert not is_running(upid)
    assert spawned.wait(upid) == "received interrupt"
    assert not mark.exists()
    assert get_start_ticks(child) is None


def test_stopping_twice_does_not_disturb_the_undoing(spawned: Spawned, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    upid = spawned.begin(works.hold_on, str(mark))
    wait_until(mark.exists)
    for _ in range(5):
        with suppress(ProcessLookupError):
            os.kill(upid.pid, signal.SIGTERM)
        time.sleep(0.02)
    assert spawned.wait(upid) == "received interrupt"
    assert not mark.exists()


def test_a_task_that_does_not_listen_is_killed(spawned: Spawned) -> None:
    upid = spawned.begin(works.hold_on_deaf)
    wait_until(lambda: "holding on" in spawned.log(upid))
    api.stop_task(upid, answer_within=0.1, kill_after=0.2)
    assert spawned.wait(upid) == "unexpected status"


def test_a_killed_tasks_programs_end_too(spawned: Spawned, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    upid = spawned.begin(works.hold_on, str(mark))
    child = wait_until(lambda: [pid for pid in find_children(upid.pid) if has_become(pid, "sleep")])[0]
    os.kill(upid.pid, signal.SIGKILL)
    wait_until(lambda: get_start_ticks(child) is None)
    assert spawned.store.list_active() == []
    assert spawned.wait(upid) == "unexpected status"


def has_become(pid: int, program: str) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] == program


def find_children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_task_starts_another(spawned: Spawned) -> None:
    upid = spawned.begin(works.start_another)
    assert spawned.wait(upid) == "OK"
    second = Upid.parse(spawned.log(upid)[0])
    assert second is not None
    assert second.user == upid.user
    assert spawned.wait(second) == "OK"
    assert spawned.log(second)[0] == "pve: from another"


def test_tasks_and_their_spawner_outlive_a_killed_server(spawned: Spawned, tmp_path: Path) -> None:
    upid = spawned.begin(works.hold_on, str(tmp_path / "mark"))
    spawned.server.kill()
    spawned.server.wait()
    assert is_running(upid)
    other = spawned.begin(works.work_well, "still")
    assert spawned.wait(other) == "OK"
    for new in start(tmp_path):
        assert spawned.store.list_active() == [upid]
        assert spawned.wait(spawned.begin(works.work_well, "new")) == "OK"
        api.stop_task(upid)
        assert new.wait(upid) == "received interrupt"
        wait_until(lambda: get_start_ticks(spawned.spawner) is None)


def test_without_a_server_the_spawner_ends(spawned: Spawned) -> None:
    spawned.server.kill()
    spawned.server.wait()
    wait_until(lambda: get_start_ticks(spawned.spawner) is None)
    with pytest.raises(ApiFault, match="unable to start worker"):
        spawned.begin(works.work_well, "x")


def test_many_at_once(spawned: Spawned) -> None:
    upids = [spawned.begin(works.work_well, str(number)) for number in range(30)]
    assert {spawned.wait(upid) for upid in upids} == {"OK"}
    assert len(list(spawned.store.list_finished())) == 30
