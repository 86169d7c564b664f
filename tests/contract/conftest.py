"""The servers that the contract suite runs against: fakepve, the embedded node, a real Proxmox if one is named.

GOLDSMITH_TEST_PVE_HOST, _USER (root@pam), _TOKEN_ID, _TOKEN_SECRET or _PASSWORD, _FINGERPRINT or _CA_FILE,
_NODE, _STORAGE (disks), _TEMPLATE (volume id), _BRIDGE, _VMIDS (first-last; free, and only used by the suite)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakepve import FakePve

from goldsmith.base.errors import ApiFailed, PveError
from goldsmith.base.secrets import Secret
from goldsmith.node.client import ClientAccess
from goldsmith.pve.client import NodeApi, Pve, open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount, Net

from .embedded import PACKAGE, connect, embedded_access


def pytest_configure(config: pytest.Config) -> None:
    """fakepve ends its event loop before the last connections are closed there: the server's leak, not ours."""
    for leak in ("<function _SelectorTransport.__del__", "<socket.socket "):
        config.addinivalue_line("filterwarnings", f"ignore:Exception ignored in. {leak}")


__all__ = ["embedded_access"]
TEMPLATE = "debian-12-standard_12.7-1_amd64.tar.zst"


@dataclass
class Target:
    """A server under test, and what on it the suite may use."""

    kind: str
    pve: Pve
    node: NodeApi
    storage: str
    template: str
    bridge: str
    vmids: range
    lacks: frozenset[str] = frozenset()
    """What this server cannot do, by the name that `needs` asks for."""
    created: set[int] = field(default_factory=set)

    def needs(self, *abilities: str) -> None:
        """Skip the test on a server that cannot do what it is about, and say so."""
        if missing := self.lacks.intersection(abilities):
            pytest.skip(f"{self.kind} cannot: {', '.join(sorted(missing))}")

    def spec(self, vmid: int, **changes: object) -> ContainerSpec:
        """A small container."""
        values: dict[str, object] = {
            "vmid": vmid, "ostemplate": self.template, "hostname": f"contract-{vmid}",
            "rootfs": Mount(f"{self.storage}:1"), "memory": 128, "swap": 0, "tags": ("goldsmith-contract",),
        }  # fmt: skip
        self.created.add(vmid)
        return ContainerSpec(**{**values, **changes})  # type: ignore[arg-type]

    def create(self, vmid: int, **changes: object) -> int:
        """Create a container and wait for it."""
        self.node.tasks.wait(self.node.guests.create_container(self.spec(vmid, **changes)))
        return vmid

    def net(self) -> Net:
        """A device without an address on the server's bridge."""
        return Net(bridge=self.bridge, ip="manual")

    def clean(self) -> None:
        """Remove whatever the test has made."""
        present = {guest.vmid for guest in self.node.guests.list_guests()}
        for vmid in sorted(self.created & present, reverse=True):
            with suppress(ApiFailed):
                self.node.guests.set_config(vmid, {"protection": False})
            with suppress(PveError):
                self.node.tasks.wait(self.node.guests.destroy(vmid, force=True))


def connect_fake(fake: FakePve, ca_file: Path | None, **changes: object) -> Connection:
    """How to reach a fakepve with its password login."""
    values: dict[str, object] = {
        "host": fake.host, "port": fake.port, "user": fake.user, "password": Secret(fake.password),
        "ca_file": ca_file, "timeout": 10.0,
    }  # fmt: skip
    return Connection(**{**values, **changes})  # type: ignore[arg-type]


def _fake_target(request: pytest.FixtureRequest, stack: ExitStack) -> Target:
    fake: FakePve = request.getfixturevalue("fakepve")
    ca_file: str = request.getfixturevalue("fakepve_cafile")
    fake.store_file("local", TEMPLATE, 1000, "vztmpl")
    pve = stack.enter_context(open_pve(connect_fake(fake, Path(ca_file))))
    return Target(
        kind="fakepve", pve=pve, node=pve.node("pve1"), storage="local-lvm", template=f"local:vztmpl/{TEMPLATE}",
        bridge="vmbr0", vmids=range(100, 200), lacks=frozenset({"backup", "move_volume", "feature"}),
    )  # fmt: skip


def _real_target(stack: ExitStack) -> Target:
    def given(name: str, default: str = "") -> str:
        return os.environ.get(f"GOLDSMITH_TEST_PVE_{name}", default)

    if not given("HOST"):
        pytest.skip("no GOLDSMITH_TEST_PVE_HOST in the environment: not run against a real Proxmox")
    ca_file = given("CA_FILE")
    connection = Connection(
        given("HOST"), int(given("PORT", "8006")), given("USER", "root@pam"), given("TOKEN_ID"),
        Secret(given("TOKEN_SECRET")), Secret(given("PASSWORD")), Path(ca_file) if ca_file else None,
        given("FINGERPRINT") or None,
    )  # fmt: skip
    pve = stack.enter_context(open_pve(connection))
    first, last = given("VMIDS", "9900-9999").split("-")
    storage = given("STORAGE", "local")
    return Target(
        kind="proxmox", pve=pve, node=pve.node(given("NODE", "pve")), storage=storage, template=given("TEMPLATE"),
        bridge=given("BRIDGE", "vmbr0"), vmids=range(int(first), int(last) + 1),
    )  # fmt: skip


def _embedded_target(request: pytest.FixtureRequest, stack: ExitStack) -> Target:
    access: ClientAccess = request.getfixturevalue("embedded_access")
    pve = stack.enter_context(open_pve(connect(access)))
    node = pve.node(access.address.node)
    return Target(
        kind="embedded", pve=pve, node=node, storage=node.storage.list_storages("rootdir")[0].name,
        template=node.storage.ensure_appliance("local", PACKAGE).volid, bridge="vmbr0", vmids=range(100, 200),
    )  # fmt: skip


@pytest.fixture(params=["fakepve", pytest.param("embedded", marks=pytest.mark.root), "proxmox"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Each server in turn; what a test has created there is removed afterwards."""
    with ExitStack() as stack:
        match request.param:
            case "fakepve":
                made = _fake_target(request, stack)
            case "embedded":
                made = _embedded_target(request, stack)
            case _:
                made = _real_target(stack)
        stack.callback(made.clean)
        yield made
