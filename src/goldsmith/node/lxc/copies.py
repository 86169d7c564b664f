"""Clones of guests, and templates. A clone is copied on write where the storage can, whatever `full` says."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.process import run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.guestconf import open_busy
from goldsmith.node.lxc.config import GuestConfig, Options, abandon_guest, hold_lock, open_config, save_config
from goldsmith.node.lxc.create import COPY_SECONDS, save_options
from goldsmith.node.lxc.disks import check_rootdir, find_volume, volumes_of
from goldsmith.node.lxc.guestfs import GuestRoot
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.properties import MountPoint
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.setup import MANAGED, clear_machine_id
from goldsmith.node.lxc.snapshots import get_snapshot
from goldsmith.node.newdisks import note_new_disks
from goldsmith.node.properties import UNUSED_KEY
from goldsmith.node.routing import Task
from goldsmith.node.storage.driver import Storage, VolumeId

_NOT_CLONED = frozenset(("lock", "parent", "snaptime", "snapstate", "template", "protection"))


@dataclass(frozen=True)
class CloneRequest:
    """What `POST clone` asked for. `full` None: linked for a template, else full. `options` override the source's."""

    vmid: int
    newid: int
    full: bool | None
    storage: str
    snapshot: str
    options: dict[str, str]
    pool: str = ""


def wants_full(config: GuestConfig, request: CloneRequest) -> bool:
    """Tell whether a clone is independent of its source: always when the source is no template (PVE)."""
    if not config.current.is_template:
        return True
    return bool(request.full)


def check_clone(node: Node, config: GuestConfig, request: CloneRequest) -> None:
    """Raise unless the clone can be made; PVE's words."""
    config.check_lock()
    options = get_snapshot(config, request.snapshot) if request.snapshot else config.current
    full = wants_full(config, request)
    if full and not request.snapshot and Runtime(node, request.vmid).is_running():
        raise ApiFault("Cannot do full clones on a running container without snapshots")
    if not full and request.storage:
        raise ApiFault("parameter 'storage' not allowed for linked clones")
    for point in options.mount_points():
        if point.kind != "volume":
            raise ApiFault(f"unable to clone mountpoint '{point.key}' (type {point.kind})")
        storage, _ = find_volume(node, point)
        if not full and not storage.has_snapshots():
            raise ApiFault(f"Linked clone feature for '{point.volume}' is not available")
    if request.storage:
        check_rootdir(node.storage(request.storage))


def run_clone(task: Task, node: Node, request: CloneRequest) -> None:
    """Worker `vzclone`: copy a guest for a vmid that the caller has claimed (`create_config`)."""
    with open_busy(node, request.newid), ExitStack() as stack:
        stack.callback(abandon_guest, node, request.newid)
        with hold_lock(node, request.vmid, "disk") as config:
            source = get_snapshot(config, request.snapshot) if request.snapshot else config.current
            kind = "full" if wants_full(config, request) else "linked"
            options = _cloned_options(source, request)
            for point in volumes_of(source):
                task.log(f"create {kind} clone of mountpoint {point.key} ({point.volume})")
                copied = _clone_disk(node, point, request, stack)
                options.values[copied.key] = copied.render()
        _renew_identity(node, options)
        save_options(node, request.newid, options)
        stack.pop_all()
    if request.pool:
        node.access.add_to_pool(request.pool, request.newid)


def _cloned_options(source: Options, request: CloneRequest) -> Options:
    options = source.copy()
    for key in [key for key in options.values if key in _NOT_CLONED or UNUSED_KEY.fullmatch(key)]:
        del options.values[key]
    if request.snapshot:
        options.values.pop("description", None)  # the snapshot's, not the guest's
    options.values.update({net.key: net.with_new_mac().render() for net in source.nets()})
    options.values.update(request.options)
    return options


def _clone_disk(node: Node, point: MountPoint, request: CloneRequest, stack: ExitStack) -> MountPoint:
    storage, volume = find_volume(node, point)
    target = node.storage(request.storage) if request.storage else storage
    if target.id == storage.id and storage.has_snapshots():
        announce = note_new_disks(node, request.newid, stack)
        copied = storage.clone(volume, request.newid, snapshot=request.snapshot or None, announce=announce)
        return point.with_volume(copied)
    source = storage.snapshot_path(volume, request.snapshot) if request.snapshot else storage.mount(volume)
    stack.callback(storage.unmount, volume)
    return copy_disk(node, source, target, request.newid, point, stack)


def copy_disk(node: Node, source: Path, target: Storage, vmid: int, point: MountPoint, stack: ExitStack) -> MountPoint:
    """Copy a disk's files onto a new disk of another storage, with owners, capabilities, ACLs and holes."""
    status = source.stat()
    owner = (status.st_uid, status.st_gid)
    copied = target.allocate(vmid, point.size, root=owner, announce=note_new_disks(node, vmid, stack))
    copy_files(source, target.mount(copied))
    target.unmount(copied)
    return point.with_volume(copied)


def copy_files(source: Path, target: Path) -> None:
    """Copy a directory's content, nothing of other file systems below it."""
    command = ["cp", "-a", "--one-file-system", "--sparse=auto", "--reflink=auto", ".", str(target)]
    run(command, cwd=source, timeout=COPY_SECONDS)


def _renew_identity(node: Node, options: Options) -> None:
    """Give a clone a machine id of its own. Its SSH host keys stay the source's, as on Proxmox."""
    if options.get("ostype") not in MANAGED:
        return
    root = next(point for point in volumes_of(options) if point.key == "rootfs")
    storage, volume = find_volume(node, root)
    with GuestRoot(storage.mount(volume), IdMap.of(unprivileged=options.is_unprivileged)) as guest:
        clear_machine_id(guest)
    storage.unmount(volume)


def check_template(node: Node, vmid: int, config: GuestConfig) -> None:
    """Raise unless the guest can become a template; PVE's words."""
    config.check_lock()
    if config.current.is_template:
        raise ApiFault("you can't convert a template to a template")
    if config.snapshots:
        raise ApiFault("unable to create template, because CT contains snapshots")
    if Runtime(node, vmid).is_running():
        raise ApiFault("you can't convert a CT to template if the CT is running")


def run_template(task: Task, node: Node, vmid: int) -> None:
    """Worker `vztemplate`: make a guest's disks read-only bases of further guests."""
    del task
    with open_config(node, vmid) as config:
        check_template(node, vmid, config)
        make_template(node, vmid, config)


def make_template(node: Node, vmid: int, config: GuestConfig) -> None:
    """Turn a stopped guest into a template. The caller holds its lock."""
    config.current.values["template"] = "1"
    save_config(node, vmid, config)
    for point in volumes_of(config.current):
        storage, volume = find_volume(node, point)
        storage.unmount(volume)
        base: VolumeId = storage.make_base(volume)
        config.current.values[point.key] = point.with_volume(base).render()
        save_config(node, vmid, config)
