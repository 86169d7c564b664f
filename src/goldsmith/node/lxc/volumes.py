"""Single disks of guests: growing them, moving them to another storage, handing them to another guest."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.config import GuestConfig, hold_lock, open_config, save_config
from goldsmith.node.lxc.copies import copy_disk
from goldsmith.node.lxc.disks import check_rootdir, find_volume, free_disk
from goldsmith.node.lxc.pending import attach_disk, is_volume_in_use
from goldsmith.node.lxc.properties import MOUNT_KEY, MountPoint
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.newdisks import keep_new_disks
from goldsmith.node.properties import UNUSED_KEY, get_owner, parse_size
from goldsmith.node.routing import Task


def get_point(config: GuestConfig, vmid: int, key: str) -> MountPoint:
    """Return a guest's mount point by its key.

    :raises ApiFault: it has none of that key.
    """
    if key not in config.current.values:
        raise ApiFault(f"volume '{key}' for container '{vmid}' does not exist")
    return MountPoint.parse(key, config.current.values[key])


def plan_size(node: Node, vmid: int, point: MountPoint, text: str) -> int:
    """Return the bytes that a disk should have after a resize to `10G` or by `+2G`."""
    storage, volume = find_volume(node, point)
    if get_owner(volume) != vmid:
        raise ApiFault(f"can't resize mount point owned by another container ({get_owner(volume)})")
    now = storage.size(volume)
    wanted = now + parse_size(text[1:]) if text.startswith("+") else parse_size(text)
    if wanted < now:
        raise ApiFault("unable to shrink disk size")
    if wanted == now:
        raise ApiFault("disk is already at specified size")
    return wanted


def run_resize(task: Task, node: Node, vmid: int, key: str, size: int) -> None:
    """Worker `resize`: grow a disk, also of a running guest."""
    del task
    with open_config(node, vmid) as config:
        config.check_lock()
        point = get_point(config, vmid, key)
        storage, volume = find_volume(node, point)
        storage.resize(volume, size)
        config.current.values[key] = point.with_size(storage.size(volume)).render()
        save_config(node, vmid, config)


@dataclass(frozen=True)
class MoveRequest:
    """What `POST move_volume` asked for: `storage`, or `target` (a vmid) and `target_key`."""

    vmid: int
    key: str
    storage: str = ""
    delete: bool = False
    target: int = 0
    target_key: str = ""


def check_storage_move(node: Node, config: GuestConfig, request: MoveRequest) -> None:
    """Raise unless a disk can move to another storage; PVE's words."""
    config.check_lock()
    point = get_point(config, request.vmid, request.key)
    storage, _ = find_volume(node, point)
    if storage.id == request.storage:
        raise ApiFault("you can't move to the same storage")
    check_rootdir(node.storage(request.storage))
    if Runtime(node, request.vmid).is_running():
        raise ApiFault("cannot move volumes of a running container")


def run_storage_move(task: Task, node: Node, request: MoveRequest) -> None:
    """Worker `move_volume`: copy a disk to another storage; the old one is deleted or becomes an unused one."""
    with hold_lock(node, request.vmid, "disk") as before, ExitStack() as stack:
        point = get_point(before, request.vmid, request.key)
        storage, volume = find_volume(node, point)
        target = node.storage(request.storage)
        copied = copy_disk(node, storage.mount(volume), target, request.vmid, point, stack)
        storage.unmount(volume)
        with open_config(node, request.vmid) as config:
            config.current.values[request.key] = copied.render()
            is_kept = not request.delete or is_volume_in_use(config, point.volume)
            if is_kept:
                config.current.values[config.current.free_key("unused")] = point.volume
            save_config(node, request.vmid, config)
        stack.pop_all()
        keep_new_disks(node, request.vmid)
        if not is_kept:
            task.log(free_disk(node, request.vmid, point) or f"removed volume '{point.volume}'")


def check_reassign(node: Node, source: GuestConfig, target: GuestConfig, request: MoveRequest) -> None:
    """Raise unless a disk can be handed to another guest; PVE's words."""
    key = request.target_key or request.key
    if "rootfs" in (request.key, key):
        raise ApiFault("Cannot move to/from 'rootfs'")
    if UNUSED_KEY.fullmatch(request.key) is None and UNUSED_KEY.fullmatch(key) is not None:
        raise ApiFault("Moving a used volume to an unused one is not possible")
    source.check_lock()
    target.check_lock()
    if source.current.is_template or target.current.is_template:
        raise ApiFault("You can't move a volume from or to a template")
    point = get_point(source, request.vmid, request.key)
    if key in target.current.values:
        raise ApiFault(f"Target volume key '{key}' is already in use for container '{request.target}'")
    if MOUNT_KEY.fullmatch(request.key) and Runtime(node, request.vmid).is_running():
        raise ApiFault("Cannot move in-use volume while the source CT is running - detach or shutdown first")
    if point.kind != "volume" or not _can_rename(node, point):
        raise ApiFault("Storage does not support moving of this disk to another container")
    if any(point.volume == other.volume for options in source.snapshots.values() for other in options.mount_points()):
        raise ApiFault("Cannot move volume that is part of a snapshot to another container")


def _can_rename(node: Node, point: MountPoint) -> bool:
    storage, volume = find_volume(node, point)
    return storage.has_snapshots() or not volume.name.endswith(".subvol")


def run_reassign(task: Task, node: Node, request: MoveRequest) -> None:
    """Worker `move_volume`: hand a disk to another guest by a rename; a running target gets it mounted at once."""
    first, second = sorted((request.vmid, request.target))
    with open_config(node, first, timeout=60) as one, open_config(node, second, timeout=60) as two:
        source, target = (one, two) if first == request.vmid else (two, one)
        check_reassign(node, source, target, request)
        point = get_point(source, request.vmid, request.key)
        key = request.target_key or request.key
        storage, volume = find_volume(node, point)
        task.log(f"moving volume '{request.key}' from container '{request.vmid}' to '{request.target}'")
        storage.unmount(volume)
        moved = MountPoint(key, point.values).with_volume(storage.rename(volume, request.target))
        task.log(f"removing volume '{request.key}' from container '{request.vmid}' config")
        del source.current.values[request.key]
        save_config(node, request.vmid, source)
        target.current.values[key] = moved.volume if UNUSED_KEY.fullmatch(key) else moved.render()
        save_config(node, request.target, target)
        if MOUNT_KEY.fullmatch(key) and Runtime(node, request.target).is_running():
            attach_disk(node, request.target, target, moved)
        task.log(f"target container '{request.target}' updated with '{key}'")
