"""`/pools`: named sets of guests and storages, to give rights on all of them."""

from __future__ import annotations

from typing import Any

from goldsmith.node.access.store import Pool
from goldsmith.node.faults import ApiFault
from goldsmith.node.formats import split_list
from goldsmith.node.guestconf import find_kind
from goldsmith.node.guests import describe_guest
from goldsmith.node.routing import Call, method

_ALLOCATE = ("/pool/{poolid}", "Pool.Allocate")


@method("GET", "/pools")
def list_pools(call: Call) -> list[dict[str, Any]]:
    """Return the pools that the caller may see; the named one with its members."""
    wanted = call.params.get("poolid")
    pools = call.node.access.load().pools
    if wanted is not None:
        call.caller.check(f"/pool/{wanted}", "Pool.Audit")
        return [{"poolid": wanted, **_describe(call, wanted)}]
    seen = [name for name in sorted(pools) if call.caller.may(f"/pool/{name}", "Pool.Audit")]
    return [{"poolid": name, **_about(pools[name])} for name in seen]


def _about(pool: Pool) -> dict[str, Any]:
    return {"comment": pool.comment} if pool.comment else {}


def _describe(call: Call, name: str) -> dict[str, Any]:
    pool = call.node.access.load().get_pool(name)
    kept = [vmid for vmid in pool.vms if find_kind(call.node, vmid)]
    found = [describe_guest(call.node, vmid) for vmid in kept]
    guests = [{**guest, "id": f"{guest['type']}/{guest['vmid']}", "node": call.node.name} for guest in found]
    storages = [
        {"id": f"storage/{call.node.name}/{name}", "storage": name, "type": "storage", "node": call.node.name}
        for name in pool.storages
    ]
    return {**_about(pool), "members": guests + storages}


@method("GET", "/pools/{poolid}", permission=("/pool/{poolid}", "Pool.Audit"))
def get_pool(call: Call) -> dict[str, Any]:
    """Return a pool with its members."""
    return _describe(call, call.params["poolid"])


@method("POST", "/pools", permission=_ALLOCATE)
def create_pool(call: Call) -> None:
    """Make a pool."""
    name = call.params["poolid"]
    with call.node.access.change() as access:
        if name in access.pools:
            raise ApiFault(f"create pool failed: pool '{name}' already exists")
        access.pools[name] = Pool(call.params.get("comment", ""))


@method("PUT", "/pools", permission=_ALLOCATE)
@method("PUT", "/pools/{poolid}", permission=_ALLOCATE)
def update_pool(call: Call) -> None:
    """Change a pool's comment, add members or take them away."""
    params = call.params
    vms = [int(vmid) for vmid in split_list(params.get("vms", ""))]
    storages = split_list(params.get("storage", ""))
    for vmid in vms:
        call.caller.check(f"/vms/{vmid}", "VM.Allocate")
    for storage in storages:
        call.caller.check(f"/storage/{storage}", "Datastore.Allocate")
    with call.node.access.change() as access:
        pool = access.get_pool(params["poolid"])
        pool.comment = params.get("comment", pool.comment)
        if params.get("delete"):
            pool.vms = sorted({*pool.vms} - {*vms})
            pool.storages = sorted({*pool.storages} - {*storages})
            return
        for vmid in vms:
            other = access.find_pool_of(vmid)
            if other is not None and not params.get("allow-move"):
                raise ApiFault(
                    f"update pool failed: VM {vmid} belongs already to pool '{other}' and allow-move is not set"
                )
            if other is not None:
                access.pools[other].vms.remove(vmid)
        pool.vms = sorted({*pool.vms, *vms})
        pool.storages = sorted({*pool.storages, *storages})


@method("DELETE", "/pools", permission=_ALLOCATE)
@method("DELETE", "/pools/{poolid}", permission=_ALLOCATE)
def delete_pool(call: Call) -> None:
    """Remove an empty pool."""
    name = call.params["poolid"]
    with call.node.access.change() as access:
        pool = access.get_pool(name)
        if pool.vms or pool.storages:
            raise ApiFault(f"delete pool failed: pool '{name}' is not empty")
        del access.pools[name]
        access.acl = [entry for entry in access.acl if entry.path != f"/pool/{name}"]
