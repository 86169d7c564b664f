"""A Proxmox as the rest of goldsmith sees it: `open_pve(connection)` gives a `Pve`, `pve.node(name)` one node of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from goldsmith.base.errors import ApiFailed, NodeUnreachable, PermissionMissing, PveError
from goldsmith.pve.agent import Agent
from goldsmith.pve.answers import Entry, VmId, read_entries
from goldsmith.pve.backup import Backups
from goldsmith.pve.connection import Connection, Endpoint
from goldsmith.pve.door import Door, describe_user
from goldsmith.pve.firewall import Firewalls
from goldsmith.pve.guests import Guest, Guests, parse_guest
from goldsmith.pve.membership import Memberships
from goldsmith.pve.storage import Storages
from goldsmith.pve.tasks import Tasks

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "armv7l": "arm"}
"""Names of architectures as OCI and Debian have them, by what a kernel says."""
BRIDGES = ("bridge", "OVSBridge", "vnet")
"""The types of network interfaces that a guest's device can be put on."""


@dataclass(frozen=True, order=True)
class PveVersion:
    """A Proxmox VE version; ordered by number. `text` is the whole of it, e.g. `8.4.21`."""

    major: int
    minor: int
    patch: int = 0
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text or f"{self.major}.{self.minor}.{self.patch}"


def parse_version(text: str) -> PveVersion:
    """Parse `8.4.21`, `8.4-1` or `9.0.0~9`.

    :raises PveError: it is none.
    """
    found = re.match(r"(\d+)\.(\d+)(?:[.-](\d+))?", text)
    if not found:
        raise PveError(f"'{text}' is no version of Proxmox VE")
    return PveVersion(int(found[1]), int(found[2]), int(found[3] or 0), text)


IMAGES_SINCE = PveVersion(9, 1, text="9.1")
"""The version that pulls container images, and makes guests of them (pve-storage 9.0.17)."""


@dataclass(frozen=True)
class NodeState:
    """A node of the cluster. Numbers are 0 where we may not see them. Memory in bytes."""

    name: str
    online: bool
    cpus: int = 0
    memory: int = 0
    memory_used: int = 0


class NodeApi:
    """Everything on one node: its guests, storages, tasks and backups."""

    def __init__(self, door: Door, name: str) -> None:
        self.name = name
        self._door = door
        self._slots = door.connection.slots

    @cached_property
    def tasks(self) -> Tasks:
        """Waiting for tasks, their logs, stopping them."""
        return Tasks(self._door, self.name, self._slots)

    @cached_property
    def guests(self) -> Guests:
        """Making, changing, running and removing containers."""
        return Guests(self._door, self.name, self.tasks)

    @cached_property
    def storage(self) -> Storages:
        """Storages and what is in them."""
        return Storages(self._door, self.name, self.tasks)

    @cached_property
    def firewalls(self) -> Firewalls:
        """The firewalls of its containers."""
        return Firewalls(self._door, self.name)

    def get_agent(self, vmid: int) -> Agent:
        """Return the guest agent of a virtual machine. Nothing is sent yet."""
        return Agent(self._door, self.name, vmid)

    @cached_property
    def version(self) -> PveVersion:
        """What this node runs; the nodes of a cluster that is being upgraded differ. Read once."""
        return parse_version(Entry(self._door.get(f"/nodes/{self.name}/version")).text("version"))

    @property
    def takes_images(self) -> bool:
        """Whether it pulls container images from a registry, and makes guests of their archives."""
        return self.version >= IMAGES_SINCE

    def list_bridges(self) -> list[str]:
        """Return what guests can be connected to: bridges, and vnets where there is SDN, as far as we may see them."""
        found = read_entries(self._door.get(f"/nodes/{self.name}/network", type="any_bridge"))
        return sorted(entry.text("iface") for entry in found if entry.text("type") in BRIDGES)

    def read_architecture(self) -> str:
        """Return the node's architecture, by Debian's name.

        Where we may not see it (Sys.Audit), or it does not say (before PVE 8), it is amd64: Proxmox is made for that.
        """
        try:
            kernel = Entry(self._door.get(f"/nodes/{self.name}/status")).get("current-kernel")
        except PermissionMissing:
            kernel = None
        machine = Entry(kernel or {}).text("machine", "x86_64")
        return ARCHITECTURES.get(machine, machine)

    @cached_property
    def backups(self) -> Backups:
        """Dumping guests into archives (vzdump)."""
        return Backups(self._door, self.name, self.tasks, self.storage)


