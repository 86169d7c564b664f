"""The node's processes are killed in the middle of a replacement, and it is started again: the data is there."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from goldsmith.artifacts.repository import Version
from goldsmith.base.errors import GoldsmithError, PveError
from goldsmith.base.events import Event, StepStarted
from goldsmith.fleet.marks import Record
from goldsmith.fleet.plan import Action
from goldsmith.node.lxc.config import open_config, save_config
from goldsmith.node.lxc.disks import find_volume
from goldsmith.pve.client import open_pve
from tests.lxc.fleets import Lab, open_lab
from tests.lxc.guests import RunningNode

pytestmark = pytest.mark.root

DATA = {"data": [{"path": "/srv/data", "volume": "local:1"}], "backup": {"storage": "local"}}
POINTS = {
    "swap": ("back up", "make the new guest", "stop the old guest", "data to the new guest"),
    "recreate": ("data from the old guest", "destroy the old guest", "make the new guest"),
}  # fmt: skip


class Crash:
    """Kills the node's server and its workers at the first task after a goal has begun, and starts the node again."""

    def __init__(self, lab: Lab, node: RunningNode, goal: str) -> None:
        self.lab, self.node, self.goal = lab, node, goal
        self.killed: list[int] = []
        self.thread: threading.Thread | None = None

    def hear(self, event: Event) -> None:
        if self.thread is None and isinstance(event, StepStarted) and event.step.startswith(self.goal):
            self.thread = threading.Thread(target=self._work)
            self.thread.start()

    def _work(self) -> None:
        with open_pve(self.lab.site.pve.connection) as pve:
            tasks, deadline = pve.node(self.lab.site.node.name).tasks, time.monotonic() + 10
            with suppress(PveError):
                while not tasks.list_running() and time.monotonic() < deadline:
                    time.sleep(0.005)
        for pid in list_processes(self.node.settings.state):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)
        time.sleep(0.3)
        self.node.start()

    def join(self) -> int:
        """Wait until the node is there again; return how many processes of it were killed."""
        assert self.thread is not None, self.goal
        self.thread.join(60)
        return len(self.killed)


def list_processes(state: Path) -> list[int]:
    """Return the server of a node, the process that workers are born from, and the workers; no guest's process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"goldsmith.node.serve" in words and str(state).encode() in words:
                found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def lab(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(node, tmp_path_factory) as lab:
        yield lab


@pytest.fixture(scope="module")
def versions(lab: Lab) -> tuple[Version, Version]:
    return lab.build("one"), lab.build("two")


@pytest.mark.parametrize("strategy", ["swap", "recreate"])
def test_the_node_crashes(lab: Lab, node: RunningNode, versions: tuple[Version, Version], strategy: str) -> None:
    """It is gone on with, or undone by itself or by hand; whatever happens, one guest has the data and runs."""
    name = f"db-{strategy}"
    lab.declare(name, strategy=strategy, **DATA)
    lab.deploy(name, versions[0])
    lab.run(name, "echo precious > /srv/data/word")
    runs = 0
    for goal in POINTS[strategy]:
        crash, wanted = Crash(lab, node, goal), 1 - runs
        lab.listeners = [crash.hear]
        fault = ""
        try:
            lab.deploy(name, versions[wanted])
        except GoldsmithError as error:
            fault = error.message
        lab.listeners = []
        assert crash.join() >= 2, goal
        if lab.find_interrupted(name) is not None:
            lab.abort(name)
        runs = look(lab, name, f"{goal}: {fault}")
        assert (runs == wanted) is not bool(fault), f"{goal}: {fault}"
        assert lab.plan(name, versions[runs]).action is Action.NOTHING, goal
        lab.clear_previous()
    lab.remove(name)


@pytest.mark.parametrize("named", [True, False], ids=["still named by the old guest", "named by nobody"])
def test_a_volume_between_two_guests_is_attached_again(
    lab: Lab, node: RunningNode, versions: tuple[Version, Version], named: bool
) -> None:
    """As a node leaves it that crashes after it has renamed the volume, and before or after the first configuration."""
    lab.declare("db1", **DATA)
    lab.deploy("db1", versions[0])
    lab.run("db1", "echo precious > /srv/data/word")
    assert lab.deploy_killed("db1", versions[1], 7)
    for go_on, runs in ((lab.abort, 0), (lab.resume, 1)):
        record = lab.find_interrupted("db1")
        assert record is not None
        break_move(node, record, named=named)
        go_on("db1")
        assert look(lab, "db1", f"{go_on}") == runs
        lab.clear_previous()
        if runs == 0:
            assert lab.deploy_killed("db1", versions[1], 7)
    lab.remove("db1")


def break_move(node: RunningNode, record: Record, *, named: bool) -> None:
    """Rename the data volume as a move does, and take it out of the old guest's configuration, or not even that."""
    with open_config(node.node, record.old) as config:
        point = next(point for point in config.current.mount_points() if point.values.get("mp") == "/srv/data")
        storage, volume = find_volume(node.node, point)
        storage.unmount(volume)
        storage.rename(volume, record.new)
        if not named:
            del config.current.values[point.key]
            save_config(node.node, record.old, config)


def look(lab: Lab, name: str, when: str) -> int:
    """One guest runs, and has the data; nothing else is left but the guest before it. Return which version it is."""
    said = lab.run(name, "cat /srv/data/word /etc/golden").split()
    assert said[0] == "precious", when
    states = list(lab.list_guests().values())
    assert [state for state in states if "running" in state] == ["goldsmith-server running"], f"{when}: {states}"
    assert set(states) <= {"goldsmith-server running", "goldsmith-previous"}, f"{when}: {states}"
    assert len(lab.list_volumes()) == 1, when
    return ["one", "two"].index(said[1])
