"""Making a guest from a template. Half-made guests leave nothing: every disk and the config are undone on failure.

On storages that copy on write the template is unpacked once (`trees`) and every guest's root is a copy of that; on
others the archive is unpacked onto the new disk, as Proxmox does everywhere.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from goldsmith.base.errors import GoldsmithError
from goldsmith.base.process import run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.guestconf import open_busy
from goldsmith.node.lxc import syscalls
from goldsmith.node.lxc.archive import unpack
from goldsmith.node.lxc.config import Options, abandon_guest, open_config, save_config
from goldsmith.node.lxc.disks import (
    DEFAULT_ROOT_SIZE,
    allocate_disk,
    check_rootdir,
    close_sources,
    find_volume,
    open_sources,
    plan_assembly,
)
from goldsmith.node.lxc.guestfs import GuestRoot
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.ostype import find_arch, find_ostype
from goldsmith.node.lxc.power import run_start
from goldsmith.node.lxc.properties import MountPoint
from goldsmith.node.lxc.setup import (
    MANAGED,
    HostKeys,
    add_authorized_keys,
    clear_machine_id,
    set_root_password,
    write_start_files,
)
from goldsmith.node.lxc.trees import ensure_tree
from goldsmith.node.newdisks import keep_new_disks, note_new_disks
from goldsmith.node.properties import parse_volume
from goldsmith.node.routing import Task

COPY_SECONDS = 3600.0


@dataclass(frozen=True)
class CreateRequest:
    """What `POST lxc` asked for. Options are as they will be stored, disks as they were written."""

    vmid: int
    template: str
    storage: str
    options: dict[str, str]
    disks: dict[str, str] = field(default_factory=dict)
    password_hash: str = "*"  # noqa: S105 - the opposite: nobody gets in with a password
    ssh_keys: str = ""
    start: bool = False
    ignore_errors: bool = False
    unique: bool = False
    is_root: bool = False
    pool: str = ""


def run_create(task: Task, node: Node, request: CreateRequest) -> None:
    """Worker `vzcreate`: make a guest whose vmid the caller has claimed (`create_config`)."""
    with open_busy(node, request.vmid), ExitStack() as stack:
        stack.callback(abandon_guest, node, request.vmid)
        try:
            options = _make_guest(task, node, request, stack)
        except (ApiFault, GoldsmithError, OSError) as error:
            raise ApiFault(f"unable to create CT {request.vmid} - {error}") from error
        save_options(node, request.vmid, options)
        stack.pop_all()
    if request.pool:
        node.access.add_to_pool(request.pool, request.vmid)
    if request.start:
        task.spawn("vzstart", str(request.vmid), run_start, request.vmid)


def save_options(node: Node, vmid: int, options: Options) -> None:
    """Store the options of a guest that has been made; they carry no lock any more."""
    with open_config(node, vmid, timeout=60) as config:
        config.current = options
        save_config(node, vmid, config)
    keep_new_disks(node, vmid)


def find_archive(node: Node, volid: str) -> Path:
    """Return the file of a template or backup.

    :raises ApiFault: it is not there; PVE's words.
    """
    volume = parse_volume(volid)
    path = node.storage(volume.storage).path(volume)
    if not path.exists():
        raise ApiFault(f"volume '{volid}' does not exist")
    return path


def plan_disks(request: CreateRequest) -> list[MountPoint]:
    """Return the guest's mount points, the root disk first and with its default size where nobody gave one."""
    texts = {"rootfs": f"{request.storage}:{DEFAULT_ROOT_SIZE}", **request.disks}
    return Options(texts).mount_points()


