"""`/nodes/{node}/lxc/{vmid}`: `snapshot*`, `clone`, `template`, `resize`, `move_volume`."""

from __future__ import annotations

from typing import Any

from goldsmith.node.api.lxc_rights import Rights
from goldsmith.node.faults import ApiFault, PermissionFault
from goldsmith.node.guestconf import check_free, render_json
from goldsmith.node.lxc.config import abandon_guest, create_config, has_config, load_config, open_config, save_config
from goldsmith.node.lxc.copies import CloneRequest, check_clone, check_template, run_clone, run_template
from goldsmith.node.lxc.options import render_option
from goldsmith.node.lxc.snapshots import get_snapshot, list_snapshots, run_delete_snapshot, run_rollback, run_snapshot
from goldsmith.node.lxc.volumes import (
    MoveRequest,
    check_reassign,
    check_storage_move,
    get_point,
    plan_size,
    run_reassign,
    run_resize,
    run_storage_move,
)
from goldsmith.node.routing import Call, method

_SNAPSHOTS = "/nodes/{node}/lxc/{vmid}/snapshot"
_SNAPSHOT = _SNAPSHOTS + "/{snapname}"
_GUEST = "/vms/{vmid}"


@method("GET", _SNAPSHOTS, permission=(_GUEST, "VM.Audit"))
def get_snapshots(call: Call) -> list[dict[str, Any]]:
    """Return the container's snapshots and its present state."""
    return list_snapshots(call.node, call.params["vmid"], load_config(call.node, call.params["vmid"]))


@method("POST", _SNAPSHOTS, permission=(_GUEST, "VM.Snapshot"))
def snapshot(call: Call) -> str:
    """Take a snapshot; what cannot be fails in the task (PVE)."""
    params, vmid = call.params, call.params["vmid"]
    if params["snapname"] in ("current", "vzdump"):
        raise ApiFault(f"unable to use snapshot name '{params['snapname']}' (reserved name)")
    return call.spawn("vzsnapshot", str(vmid), run_snapshot, vmid, params["snapname"], params.get("description", ""))


@method("GET", _SNAPSHOT)
def snapshot_index(call: Call) -> list[dict[str, str]]:
    """Return what there is below a snapshot."""
    get_snapshot(load_config(call.node, call.params["vmid"]), call.params["snapname"])
    return [{"cmd": "rollback"}, {"cmd": "config"}]


@method("DELETE", _SNAPSHOT, permission=(_GUEST, "VM.Snapshot"))
def delete_snapshot(call: Call) -> str:
    """Forget a snapshot."""
    params, vmid = call.params, call.params["vmid"]
    return call.spawn(
        "vzdelsnapshot", str(vmid), run_delete_snapshot, vmid, params["snapname"], bool(params.get("force"))
    )


@method("POST", _SNAPSHOT + "/rollback", permission=(_GUEST, "VM.Snapshot", "VM.Snapshot.Rollback"), any_of=True)
def rollback(call: Call) -> str:
    """Bring the container back to a snapshot."""
    params, vmid = call.params, call.params["vmid"]
    return call.spawn("vzrollback", str(vmid), run_rollback, vmid, params["snapname"], bool(params.get("start")))


@method(
    "GET", _SNAPSHOT + "/config", permission=(_GUEST, "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit"), any_of=True
)
def get_snapshot_config(call: Call) -> dict[str, Any]:
    """Return a snapshot's options."""
    config = load_config(call.node, call.params["vmid"])
    return render_json(config, get_snapshot(config, call.params["snapname"]))


@method("PUT", _SNAPSHOT + "/config", permission=(_GUEST, "VM.Snapshot"))
def put_snapshot_config(call: Call) -> None:
    """Change a snapshot's description."""
    with open_config(call.node, call.params["vmid"]) as config:
        config.check_lock()
        taken = get_snapshot(config, call.params["snapname"])
        taken.values["description"] = render_option("description", call.params.get("description", ""))
        save_config(call.node, call.params["vmid"], config)