class Pve:
    """A Proxmox: one node, or a cluster reached through one of its nodes."""

    def __init__(self, connection: Connection, door: Door | None = None) -> None:
        self.connection = connection
        self._door = door or Door(connection)
        self._nodes: dict[str, NodeApi] = {}

    @property
    def user(self) -> str:
        """Who we are there: `root@pam`, or `root@pam!token`."""
        return describe_user(self.connection)

    @property
    def endpoint(self) -> Endpoint:
        """Which of the connection's places is asked now."""
        return self._door.endpoint

    def version(self) -> PveVersion:
        """Return the version that answers."""
        return parse_version(Entry(self._door.get("/version")).text("version"))

    def nodes(self) -> list[NodeState]:
        """Return the cluster's nodes by name."""
        found = [
            NodeState(
                entry.text("node"), entry.text("status") == "online", entry.number("maxcpu"),
                entry.number("maxmem"), entry.number("mem"),
            )
            for entry in read_entries(self._door.get("/nodes"))
        ]  # fmt: skip
        return sorted(found, key=lambda node: node.name)

    def find_address(self, node: str) -> str:
        """Return where a node of the cluster is reached: the place that answers us, or the address that it tells.

        Without the right to see that (Sys.Audit on /), its name.
        """
        try:
            members = read_entries(self._door.get("/cluster/status"))
        except PermissionMissing:
            members = []
        for member in members:
            if member.text("type") == "node" and member.text("name") == node:
                return self.endpoint.host if member.flag("local") else member.text("ip", node)
        return node if members or len(self.nodes()) > 1 else self.endpoint.host

    def node(self, name: str) -> NodeApi:
        """Return one node's API. Nothing is sent yet."""
        return self._nodes.setdefault(name, NodeApi(self._door, name))

    def list_guests(self) -> list[Guest]:
        """Return all guests of the cluster that we may see, by vmid.

        Vmids, nodes, tags and locks are those of now. Names and whether they run are what each node has told last, up
        to ten seconds ago (pvestatd); a guest that is younger has no name, one that was being made then `CT<vmid>`.
        """
        entries = read_entries(self._door.get("/cluster/resources", type="vm"))
        return sorted((parse_guest(entry) for entry in entries), key=lambda guest: guest.vmid)

    def look_again(self, guests: Iterable[Guest]) -> list[Guest]:
        """Return guests of the cluster's list, by vmid, with the containers as their nodes have them now.

        Those of a node that does not answer stay as they are.
        """
        listed = {guest.vmid: guest for guest in guests}
        for node in sorted({guest.node for guest in listed.values() if guest.kind == "lxc"}):
            if (found := self._list_containers(node)) is None:
                continue
            known = {vmid: guest for vmid, guest in listed.items() if (guest.node, guest.kind) == (node, "lxc")}
            listed = {vmid: guest for vmid, guest in listed.items() if vmid not in known}
            listed |= {
                vmid: replace(guest, pool=known[vmid].pool) if vmid in known else guest for vmid, guest in found.items()
            }
        return sorted(listed.values(), key=lambda guest: guest.vmid)

    def _list_containers(self, node: str) -> dict[VmId, Guest] | None:
        try:
            return {guest.vmid: guest for guest in self.node(node).guests.list_containers()}
        except NodeUnreachable:
            return None

    def find_guest(self, vmid: int) -> Guest | None:
        """Find a guest anywhere in the cluster."""
        return next((guest for guest in self.list_guests() if guest.vmid == vmid), None)

    def next_vmid(self) -> VmId:
        """Return the lowest free vmid. Nothing is reserved: somebody else may take it first."""
        return VmId(int(str(self._door.get("/cluster/nextid"))))

    def is_free(self, vmid: int) -> bool:
        """Tell whether no guest of the cluster has a vmid, guests that we may not see among them."""
        try:
            self._door.get("/cluster/nextid", vmid=vmid)
        except ApiFailed as error:
            if "already exists" in error.errors.get("vmid", error.reason):
                return False
            raise
        return True

    def find_privileges(self, path: str) -> frozenset[str]:
        """Return our privileges on one ACL path (`/vms/900`), be they granted there or further up.

        The answer's values say whether a privilege propagates, not whether it is there (PVE::RPCEnvironment).
        """
        answer = Entry(self._door.get("/access/permissions", path=path))
        return frozenset(privilege for held in answer.values() for privilege in Entry(held))

    def list_roles(self) -> list[str]:
        """Return the names of all roles."""
        return sorted(entry.text("roleid") for entry in read_entries(self._door.get("/access/roles")))

    def read_clock(self) -> float | None:
        """Return how many seconds the node's clock is ahead of ours, to a second or two; None where it does not say."""
        self.version()
        return self._door.clock_ahead

    @cached_property
    def memberships(self) -> Memberships:
        """HA, replication and backup jobs of its guests."""
        return Memberships(self._door)

    def fork(self) -> Pve:
        """Return the same for another thread, with connections of its own."""
        return Pve(self.connection, self._door.fork())

    def close(self) -> None:
        """Close all connections."""
        self._door.close()


@contextmanager
def open_pve(connection: Connection) -> Iterator[Pve]:
    """Talk to a Proxmox while the block runs. The first call connects and authenticates."""
    pve = Pve(connection)
    try:
        yield pve
    finally:
        pve.close()