def _make_guest(task: Task, node: Node, request: CreateRequest, stack: ExitStack) -> Options:
    keys = HostKeys()
    options = Options(dict(request.options))
    idmap = IdMap.of(unprivileged=options.is_unprivileged)
    points = plan_disks(request)
    for point in points:
        if (wanted := point.request()) is not None:
            check_rootdir(node.storage(wanted[0]))
    archive = find_archive(node, request.template)
    root, is_filled = _make_root(task, node, request, archive, stack)
    disks = [root, *(place_disk(node, request.vmid, point, idmap, stack) for point in points[1:])]
    options.values.update({point.key: point.render() for point in disks})
    stack.callback(close_sources, node, options)
    sources = open_sources(node, options)
    if is_filled:
        for point, path in sources[1:]:
            move_content(sources[0][1], point, path)
    else:
        assembly = plan_assembly(sources, idmap)
        unpack(archive, assembly, idmap, task.log, ignore_errors=request.ignore_errors)
    with GuestRoot(sources[0][1], idmap) as guest:
        detect_guest(task, guest, options)
        _personalise(task, node, guest, options, request, keys)
    close_sources(node, options)
    return options


def _make_root(
    task: Task, node: Node, request: CreateRequest, archive: Path, stack: ExitStack
) -> tuple[MountPoint, bool]:
    """Make the root disk; tell whether it holds the template already."""
    point = plan_disks(request)[0]
    idmap = IdMap.of(unprivileged=request.options.get("unprivileged") == "1")
    wanted = point.request()
    if wanted is None or not (storage := node.storage(wanted[0])).has_snapshots():
        return place_disk(node, request.vmid, point, idmap, stack), False
    tree = ensure_tree(task.log, node, storage, archive, idmap)
    announce = note_new_disks(node, request.vmid, stack)
    volume = storage.allocate_from(request.vmid, wanted[1], tree, announce=announce)
    return point.with_volume(volume, wanted[1]), True


def place_disk(node: Node, vmid: int, point: MountPoint, idmap: IdMap, stack: ExitStack) -> MountPoint:
    """Make a new disk, or take the one that is named, its size filled in."""
    if point.request() is not None:
        return allocate_disk(node, vmid, point, idmap, stack)
    if point.kind != "volume":
        return point
    storage, volume = find_volume(node, point)
    return point if "size" in point.values else point.with_size(storage.size(volume))


def move_content(root: Path, point: MountPoint, disk: Path) -> None:
    """Give a new data disk what the template has at its place, as unpacking with the disk mounted would have done."""
    if point.kind != "volume":
        return
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = syscalls.open_in_root(top, point.target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    finally:
        os.close(top)
    try:
        if os.listdir(inside):  # noqa: PTH208 - Path cannot list an open directory
            here = Path(f"/proc/{os.getpid()}/fd/{inside}")
            run(["cp", "-a", "--no-clobber", ".", disk], cwd=here, timeout=COPY_SECONDS)
    finally:
        os.close(inside)


def detect_guest(task: Task, guest: GuestRoot, options: Options) -> None:
    """Fill in what nobody said: architecture and distribution."""
    if "arch" not in options.values:
        arch = find_arch(guest)
        task.log(f"Detected container architecture: {arch or 'unknown, using amd64'}")
        options.values["arch"] = arch or "amd64"
    if "ostype" not in options.values:
        ostype = find_ostype(guest)
        if ostype is None:
            task.log("unable to detect OS distribution: its files stay as they are")
        options.values["ostype"] = ostype or "unmanaged"


def _personalise(
    task: Task, node: Node, guest: GuestRoot, options: Options, request: CreateRequest, keys: HostKeys
) -> None:
    """Make the guest a machine of its own, as Proxmox's post_create_hook does."""
    ostype = options.get("ostype")
    if ostype not in MANAGED:
        if ostype != "unmanaged":
            task.warn(f"the embedded node does not set up '{ostype}' guests: network and keys are the template's")
        return
    clear_machine_id(guest)
    set_root_password(guest, request.password_hash)
    if request.ssh_keys.strip():
        add_authorized_keys(guest, request.ssh_keys)
    write_start_files(guest, options, str(node.settings.gateway))
    keys.write(guest, options.get("hostname"), task.log)
