"""Sharing the embedded node, with real ones: without guests they need no root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.base.errors import Interrupted, LockTaken
from goldsmith.base.events import Event, Events, Notice
from goldsmith.cli import node_users
from goldsmith.cli.node_users import NodeMark, keep_node, open_node, remove_node, stop_node
from goldsmith.node import daemon
from goldsmith.node.client import find_node
from goldsmith.node.settings import NodeSettings
from tests.unit.cli.nodes import make_settings
from tests.unit.cli.running import make_environment


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[NodeSettings]:
    made = make_settings(tmp_path / "node")
    yield made
    daemon.stop(made)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def quiet() -> Events:
    return Events()


def test_a_build_starts_the_node_and_stops_it_again(settings: NodeSettings, state: Path) -> None:
    heard: list[Event] = []
    with open_node(settings, state, Events(heard.append)) as access:
        assert find_node(settings.state) == access.address
    assert find_node(settings.state) is None
    assert [event.message for event in heard if isinstance(event, Notice)] == ["starting the embedded node"]


def test_a_program_that_is_just_being_started_does_not_keep_the_node(settings: NodeSettings, state: Path) -> None:
    """Until it has become another one, it has open what we have open."""
    with open_node(settings, state, quiet()) as access:
        held = [
            int(link.name) for link in Path("/proc/self/fd").iterdir()
            if link.is_symlink() and os.path.realpath(link) == str(access.address.ca_file)
        ]  # fmt: skip
        assert len(held) == 1
        copy = os.dup(held[0])
    try:
        assert find_node(settings.state) is None
    finally:
        os.close(copy)


def test_the_last_of_two_builds_stops_it(settings: NodeSettings, state: Path) -> None:
    with open_node(settings, state, quiet()) as first:
        other = open_node(settings, state, quiet())
        assert other.__enter__().address.pid == first.address.pid
    assert find_node(settings.state) == first.address  # the one that started it has left, the other has not
    other.__exit__(None, None, None)
    assert find_node(settings.state) is None


def test_a_node_that_somebody_has_started_stays(settings: NodeSettings, state: Path) -> None:
    address = keep_node(settings, state).address
    with open_node(settings, state, quiet()):
        pass
    assert find_node(settings.state) == address


def test_node_start_during_a_build_makes_it_stay(settings: NodeSettings, state: Path) -> None:
    with open_node(settings, state, quiet()) as access:
        keep_node(settings, state)
    assert find_node(settings.state) == access.address


def test_a_node_in_use_is_stopped_by_force_only(settings: NodeSettings, state: Path) -> None:
    with open_node(settings, state, quiet()):
        with pytest.raises(LockTaken, match="a build uses the embedded node"):
            stop_node(settings)
        with pytest.raises(LockTaken, match="a build uses the embedded node"):
            remove_node(settings)
        assert find_node(settings.state) is not None
        assert stop_node(settings, force=True)
        assert find_node(settings.state) is None
    assert not stop_node(settings)


HOLD = """
import sys
from pathlib import Path
from goldsmith.base.events import Events
from goldsmith.cli.node_users import open_node
from goldsmith.node.settings import NodeSettings

with open_node(NodeSettings.load(Path(sys.argv[1])), Path(sys.argv[2]), Events()):
    print("open", flush=True)
    sys.stdin.readline()
"""


def hold(settings: NodeSettings, state: Path, home: Path) -> subprocess.Popen[str]:
    """Use the node in another process, until it is told to end or killed."""
    settings.state.mkdir(parents=True, exist_ok=True)
    settings.save()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, settings.state, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=make_environment(home),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_the_node_of_a_killed_build_is_stopped_by_the_next_one(
    settings: NodeSettings, state: Path, tmp_path: Path
) -> None:
    process = hold(settings, state, tmp_path)
    process.kill()
    process.communicate()
    address = find_node(settings.state)
    assert address is not None
    with open_node(settings, state, quiet()) as access:
        assert access.address == address
    assert find_node(settings.state) is None


def test_a_build_in_another_process_keeps_it(settings: NodeSettings, state: Path, tmp_path: Path) -> None:
    process = hold(settings, state, tmp_path)
    with open_node(settings, state, quiet()):
        pass
    assert find_node(settings.state) is not None
    process.communicate("\n", timeout=30)
    assert find_node(settings.state) is None


def test_a_killed_server_is_started_again(settings: NodeSettings, state: Path) -> None:
    with open_node(settings, state, quiet()) as first:
        os.kill(first.address.pid, signal.SIGKILL)
        while find_node(settings.state) is not None:
            pass
        with open_node(settings, state, quiet()) as second:
            assert second.address.pid != first.address.pid
        assert find_node(settings.state) is None


@pytest.mark.slow
def test_many_builds_at_once_never_lose_it(settings: NodeSettings, state: Path, tmp_path: Path) -> None:
    """Each of two processes comes and goes as it likes; none ever stands without a node."""
    settings.state.mkdir(parents=True)
    settings.save()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from goldsmith.base.events import Events\n"
        "from goldsmith.cli.node_users import open_node\n"
        "from goldsmith.node.client import find_node\n"
        "from goldsmith.node.settings import NodeSettings\n"
        "settings = NodeSettings.load(Path(sys.argv[1]))\n"
        "for _ in range(3):\n"
        "    with open_node(settings, Path(sys.argv[2]), Events()) as access:\n"
        "        assert find_node(settings.state) == access.address\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, settings.state, state], stderr=subprocess.PIPE, text=True,
            env=make_environment(tmp_path),
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.communicate(timeout=90)[1] == ""
        assert process.returncode == 0
    assert find_node(settings.state) is None


def test_an_interrupted_start_leaves_no_node(
    settings: NodeSettings, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = daemon.start

    def start_and_be_interrupted(wanted: NodeSettings) -> None:
        real(wanted)
        raise Interrupted

    monkeypatch.setattr(node_users.daemon, "start", start_and_be_interrupted)
    with pytest.raises(Interrupted), open_node(settings, state, quiet()):
        pass
    assert find_node(settings.state) is None


def test_a_mark_counts_for_its_own_process_only(settings: NodeSettings, state: Path) -> None:
    address = keep_node(settings, state).address
    mark = NodeMark(settings, state)
    assert not mark.is_of(address)
    mark.put(address)
    assert mark.is_of(address)
    assert not mark.is_of(replace(address, pid=address.pid + 1))
    assert not mark.is_of(None)
