"""An embedded node with real containers for the contract suite: its state in a temporary directory; root only.

The base template is shared with tests/lxc through $GOLDSMITH_TEST_CACHE; the node makes it where it is not there yet.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.node import daemon
from goldsmith.node.client import ClientAccess
from goldsmith.node.context import Node
from goldsmith.node.network import remove_network
from goldsmith.node.settings import NodeSettings
from goldsmith.pve.connection import Connection

CACHE = Path(os.environ.get("GOLDSMITH_TEST_CACHE", "/var/cache/goldsmith-tests"))
PACKAGE = "debian-12-standard"


def make_settings(state: Path) -> NodeSettings:
    """Settings that clash with no other node: the process id makes bridge and network its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    number = os.getpid()
    return NodeSettings(
        state=state, port=port, host_bridge=f"gsc{number % 100000}", network=f"10.{200 + number % 50}.0.1/16",
        disk_size=20 << 30, told_every=10.0,
    )  # fmt: skip


def connect(access: ClientAccess) -> Connection:
    """How to reach a node that `daemon.start` has started: by its pinned certificate, with our token."""
    address = access.address
    return Connection(
        address.host, address.port, token_id=access.token_id, token_secret=access.token_secret,
        fingerprint=address.fingerprint,
    )  # fmt: skip


@pytest.fixture(scope="session")
def embedded_access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientAccess]:
    """A running embedded node; at the end it is stopped and everything of it is gone."""
    if os.geteuid() != 0:
        pytest.skip("the embedded node starts containers as root")
    settings = make_settings(tmp_path_factory.mktemp("contract-node"))
    try:
        access = daemon.start(settings)
        for kept in sorted(CACHE.glob(f"{PACKAGE}_*.tar.zst"))[-1:]:
            shutil.copy(kept, Node(settings).storage("local").folder("vztmpl") / kept.name)
        yield access
    finally:
        daemon.stop(settings)
        for storage in Node(settings).storages():
            storage.close()
        remove_network(settings)
        assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(settings.state) in line]
