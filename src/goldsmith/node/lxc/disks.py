"""A guest's disks among the storages: finding, allocating, freeing, and putting them together as one file system."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.assemble import Assembly, Mount
from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.properties import MountPoint
from goldsmith.node.newdisks import note_new_disks
from goldsmith.node.properties import get_owner, parse_volume
from goldsmith.node.storage.driver import Storage, VolumeId

DEFAULT_ROOT_SIZE = 4
"""GiB of a root disk that nobody gave a size (PVE 8.4)."""


def find_volume(node: Node, point: MountPoint) -> tuple[Storage, VolumeId]:
    """Return the storage and the volume of a mount point that has one."""
    volume = parse_volume(point.volume)
    return node.storage(volume.storage), volume


def volumes_of(options: Options, *, unused: bool = False) -> list[MountPoint]:
    """Return the mount points that are volumes, the root disk first."""
    return [point for point in options.mount_points(unused=unused) if point.kind == "volume"]


def check_rootdir(storage: Storage) -> None:
    """Raise unless containers' disks may lie on a storage; PVE's words."""
    if "rootdir" not in storage.content:
        raise ApiFault(f"storage '{storage.id}' does not support container directories")


def allocate_disk(node: Node, vmid: int, point: MountPoint, idmap: IdMap, stack: ExitStack) -> MountPoint:
    """Make the new disk that a mount point asks for (`local:8`); the stack frees it again unless told otherwise."""
    request = point.request()
    assert request is not None
    storage = node.storage(request[0])
    check_rootdir(storage)
    volume = storage.allocate(vmid, request[1], root=idmap.owner, announce=note_new_disks(node, vmid, stack))
    return point.with_volume(volume, request[1])


def free_disk(node: Node, vmid: int, point: MountPoint) -> str | None:
    """Free a guest's disk. One that belongs to another guest stays; then the line to log is returned."""
    storage, volume = find_volume(node, point)
    owner = get_owner(volume)
    if owner != vmid:
        return f"ignore deletion of '{volume}', CT {vmid} isn't the owner!"
    storage.unmount(volume)
    storage.free(volume)
    return None


def open_sources(node: Node, options: Options, *, snapshot: str | None = None) -> list[tuple[MountPoint, Path]]:
    """Return where each mount point's files are on the machine, root disk first; disks are mounted as needed.

    :param snapshot: look at this snapshot of the volumes (bind mounts have none and are left out).
    :raises ApiFault: a bind mount's directory is not there.
    """
    found: list[tuple[MountPoint, Path]] = []
    for point in options.mount_points():
        if point.kind == "volume":
            storage, volume = find_volume(node, point)
            path = storage.snapshot_path(volume, snapshot) if snapshot else storage.mount(volume)
            found.append((point, path))
        elif not snapshot:
            if not Path(point.volume).exists():
                raise ApiFault(f"cannot find mount source '{point.volume}'")
            found.append((point, Path(point.volume)))
    return found


def close_sources(node: Node, options: Options) -> None:
    """Unmount a guest's volumes that are mounted for the node's own use. Idempotent."""
    for point in volumes_of(options):
        storage, volume = find_volume(node, point)
        storage.unmount(volume)


def plan_assembly(sources: list[tuple[MountPoint, Path]], idmap: IdMap, *, conf: Path | None = None) -> Assembly:
    """Return how the guest's file system is put together; see `assemble`."""
    root, options = next((path, mount_options(point)) for point, path in sources if point.key == "rootfs")
    mounts = [Mount(str(path), point.target, mount_options(point)) for point, path in sources if point.key != "rootfs"]
    return Assembly(str(root), mounts, options, str(conf or ""), idmap.base)


def mount_options(point: MountPoint) -> list[str]:
    """Return the options of one mount; those of the file system as a whole are the storage's business."""
    return [option for option in point.mount_options if option not in ("discard", "lazytime")]
