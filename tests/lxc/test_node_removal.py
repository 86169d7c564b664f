"""A node that is removed is gone: guests that run, their data, mounts, bridge, rules and directory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.base.errors import NodeServiceError
from goldsmith.node import daemon
from goldsmith.node.settings import NodeSettings
from tests.lxc.conftest import ensure_template
from tests.lxc.guests import Guests, RunningNode, list_traces

pytestmark = pytest.mark.root


@pytest.fixture
def other(settings: NodeSettings, tmp_path: Path) -> Iterator[RunningNode]:
    """A second node beside that of the session."""
    own = replace(
        settings, state=tmp_path / "node", port=settings.port + 500, host_bridge=f"gsr{os.getpid() % 100000}",
        network="10.99.0.1/16",
    )  # fmt: skip
    running = RunningNode(own)
    running.start()
    running.template = ensure_template(running)
    yield running
    running.remove()


def test_a_removed_node_leaves_nothing(other: RunningNode) -> None:
    guests = Guests(other)
    guests(start=True, mp0="local:1,mp=/data")
    guests()
    assert list_traces(other.settings)
    daemon.remove(other.settings)
    assert list_traces(other.settings) == []
    daemon.remove(other.settings)  # there is none: no failure


def test_a_mount_inside_its_directory_stops_the_removal_before_any_file_goes(
    other: RunningNode, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious").write_text("data")
    place = other.settings.state / "extra"
    place.mkdir()
    subprocess.run(["mount", "--bind", str(theirs), str(place)], check=True)
    try:
        with pytest.raises(NodeServiceError, match="still mounted; nothing was removed"):
            daemon.remove(other.settings)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert (theirs / "precious").read_text() == "data"
    assert (other.settings.state / "settings.json").exists()


def held(settings: NodeSettings) -> list[str]:
    """What of the machine a node holds: everything but its directory."""
    return [found for found in list_traces(settings) if found != str(settings.state)]


def test_a_stopped_node_without_running_guests_holds_nothing_and_has_everything_again_when_it_starts(
    other: RunningNode,
) -> None:
    guest = Guests(other)(start=True).wait_booted()
    guest.shutdown()
    daemon.stop(other.settings)
    assert held(other.settings) == []
    other.start()
    assert guest.start().wait_booted().sh("id -u") == "0"


def test_a_stopped_node_keeps_what_a_running_guest_needs(other: RunningNode) -> None:
    guest = Guests(other)(start=True).wait_booted()
    daemon.stop(other.settings)
    assert held(other.settings)
    assert "10.99.0.1" in guest.sh("ip neigh; ip route")
    other.start()
    assert guest.status == "running"
