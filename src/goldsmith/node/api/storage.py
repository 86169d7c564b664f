"""`/storage` and `/nodes/{node}/storage`: storages, their content, uploads, deleting, pruning."""

from __future__ import annotations

import re
import time
from typing import Any

from goldsmith.node.api.lxc_rights import Rights
from goldsmith.node.download import Wanted, run_url_download
from goldsmith.node.faults import ApiFault, ParameterFault, PermissionFault
from goldsmith.node.formats import split_list
from goldsmith.node.incoming import clean_filename
from goldsmith.node.lxc.config import list_vmids
from goldsmith.node.oci import Pull, name_file, run_pull
from goldsmith.node.routing import Call, Caller, method
from goldsmith.node.storage.backups import MOST_PROTECTED
from goldsmith.node.storage.driver import Storage, VolumeId
from goldsmith.node.storage.listing import SUFFIXES, find_owner, get_content, list_content, parse_volume
from goldsmith.node.storage.work import Upload, check_protected, list_prune_marks, run_delete, run_import, run_prune
from goldsmith.node.tasks import Upid, is_running

_STORAGE = "/nodes/{node}/storage/{storage}"
_VOLUME = _STORAGE + "/content/{volume}"
_LOOK = ("/storage/{storage}", "Datastore.Audit", "Datastore.AllocateSpace")
_UNITS = {"": 1 << 10, "M": 1 << 20, "G": 1 << 30}
"""Of `size` when a volume is allocated: without a unit it is in KiB (PVE)."""


def _may_look(caller: Caller, storage: Storage) -> bool:
    return caller.may(f"/storage/{storage.id}", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)


def _describe_config(storage: Storage) -> dict[str, Any]:
    return {
        "storage": storage.id, "type": storage.type, "path": str(storage.root), "shared": 0,
        "content": ",".join(sorted(storage.content)),
    }  # fmt: skip


@method("GET", "/storage")
def list_configs(call: Call) -> list[dict[str, Any]]:
    """Return the definitions of the storages that the caller may see."""
    kind = call.params.get("type")
    seen = [storage for storage in call.node.storages() if _may_look(call.caller, storage)]
    return [_describe_config(storage) for storage in seen if kind in (None, storage.type)]


@method("GET", "/storage/{storage}", permission=("/storage/{storage}", "Datastore.Allocate"))
def get_config(call: Call) -> dict[str, Any]:
    """Return a storage's definition."""
    return _describe_config(call.node.storage(call.params["storage"]))


def _describe(storage: Storage) -> dict[str, Any]:
    space = storage.space()
    return {
        "type": storage.type, "content": ",".join(sorted(storage.content)), "active": 1, "enabled": 1, "shared": 0,
        "total": space.total, "used": space.used, "avail": space.available,
    }  # fmt: skip


@method("GET", "/nodes/{node}/storage")
def list_storages(call: Call) -> list[dict[str, Any]]:
    """Return the storages that the caller may see, with their space."""
    wanted = set(split_list(call.params.get("content", "")))
    shown = []
    for storage in call.node.storages():
        is_wanted = call.params.get("storage") in (None, storage.id) and (not wanted or wanted & storage.content)
        if is_wanted and _may_look(call.caller, storage):
            entry = _describe(storage)
            shown.append({"storage": storage.id, **entry, "used_fraction": entry["used"] / max(entry["total"], 1)})
    return shown


@method("GET", _STORAGE)
def index(call: Call) -> list[dict[str, str]]:
    """Return what there is below a storage."""
    del call
    return [{"subdir": name} for name in ("content", "download-url", "prunebackups", "status", "upload")]


@method("GET", f"{_STORAGE}/status", permission=_LOOK, any_of=True)
def get_status(call: Call) -> dict[str, Any]:
    """Return a storage's space."""
    found = [storage for storage in call.node.storages() if storage.id == call.params["storage"]]
    if not found:
        raise ParameterFault({"storage": "No such storage."})
    return _describe(found[0])


@method("GET", f"{_STORAGE}/content", permission=_LOOK, any_of=True)
def get_content_list(call: Call) -> list[dict[str, Any]]:
    """Return the volumes that the caller may see."""
    storage, wanted = call.node.storage(call.params["storage"]), call.params.get("content")
    items = list_content(storage, "rootdir" if wanted == "images" else wanted, call.params.get("vmid"))
    guests = set(list_vmids(call.node))
    for item in items:
        if item["content"] == "rootdir" and item["vmid"] not in guests:
            item["content"] = "images"  # a disk without a guest is no container's to Proxmox
        if "notes" in item:
            item["notes"] = item["notes"].partition("\n")[0]  # as Proxmox does; a single volume tells all of them
    listed = (item for item in items if wanted in (None, item["content"]) and item["content"] in storage.content)
    return [item for item in listed if _may_see(call.caller, storage.id, item["content"], item.get("vmid"))]


