"""Containers of one node: finding, creating, changing, running and removing them. Long work gives a UPID back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from goldsmith.base.errors import ApiFailed, GuestError, GuestUnready, NotOurs
from goldsmith.pve.answers import Entry, Upid, VmId, read_entries, read_upid
from goldsmith.pve.console.invitation import Invitation
from goldsmith.pve.containers import (
    ContainerConfig,
    ContainerSpec,
    GuestStatus,
    Interface,
    Snapshot,
    parse_config,
    parse_interface,
    parse_snapshot,
    parse_status,
)
from goldsmith.pve.door import Door, Parameter
from goldsmith.pve.properties import parse_tags
from goldsmith.pve.slots import limit_copying, limit_making
from goldsmith.pve.tasks import FIRST_PAUSE, LONGEST_PAUSE, Tasks

Kind = Literal["lxc", "qemu"]
Value = Parameter


@dataclass(frozen=True)
class Guest:
    """A guest as a list shows it."""

    vmid: VmId
    kind: Kind
    node: str
    name: str = ""
    running: bool = False
    tags: tuple[str, ...] = ()
    template: bool = False
    lock: str = ""
    pool: str = ""


def parse_guest(entry: Entry, node: str = "", kind: Kind = "lxc") -> Guest:
    """Parse an entry of /cluster/resources (which names node and type itself) or of /nodes/N/lxc."""
    named: Kind = "qemu" if entry.text("type", kind) == "qemu" else "lxc"
    return Guest(
        VmId(entry.number("vmid")),
        named,
        entry.text("node", node),
        entry.text("name"),
        entry.text("status") == "running",
        parse_tags(entry.text("tags")),
        entry.flag("template"),
        entry.text("lock"),
        entry.text("pool"),
    )


def has_vmid_clash(error: ApiFailed) -> bool:
    """Tell whether a create was refused because somebody has taken the vmid (wordings of PVE 7 to 9)."""
    said = " ".join([error.reason, *error.errors.values()])
    return "already exists" in said or "already used" in said


def has_no_guest(error: ApiFailed) -> bool:
    """Tell whether a call was refused as there is no such guest (PVE 8.4: `Configuration file ... does not exist`).

    Any other error tells nothing about that: the guest may be there.
    """
    return "does not exist" in error.reason and ".conf" in error.reason


class Guests:
    """Containers of one node."""

    def __init__(self, door: Door, node: str, tasks: Tasks) -> None:
        self._door = door
        self._node = node
        self._tasks = tasks

    def list_guests(self) -> list[Guest]:
        """Return the containers and virtual machines of this node as they are now, by vmid."""
        found = [*self._list_kind("lxc"), *self._list_kind("qemu")]
        return sorted(found, key=lambda guest: guest.vmid)

    def list_containers(self) -> list[Guest]:
        """Return the containers of this node as they are now, by vmid."""
        return sorted(self._list_kind("lxc"), key=lambda guest: guest.vmid)

    def _list_kind(self, kind: Kind) -> list[Guest]:
        try:
            entries = read_entries(self._door.get(f"/nodes/{self._node}/{kind}"))
        except ApiFailed as error:
            if error.status == 501:  # "not implemented": a node without that kind of guests has none
                return []
            raise
        return [parse_guest(entry, self._node, kind) for entry in entries]

    def find_guest(self, vmid: int) -> Guest | None:
        """Find a guest of this node."""
        return next((guest for guest in self.list_guests() if guest.vmid == vmid), None)

    def get_config(self, vmid: int, *, snapshot: str = "") -> ContainerConfig:
        """Return a container's configuration, or what it was when a snapshot was made.

        :raises ApiFailed: there is no such container.
        """
        return parse_config(self._door.get(f"{self._path(vmid)}/config", snapshot=snapshot or None))

    def get_status(self, vmid: int) -> GuestStatus:
        """Return how a container is at this moment."""
        return parse_status(self._door.get(f"{self._path(vmid)}/status/current"))

    def list_interfaces(self, vmid: int) -> list[Interface]:
        """Return a running container's interfaces, seen from inside; a stopped one has none."""
        return [parse_interface(entry) for entry in read_entries(self._door.get(f"{self._path(vmid)}/interfaces"))]

    def invite(self, vmid: int) -> Invitation:
        """Have a running container's console opened; its websocket has to be at the place that answers now.

        There the node's side listens on its own loopback address, ten seconds long (PVE 8.4).
        """
        answer = Entry(self._door.post(f"/nodes/{self._node}/lxc/{vmid}/termproxy"))
        port, user, ticket = answer.number("port"), answer.text("user"), answer.text("ticket")
        return Invitation(self._path(vmid), port, user, ticket, self._door.introduce())

    def create_container(self, spec: ContainerSpec) -> Upid:
        """Create a container, when the node and the storage have room for one more; it is not started.

        :raises ApiFailed: refused; `has_vmid_clash` tells whether the vmid was taken.
        """
        path, places = f"/nodes/{self._node}/lxc", limit_making(self._node, spec.disk_storage)
        return self._tasks.begin(places, lambda: read_upid(self._door.post(path, spec.as_parameters())))

    def create_in_range(
        self, vmids: Iterable[int], make_spec: Callable[[int], ContainerSpec]
    ) -> tuple[ContainerSpec, Upid]:
        """Create a container under the first free vmid of `vmids`; one that somebody else takes first is passed over.

        Nothing reserves a vmid but the create itself, so the node's refusal decides, not a list read before it.

        :raises NotOurs: all of them are taken.
        """
        tried = 0
        for vmid in self._free_of(vmids):
            spec = make_spec(vmid)
            tried += 1
            try:
                return spec, self.create_container(spec)
            except ApiFailed as error:
                if not has_vmid_clash(error):
                    raise
        raise NotOurs(
            f"no free vmid on {self._node}: all are taken" + (f" ({tried} while we tried)" if tried else ""),
            hint="remove guests that are not needed, or choose another range",
        )

    def _free_of(self, vmids: Iterable[int]) -> Iterator[int]:
        taken = {guest.vmid for guest in self.list_guests()}
        return (vmid for vmid in vmids if vmid not in taken)

    def set_config(
        self, vmid: int, changes: Mapping[str, Value], *, delete: Iterable[str] = (), digest: str = ""
    ) -> None:
        """Change a container's configuration; what cannot change while it runs is pending until its next start.

        :param digest: that of the configuration the change is based on; refused when it is no longer the same.
        :raises GuestError: `rootfs` of an existing container: Proxmox would put an empty disk in its place (PVE 8.4).
        """
        if "rootfs" in changes:
            raise GuestError(f"the root disk of container {vmid} is never changed in place")
        parameters = {**changes, "delete": ",".join(delete) or None, "digest": digest or None}
        self._door.put(f"{self._path(vmid)}/config", parameters)

    def start(self, vmid: int) -> Upid:
        """Start a container."""
        return self._power(vmid, "start")

    def shutdown(self, vmid: int, *, timeout: int = 60, force_stop: bool = False) -> Upid:
        """Ask the container's init to shut down; after `timeout` seconds it fails, or is stopped."""
        return self._power(vmid, "shutdown", {"timeout": timeout, "forceStop": force_stop})

    def stop(self, vmid: int) -> Upid:
        """Kill a container's processes at once."""
        return self._power(vmid, "stop")

    def reboot(self, vmid: int, *, timeout: int = 60) -> Upid:
        """Shut down and start again; pending changes are applied."""
        return self._power(vmid, "reboot", {"timeout": timeout})

    def destroy(self, vmid: int, *, force: bool = False, purge: bool = False) -> Upid:
        """Remove a container and the volumes it owns (`unusedN` too), never any that merely bear its number.

        :param force: stop it first when it runs.
        :param purge: also remove it from backup jobs and HA.
        """
        return read_upid(self._door.delete(self._path(vmid), {"force": force, "purge": purge}))

    def clone(
        self, vmid: int, newid: int, *, hostname: str = "", full: bool | None = None, storage: str = "",
        snapshot: str = "", pool: str = "", description: str = "",
    ) -> Upid:  # fmt: skip
        """Copy a container, or one of its snapshots, when nobody copies it and the node has room for one more.

        A template is cloned on write unless `full`.
        """
        texts = {
            "hostname": hostname,
            "storage": storage,
            "snapname": snapshot,
            "pool": pool,
            "description": description,
        }
        given = {name: text for name, text in texts.items() if text}
        path, parameters = f"{self._path(vmid)}/clone", {"newid": newid, "full": full, **given}
        places = {**limit_copying(self._node, vmid), **limit_making(self._node, storage)}
        return self._tasks.begin(places, lambda: read_upid(self._door.post(path, parameters)))

    def make_template(self, vmid: int, *, timeout: float = 600.0) -> None:
        """Turn a stopped container into a template and wait for it: Proxmox does it in a task that it does not name.

        :raises GuestUnready: it did not become one in time.
        """
        self._door.post(f"{self._path(vmid)}/template")
        deadline, pause = time.monotonic() + timeout, FIRST_PAUSE
        while not self.get_config(vmid).template or self._tasks.list_running(vmid):
            if time.monotonic() > deadline:
                raise GuestUnready(f"container {vmid} did not become a template within {timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def list_snapshots(self, vmid: int) -> list[Snapshot]:
        """Return a container's snapshots, oldest first; the running state (`current`) is none."""
        entries = read_entries(self._door.get(f"{self._path(vmid)}/snapshot"))
        found = [parse_snapshot(entry) for entry in entries if entry.text("name") != "current"]
        return sorted(found, key=lambda snapshot: (snapshot.time, snapshot.name))

    def create_snapshot(self, vmid: int, name: str, *, description: str = "") -> Upid:
        """Make a snapshot. `name` has at least two characters, a letter first (PVE 8.4)."""
        parameters: dict[str, Parameter] = {"snapname": name, "description": description or None}
        return read_upid(self._door.post(f"{self._path(vmid)}/snapshot", parameters))

    def rollback(self, vmid: int, name: str) -> Upid:
        """Bring a container back to a snapshot; a running one is stopped and stays so."""
        return read_upid(self._door.post(f"{self._path(vmid)}/snapshot/{name}/rollback"))

    def delete_snapshot(self, vmid: int, name: str) -> Upid:
        """Remove a snapshot."""
        return read_upid(self._door.delete(f"{self._path(vmid)}/snapshot/{name}"))

    def has_feature(self, vmid: int, feature: str, *, snapshot: str = "") -> bool:
        """Tell whether a container's storages can `snapshot`, `clone` or `copy` it."""
        answer = self._door.get(f"{self._path(vmid)}/feature", feature=feature, snapname=snapshot or None)
        return Entry(answer).flag("hasFeature")

    def move_volume(
        self, vmid: int, volume: str, *, storage: str = "", delete: bool = False,
        target_vmid: int | None = None, target_volume: str = "",
    ) -> Upid:  # fmt: skip
        """Move `mpN` to another storage (a copy; the old one stays as unused unless `delete`) or to another container.

        The latter is a rename on the same storage: the source must be stopped, the target may run (PVE 8.4).
        """
        parameters: dict[str, Parameter] = {
            "volume": volume,
            "storage": storage or None,
            "delete": delete or None,
            "target-vmid": target_vmid,
            "target-volume": target_volume or None,
        }
        return read_upid(self._door.post(f"{self._path(vmid)}/move_volume", parameters))

    def resize(self, vmid: int, disk: str, size: str) -> Upid:
        """Grow `rootfs` or `mpN` to `8G`, or by `+1G`."""
        return read_upid(self._door.put(f"{self._path(vmid)}/resize", {"disk": disk, "size": size}))

    def _path(self, vmid: int) -> str:
        return f"/nodes/{self._node}/lxc/{vmid}"

    def _power(self, vmid: int, action: str, parameters: Mapping[str, Parameter] | None = None) -> Upid:
        return read_upid(self._door.post(f"{self._path(vmid)}/status/{action}", parameters))