@method("POST", "/nodes/{node}/lxc/{vmid}/clone", permission=(_GUEST, "VM.Clone"))
def clone(call: Call) -> str:
    """Copy the container under a new id."""
    node, request = call.node, _plan_clone(call)
    _check_new_guest(call, request)
    config = load_config(node, request.vmid)
    check_free(node, request.newid)
    check_clone(node, config, request)
    rights = Rights(node, call.caller, request.newid, request.pool)
    rights.check_pool()
    storages = {point.volume.partition(":")[0] for point in config.current.mount_points()}
    for name in {request.storage} if request.storage else storages:
        rights.check_storage(name)
    create_config(node, request.newid)
    try:
        return call.spawn("vzclone", str(request.vmid), run_clone, request)
    except BaseException:
        abandon_guest(node, request.newid)
        raise


def _plan_clone(call: Call) -> CloneRequest:
    params, options = call.params, dict[str, str]()
    for key in ("hostname", "description"):
        if key in params:
            options[key] = render_option(key, params[key])
    return CloneRequest(
        vmid=params["vmid"], newid=params["newid"], full=params.get("full"), storage=params.get("storage", ""),
        snapshot=params.get("snapname", ""), options=options, pool=params.get("pool", ""),
    )  # fmt: skip


def _check_new_guest(call: Call, request: CloneRequest) -> None:
    """Raise unless the caller may make a guest of the new id, or in the pool; and on this node, the only one."""
    allowed = [f"/vms/{request.newid}", *([f"/pool/{request.pool}"] if request.pool else [])]
    if not any(call.caller.may(path, "VM.Allocate") for path in allowed):
        raise PermissionFault(f"/vms/{request.newid}, VM.Allocate")
    if call.params.get("target") not in (None, call.node.name):
        raise ApiFault(f"no such cluster node '{call.params['target']}'")


@method("POST", "/nodes/{node}/lxc/{vmid}/template", permission=(_GUEST, "VM.Allocate"))
def template(call: Call) -> None:
    """Turn the container into a template, in a task whose id the answer does not tell (PVE)."""
    vmid = call.params["vmid"]
    check_template(call.node, vmid, load_config(call.node, vmid))
    call.spawn("vztemplate", str(vmid), run_template, vmid)


@method("PUT", "/nodes/{node}/lxc/{vmid}/resize", permission=(_GUEST, "VM.Config.Disk"))
def resize(call: Call) -> str:
    """Grow a disk."""
    params, vmid = call.params, call.params["vmid"]
    config = load_config(call.node, vmid)
    config.check_lock()
    config.check_digest(params.get("digest"))
    point = get_point(config, vmid, params["disk"])
    Rights(call.node, call.caller, vmid).check_storage(point.volume.partition(":")[0])
    return call.spawn(
        "resize", str(vmid), run_resize, vmid, params["disk"], plan_size(call.node, vmid, point, params["size"])
    )


@method("POST", "/nodes/{node}/lxc/{vmid}/move_volume", permission=(_GUEST, "VM.Config.Disk"))
def move_volume(call: Call) -> str:
    """Move a disk to another storage, or to another container."""
    params, node, vmid = call.params, call.node, call.params["vmid"]
    if params.get("storage") and params.get("target-vmid"):
        raise ApiFault("either set storage or target-vmid, but not both")
    if not params.get("storage") and not params.get("target-vmid"):
        raise ApiFault("both storage and target-vmid missing, need either")
    request = MoveRequest(
        vmid=vmid, key=params["volume"], storage=params.get("storage", ""), delete=bool(params.get("delete")),
        target=params.get("target-vmid", 0), target_key=params.get("target-volume", ""),
    )  # fmt: skip
    config = load_config(node, vmid)
    config.check_digest(params.get("digest"))
    if request.target:
        return _move_to_guest(call, request)
    Rights(node, call.caller, vmid).check_storage(request.storage)
    check_storage_move(node, config, request)
    return call.spawn("move_volume", str(vmid), run_storage_move, request)


def _move_to_guest(call: Call, request: MoveRequest) -> str:
    node = call.node
    call.caller.check(f"/vms/{request.target}", "VM.Config.Disk")
    if not has_config(node, request.target):
        raise ApiFault(f"could not find CT {request.target}")
    target = load_config(node, request.target)
    target.check_digest(call.params.get("target-digest"))
    check_reassign(node, load_config(node, request.vmid), target, request)
    name = f"{request.vmid}-{request.key}>{request.target}-{request.target_key or request.key}"
    return call.spawn("move_volume", name, run_reassign, request)
