"""Real containers on an embedded node of the tests' own: its state in a temporary directory, its own bridge and port.

Run as root: `pytest tests/lxc`. The base template is made once and kept in $GOLDSMITH_TEST_CACHE (by default
/var/cache/goldsmith-tests), because making it takes half a minute; remove that directory for a fresh one.

Fixtures for every test of this folder: `node` (running; settings, clients, tasks), `api` (proxmoxer), `template`
(a volume id), `make_guest` (makes guests, removes them at the end), `root_ticket` (proxmoxer as root@pam itself).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI

from goldsmith.base.secrets import Secret
from goldsmith.node.settings import NodeSettings
from tests.lxc.guests import Guests, RunningNode

CACHE = Path(os.environ.get("GOLDSMITH_TEST_CACHE", "/var/cache/goldsmith-tests"))
PACKAGE = "debian-12-standard"
PASSWORD = "tests-only"
DISK_SIZE = 40 << 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say plainly why nothing runs where it cannot."""
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> NodeSettings:
    """Settings that clash with no other node: the process id makes bridge and network its own."""
    number = os.getpid() % 100
    return NodeSettings(
        state=tmp_path_factory.mktemp("node"), port=18000 + number, host_bridge=f"gst{os.getpid() % 100000}",
        network=f"10.{100 + number}.0.1/16", disk_size=DISK_SIZE, told_every=10.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def node(settings: NodeSettings) -> Iterator[RunningNode]:
    """A running node; at the end it is stopped and everything of it is gone."""
    running = RunningNode(settings)
    try:
        running.start()
        running.template = ensure_template(running)
        yield running
    finally:
        for guest in running.lxc.get():
            running.do(running.lxc(int(guest["vmid"])).delete(force=1, purge=1))
        running.remove()
        assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(settings.state) in line]


@pytest.fixture(scope="session")
def template(node: RunningNode) -> str:
    """The volume id of a Debian 12 template."""
    return node.template


@pytest.fixture
def api(node: RunningNode) -> ProxmoxAPI:
    """Proxmoxer with a token of root@pam."""
    return node.api


@pytest.fixture
def make_guest(node: RunningNode) -> Iterator[Guests]:
    """Make guests: `make_guest(start=True, memory=256, mp0="local:1,mp=/data")`; they are removed at the end."""
    guests = Guests(node)
    yield guests
    guests.remove_all()


@pytest.fixture
def root_ticket(node: RunningNode) -> ProxmoxAPI:
    """Proxmoxer as root@pam itself, with a ticket: for what no token may do."""
    node.node.access.set_password("root@pam", Secret(PASSWORD))
    address = node.address_of_node()
    return ProxmoxAPI(
        address.host, port=address.port, user="root@pam", password=PASSWORD, verify_ssl=str(address.ca_file)
    )


def ensure_template(node: RunningNode) -> str:
    """Bring the base template onto the node: from the cache, or made by the node itself and then kept there."""
    folder = node.node.storage("local").folder("vztmpl")
    kept = sorted(CACHE.glob(f"{PACKAGE}_*.tar.zst"))
    if kept:
        shutil.copy(kept[-1], folder / kept[-1].name)
        return f"local:vztmpl/{kept[-1].name}"
    appliances = node.api.nodes("pve").aplinfo.get()
    name = next(entry["template"] for entry in appliances if entry["package"] == PACKAGE)
    node.do(node.api.nodes("pve").aplinfo.post(storage="local", template=name))
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = CACHE / f".{name}.{os.getpid()}"
    shutil.copy(folder / name, partial)
    partial.rename(CACHE / name)
    return f"local:vztmpl/{name}"