def _may_see(caller: Caller, storage: str, content: str, vmid: int | None) -> bool:
    """Tell whether somebody who may look at a storage may also see that volume: guests' things only of his guests."""
    try:
        _check_access(caller, storage, content, vmid)
    except (ApiFault, PermissionFault):
        return False
    return True


def _check_access(caller: Caller, storage: str, content: str, vmid: int | None) -> None:
    """Raise unless somebody may see a volume (PVE::Storage, check_volume_access)."""
    place = f"/storage/{storage}"
    if caller.may(place, "Datastore.Allocate"):
        return
    if content in SUFFIXES:
        caller.check(place, "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    elif content == "backup" and vmid:
        caller.check(place, "Datastore.AllocateSpace")
        caller.check(f"/vms/{vmid}", "VM.Backup")
    elif content in ("images", "rootdir") and vmid:
        caller.check(place, "Datastore.Audit")
        caller.check(f"/vms/{vmid}", "VM.Config.Disk")
    else:
        raise ApiFault(f"missing privileges to access {content} of {storage}")


def _get_volume(call: Call) -> tuple[Storage, VolumeId]:
    try:
        volume = parse_volume(call.params["volume"], call.params.get("storage", ""))
    except ApiFault as error:
        raise ParameterFault({"volume": f"{error}\n"}) from error
    return call.node.storage(volume.storage), volume


@method("GET", _VOLUME)
def get_volume(call: Call) -> dict[str, Any]:
    """Return where a volume is, and its size."""
    storage, volume = _get_volume(call)
    owner, path, content = find_owner(storage, volume), storage.path(volume), get_content(volume)
    _check_access(call.caller, storage.id, content, owner)
    if not path.exists():
        raise ApiFault(f"volume_size_info on '{volume}' failed - no format")
    if content == "rootdir":
        size, used = storage.size(volume), storage.used(volume)
        return {"path": str(path), "size": size, "used": used, "format": path.suffix[1:]}
    size, used = path.stat().st_size, path.stat().st_blocks * 512
    return {"path": str(path), "size": size, "used": used, "format": "raw", **_describe_backup(storage, volume)}


def _describe_backup(storage: Storage, volume: VolumeId) -> dict[str, Any]:
    if get_content(volume) != "backup":
        return {}
    items = [item for item in list_content(storage, "backup") if item["volid"] == str(volume)]
    return {key: item[key] for item in items for key in ("notes", "protected") if key in item}


@method("POST", f"{_STORAGE}/content", permission=("/storage/{storage}", "Datastore.AllocateSpace"))
def allocate(call: Call) -> str:
    """Make an empty disk of a given name; returns its volume id."""
    params, storage = call.params, call.node.storage(call.params["storage"])
    vmid, name = params["vmid"], params["filename"]
    if not re.fullmatch(rf"(?:vm|subvol|base)-{vmid}-[^/\s@]+", name):
        raise ApiFault(f"illegal name '{name}' - should be 'vm-{vmid}-*'")
    Rights(call.node, call.caller, vmid).check_guest("VM.Allocate")
    match = re.fullmatch(r"(\d+)([MG]?)", params["size"])
    assert match is not None
    return str(storage.allocate(vmid, int(match[1]) * _UNITS[match[2]], name=name))


@method("DELETE", _VOLUME)
def delete(call: Call) -> str | None:
    """Delete a volume; returns the task, or nothing when it was done within `delay` seconds."""
    storage, volume = _get_volume(call)
    _check_delete(call.caller, storage, volume)
    owner = find_owner(storage, volume)
    upid = call.spawn("imgdel", f"{owner}@{storage.id}" if owner else storage.id, run_delete, volume)
    deadline = time.monotonic() + call.params.get("delay", 0)
    parsed = Upid.parse(upid)
    assert parsed is not None
    while time.monotonic() < deadline:
        if not is_running(parsed):
            return None
        time.sleep(0.01)
    return upid


def _check_delete(caller: Caller, storage: Storage, volume: VolumeId) -> None:
    owner = find_owner(storage, volume)
    if get_content(volume) == "backup" and owner:
        caller.check(f"/storage/{storage.id}", "Datastore.AllocateSpace")
        caller.check(f"/vms/{owner}", "VM.Backup")
    else:
        caller.check(f"/storage/{storage.id}", "Datastore.Allocate")


@method("PUT", _VOLUME)
def update(call: Call) -> None:
    """Note something about a backup, or protect it."""
    storage, volume = _get_volume(call)
    _check_access(call.caller, storage.id, get_content(volume), find_owner(storage, volume))
    path, params = storage.path(volume), call.params
    for name, text in (("notes", "only backups can have notes"), ("protected", "only backups can be protected")):
        if name in params and get_content(volume) != "backup":
            raise ApiFault(text)
    if not path.exists():
        raise ApiFault(f"volume '{volume}' does not exist")
    if "notes" in params:
        notes = path.with_name(path.name + ".notes")
        notes.write_text(params["notes"]) if params["notes"] else notes.unlink(missing_ok=True)
    if "protected" in params:
        mark = path.with_name(path.name + ".protected")
        if params["protected"] and not mark.exists():
            check_protected(storage, find_owner(storage, volume) or 0, limit_protected(call.caller, storage.id))
        mark.touch() if params["protected"] else mark.unlink(missing_ok=True)


@method("GET", f"{_STORAGE}/prunebackups", permission=_LOOK, any_of=True)
def plan_prune(call: Call) -> list[dict[str, Any]]:
    """Return what pruning would keep and remove."""
    storage = call.node.storage(call.params["storage"])
    marked = list_prune_marks(storage, call.params.get("vmid"), call.params.get("prune-backups", "keep-all=1"))
    return [
        {"volid": f"{storage.id}:backup/{path.name}", "vmid": vmid, "ctime": ctime, "type": "lxc", "mark": mark}
        for path, vmid, ctime, mark in marked
        if _may_see(call.caller, storage.id, "backup", vmid)
    ]


@method("DELETE", f"{_STORAGE}/prunebackups")
def prune(call: Call) -> str:
    """Remove backups that a retention does not keep; returns the task."""
    params, storage = call.params, call.node.storage(call.params["storage"])
    vmid = params.get("vmid")
    path = f"/storage/{storage.id}"
    if vmid is None:
        call.caller.check(path, "Datastore.Allocate")
    elif not call.caller.may(path, "Datastore.Allocate"):
        call.caller.check(path, "Datastore.AllocateSpace")
        call.caller.check(f"/vms/{vmid}", "VM.Backup")
    name = f"{vmid}@{storage.id}" if vmid else storage.id
    retention = params.get("prune-backups", "keep-all=1")
    return call.spawn("prunebackups", name, run_prune, storage.id, vmid, retention)


@method("POST", f"{_STORAGE}/upload", permission=("/storage/{storage}", "Datastore.AllocateTemplate"))
def upload(call: Call) -> str:
    """File a received template, ISO image or disk image away; returns the task."""
    params, content, storage = call.params, call.params["content"], call.node.storage(call.params["storage"])
    assert call.upload is not None
    if content not in storage.content:
        raise ApiFault(f"storage '{storage.id}' does not support '{content}' content")
    if not params["filename"].endswith(SUFFIXES[content]):
        raise ParameterFault({"filename": "wrong file extension"})
    target = storage.path(VolumeId(storage.id, f"{content}/{params['filename']}"))
    received = Upload(call.upload, target, params.get("checksum-algorithm", ""), params.get("checksum", ""))
    return call.spawn("imgcopy", "", run_import, received)


@method("POST", f"{_STORAGE}/download-url")
def download_url(call: Call) -> str:
    """Fetch a file of the network into a storage; returns the task."""
    params, content, storage = call.params, call.params["content"], call.node.storage(call.params["storage"])
    call.caller.check(f"/storage/{storage.id}", "Datastore.AllocateTemplate")
    check_network(call)
    if content not in storage.content:
        raise ApiFault(f"storage '{storage.id}' does not support '{content}' content")
    name = clean_filename(params["filename"])
    if not name.endswith(SUFFIXES[content]):
        raise ParameterFault({"filename": "wrong file extension"})
    algorithm, checksum = params.get("checksum-algorithm", ""), params.get("checksum", "")
    verify = params.get("verify-certificates", True)
    wanted = Wanted(storage.id, content, name, params["url"], algorithm, checksum, verify)
    return call.spawn("download", name, run_url_download, wanted)


def limit_protected(caller: Caller, storage: str) -> int | None:
    """Return how many protected backups of a guest there may be; None: as many as he likes."""
    return None if caller.may(f"/storage/{storage}", "Datastore.Allocate") else MOST_PROTECTED


def check_network(call: Call) -> None:
    """Raise unless the caller may let this machine reach into the network (PVE 8.2 and later)."""
    node = f"/nodes/{call.node.name}"
    if not call.caller.may(node, "Sys.AccessNetwork") and not call.caller.may("/", "Sys.Audit", "Sys.Modify"):
        raise PermissionFault


@method("POST", f"{_STORAGE}/oci-registry-pull", since="9.1")
def pull_image(call: Call) -> str:
    """Pull a container image from a registry into a storage; returns the task."""
    params, storage = call.params, call.node.storage(call.params["storage"])
    call.caller.check(f"/storage/{storage.id}", "Datastore.AllocateTemplate")
    call.caller.check(f"/nodes/{call.node.name}", "Sys.AccessNetwork")
    if "vztmpl" not in storage.content:
        raise ApiFault(f"storage '{storage.id}' does not support 'vztmpl' content")
    name = name_file(params["reference"], params.get("filename", ""))
    return call.spawn("download", name, run_pull, Pull(storage.id, params["reference"], name))
