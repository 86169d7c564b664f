"""An embedded node without guests: its API only, no root needed, below a temporary directory."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from proxmoxer import ProxmoxAPI

from goldsmith.base.secrets import Secret
from goldsmith.node import daemon
from goldsmith.node.access.store import AccessStore
from goldsmith.node.client import ClientAccess, find_node
from goldsmith.node.settings import NodeSettings

PASSWORD = "correct horse"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Served:
    """A running node and ways to talk to it."""

    settings: NodeSettings
    access: ClientAccess

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.access.address.port}"

    @property
    def ca_file(self) -> str:
        return str(self.access.address.ca_file)

    @property
    def api(self) -> ProxmoxAPI:
        """A client with the token of root@pam that starting the node gave us."""
        return self.client(self.access.token_id, self.access.token_secret.reveal())

    def client(self, token_id: str, secret: str) -> ProxmoxAPI:
        user, name = token_id.split("!")
        return ProxmoxAPI(
            "127.0.0.1", port=self.access.address.port, user=user, token_name=name, token_value=secret,
            verify_ssl=self.ca_file, timeout=30,
        )  # fmt: skip

    def login(self, user: str = "root@pam", password: str = PASSWORD) -> ProxmoxAPI:
        return ProxmoxAPI(
            "127.0.0.1",
            port=self.access.address.port,
            user=user,
            password=password,
            verify_ssl=self.ca_file,
            timeout=30,
        )

    def request(self, verb: str, path: str, **kwargs: Any) -> requests.Response:
        """A bare request with root's token, unless `headers` say otherwise."""
        secret = self.access.token_secret.reveal()
        kwargs.setdefault("headers", {"Authorization": f"PVEAPIToken={self.access.token_id}={secret}"})
        return requests.request(verb, self.url + path, verify=self.ca_file, timeout=30, **kwargs)

    def wait(self, upid: str) -> dict[str, Any]:
        """Wait for a task's end and return its status."""
        task = self.api.nodes("pve").tasks(upid)
        while (status := task.status.get())["status"] != "stopped":
            pass
        found: dict[str, Any] = status
        return found

    def log(self, upid: str) -> list[str]:
        return [line["t"] for line in self.api.nodes("pve").tasks(upid).log.get(limit=0)]

    def kill(self) -> None:
        """End the server without a chance to tidy up."""
        os.kill(self.access.address.pid, signal.SIGKILL)
        while find_node(self.settings.state) is not None:
            pass

    def start(self) -> None:
        self.access = daemon.start(self.settings)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One node for all tests that leave it as they found it."""
    yield from serve(tmp_path_factory.mktemp("node"))


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[Served]:
    """A node of the test's own, to be killed and restarted."""
    yield from serve(tmp_path / "node")


def serve(state: Path) -> Iterator[Served]:
    settings = NodeSettings(state=state, port=free_port(), with_guests=False)
    node = Served(settings, daemon.start(settings))
    AccessStore(state / "access.json").set_password("root@pam", Secret(PASSWORD))
    yield node
    daemon.stop(settings)


@pytest.fixture
def make_user(served: Served) -> Iterator[Callable[..., str]]:
    """Make users for a test (`make_user("ansible@pve")`); they are removed at the end."""
    made: list[str] = []

    def make(name: str, **params: Any) -> str:
        served.api.access.users.post(userid=name, **params)
        made.append(name)
        return name

    yield make
    for name in made:
        served.api.access.users(name).delete()
