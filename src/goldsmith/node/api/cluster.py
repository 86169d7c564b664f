"""`/version` and `/cluster`: what there is on the node as a whole."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from goldsmith.node.api.nodes import describe_node
from goldsmith.node.api.tasks import list_recent
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.guestconf import find_kind, list_all_vmids
from goldsmith.node.guests import TYPES, list_guests, load_options
from goldsmith.node.routing import Call, method
from goldsmith.node.version import REPOID, get_release

FIRST_VMID, LAST_VMID = 100, 999_999_999


@method("GET", "/version")
def get_version(call: Call) -> dict[str, str]:
    """Return which Proxmox VE we speak like."""
    version = call.node.settings.pve_version
    return {"version": version, "release": get_release(version), "repoid": REPOID}


@method("GET", "/cluster")
def index(call: Call) -> list[dict[str, str]]:
    """Return what there is below."""
    del call
    return [{"name": name} for name in ("resources", "tasks", "nextid", "status")]


@method("GET", "/cluster/nextid")
def next_id(call: Call) -> str:
    """Return a free vmid, or the one that is asked for if it is free."""
    wanted = call.params.get("vmid")
    if wanted is not None:
        if find_kind(call.node, wanted):
            raise ParameterFault({"vmid": f"VM {wanted} already exists"})
        return str(wanted)
    for vmid in range(FIRST_VMID, LAST_VMID):
        if not find_kind(call.node, vmid):
            return str(vmid)
    raise ApiFault("unable to get any free VMID")


@method("GET", "/cluster/status")
def get_status(call: Call) -> list[dict[str, Any]]:
    """Return the only member."""
    name = call.node.name
    member = {"id": f"node/{name}", "name": name, "type": "node", "nodeid": 0, "local": 1, "online": 1, "level": ""}
    return [{**member, "ip": "127.0.0.1"}]


@method("GET", "/cluster/tasks")
def tasks(call: Call) -> list[dict[str, Any]]:
    """Return the running and last tasks that the caller may see."""
    return list_recent(call.node, call.caller)


@method("GET", "/cluster/backup", permission=("/", "Sys.Audit"))
def list_backup_jobs(call: Call) -> list[dict[str, Any]]:
    """Return the scheduled backups: there are none, only those that somebody asks for."""
    del call
    return []


@method("GET", "/cluster/resources")
def resources(call: Call) -> list[dict[str, Any]]:
    """Return pools, guests, the node and storages that the caller may see."""
    makers = {"vm": [_list_guests], "storage": [_list_storages], "node": [_list_node], "sdn": []}
    wanted = call.params.get("type")
    chosen = makers[wanted] if wanted else [_list_pools, _list_guests, _list_node, _list_storages]
    return [entry for make in chosen for entry in make(call)]


def _list_pools(call: Call) -> list[dict[str, Any]]:
    names = [name for name in call.node.access.load().pools if call.caller.may(f"/pool/{name}", "Pool.Audit")]
    return [{"id": f"/pool/{name}", "pool": name, "type": "pool"} for name in names]


class Told:
    """What a node tells its cluster of its guests now and then (`told_every`): names, states and numbers.

    What is asked in between is as old as that; only tags, locks and vmids are those of now (PVE::API2Tools, which
    reads them of the cluster's file system). Here it is told when somebody asks.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._told: dict[Path, tuple[float, dict[int, dict[str, Any]]]] = {}

    def read(self, node: Node) -> dict[int, dict[str, Any]]:
        """Return what was told last, by vmid."""
        with self._lock:
            when, told = self._told.get(node.settings.state, (float("-inf"), {}))
            if time.monotonic() - when > node.settings.told_every:
                told = {guest["vmid"]: guest for guest in list_guests(node)}
                self._told[node.settings.state] = (time.monotonic(), told)
            return told


_TOLD = Told()
_NOT_TOLD = frozenset(("cpus", "swap", "maxswap", "pid", "tags", "lock", "serial", "qmpstatus"))


def _list_guests(call: Call) -> list[dict[str, Any]]:
    access, told, found = call.node.access.load(), _TOLD.read(call.node), []
    for vmid in list_all_vmids(call.node):
        if call.caller.may(f"/vms/{vmid}", "VM.Audit"):
            kind = TYPES.get(find_kind(call.node, vmid), "lxc")
            entry = {"id": f"{kind}/{vmid}", "vmid": vmid, "node": call.node.name, "type": kind, "status": "unknown"}
            if guest := told.get(vmid):
                known = {key: value for key, value in guest.items() if key not in _NOT_TOLD}
                entry |= {"template": 0, **known, "maxcpu": guest["cpus"]}
            pool = access.find_pool_of(vmid)
            found.append({**entry, **_read_present(call.node, vmid), **({"pool": pool} if pool else {})})
    return found


def _read_present(node: Node, vmid: int) -> dict[str, str]:
    with suppress(ApiFault):  # it has just gone
        options = load_options(node, vmid)
        return {key: options.get(key) for key in ("tags", "lock") if options.get(key)}
    return {}


def _list_node(call: Call) -> list[dict[str, Any]]:
    return [describe_node(call)]


def _list_storages(call: Call) -> list[dict[str, Any]]:
    found = []
    for storage in call.node.storages():
        path = f"/storage/{storage.id}"
        if call.caller.may(path, "Datastore.Audit", "Datastore.AllocateSpace", any_of=True):
            space = storage.space()
            found.append({
                "id": f"storage/{call.node.name}/{storage.id}", "type": "storage", "storage": storage.id,
                "node": call.node.name, "status": "available", "plugintype": storage.type, "shared": 0,
                "content": ",".join(sorted(storage.content)), "disk": space.used, "maxdisk": space.total,
            })  # fmt: skip
    return found
