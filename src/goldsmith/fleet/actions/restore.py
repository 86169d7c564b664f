"""Bringing the old guest back where it was destroyed: from its backup, and never with data over data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial

from goldsmith.base.errors import BackupFailed, PermissionMissing
from goldsmith.definition.mounts import DataVolume
from goldsmith.definition.values import GIB
from goldsmith.fleet.actions.data import ensure_data
from goldsmith.fleet.actions.guests import (
    check_nobody_else_makes_it,
    choose_vmids,
    create,
    find_whole,
    is_half_made,
    label_next,
    make_holder,
    remove,
)
from goldsmith.fleet.archived import RESTORE_TIMEOUT, read_archived, render_new
from goldsmith.fleet.goals import HOLDER, NEW, OLD, DataAt, DataRestored, OldRestored, Parked, Restored
from goldsmith.fleet.marks import Labels, Role, describe
from goldsmith.fleet.specification import DEFAULT_DISK, connect, label, list_mounts, render_data
from goldsmith.fleet.work import Work
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount


def ensure_parked(_goal: Parked, work: Work) -> str:
    """Have the data at the holder where the old guest is gone; where it is there, it is not touched here."""
    if work.find_guest(OLD) or not work.record.data:
        return "the old guest is there"
    make_holder(work)
    return ensure_data(DataAt(which=HOLDER), work)


def ensure_restored(_goal: OldRestored, work: Work) -> str:
    """Have the old guest again. The new one, which has its vmid, goes first; it owns nothing by now.

    :raises BackupFailed: there is no backup to make it from.
    """
    vmid = work.find_guest(OLD)
    if vmid and not work.record.destroying and not is_half_made(work, vmid):
        return "it is there"
    if not has_backup(work):
        raise BackupFailed(f"{work.server.name}: the backup {work.record.backup or 'of it'} is not there")
    if stale := vmid or work.find_guest(NEW):
        remove(work, stale)
    restore(work, work.record.backup, work.record.old)
    work.mark(work.record.old, Role.CURRENT, work.record)
    work.note(destroying=False)
    return f"guest {work.record.old} from {work.record.backup}"


def has_backup(work: Work) -> bool:
    """Tell whether the backup is there.

    To rights on a pool alone it is out of sight as soon as its guest is gone; but whoever may make a guest of that vmid
    may restore it from there (PVE::Storage, check_volume_access).
    """
    try:
        return bool(work.record.backup) and work.site.node.storage.has_volume(work.record.backup)
    except PermissionMissing:
        return True


def ensure_beside(_goal: Restored, work: Work) -> str:
    """Make a guest from a backup, data and all, beside the one that runs: it becomes the server in the next goals."""
    if vmid := find_whole(work, NEW):
        return f"guest {vmid} is there"
    check_nobody_else_makes_it(work)
    vmid = _create_restored(work, NEW, work.candidates, Role.NEXT, label_next(work))
    return f"guest {vmid}"


def ensure_data_restored(_goal: DataRestored, work: Work) -> str:
    """Make a guest from a backup that only holds the data: it never runs."""
    if vmid := find_whole(work, HOLDER):
        return f"guest {vmid} is there"
    if work.find_guest(NEW):  # made after this one, which goes when it has handed everything over
        return "the data is at the new guest"
    check_nobody_else_makes_it(work)
    vmid = _create_restored(work, HOLDER, choose_vmids(work), Role.HOLDER, Labels(Role.HOLDER, replacing=True))
    return f"guest {vmid}"


def _create_restored(work: Work, which: str, candidates: Iterable[int], role: Role, labels: Labels) -> int:
    """Make a guest from the backup with all that is in it; it has the server's name, and no link."""
    storage = _choose_rootfs(work, _read_archived(work, work.record.backup)).volume.partition(":")[0]

    def specify_restored(vmid: int) -> ContainerSpec:
        return ContainerSpec(
            vmid=vmid,
            ostemplate=work.record.backup,
            restore=True,
            storage=storage,
            hostname=work.server.hostname,
            nets=(connect(work.server, up=False),),
            tags=label(work.server, labels),
            description=describe(work.server.name, work.record.version, role, work.record),
            pool=work.server.variables.pool or "",
            onboot=False,
            protection=False,
        )

    return create(work, which, candidates, specify_restored, source="restore", timeout=RESTORE_TIMEOUT)


def restore(work: Work, volid: str, vmid: int) -> None:
    """Make a guest from a backup, without any of its data.

    Proxmox makes no mount points that are not named when the root disk is, but unpacks all that is in the archive: the
    data, too, onto a root disk that has no room for it (PVE 8.4, restore_tar_archive). So that gets volumes of its own,
    which go again: what is to be the server's data is at the holder.
    """
    archived = _read_archived(work, volid)
    rootfs, mounts = _choose_rootfs(work, archived), tuple(_list_volumes(work, archived))
    spec = ContainerSpec(
        vmid=vmid, ostemplate=volid, rootfs=rootfs, mounts=mounts, restore=True,
        storage=rootfs.volume.partition(":")[0], pool=work.server.variables.pool or "",
    )  # fmt: skip
    create_again = partial(work.site.node.guests.create_container, spec)
    work.site.node.tasks.run(create_again, work.hear("restore"), timeout=RESTORE_TIMEOUT)
    drop_volumes(work, vmid)


def _list_volumes(work: Work, archived: Mapping[str, Mount]) -> Iterator[Mount]:
    """Yield the volumes to be made for the data in an archive; as the inventory has them where that is not seen."""
    if archived:
        for _, mount in sorted(archived.items(), key=lambda item: (len(item[0]), item[0])):
            text = render_new(mount, mount.volume.partition(":")[0])
            if mount.backup and not mount.is_bind and text:
                yield Mount(text, mount.path, backup=True)
        return
    held = dict(work.record.data)
    for one in list_mounts(work.server).values():
        if isinstance(one, DataVolume) and one.backup and str(one.path) in held:
            yield render_data(one)


def _read_archived(work: Work, volid: str) -> Mapping[str, Mount]:
    """Return the disks of the guest in an archive; none where we may not see them.

    So it is with rights on a pool alone: a guest that is gone is in none.
    """
    with suppress(PermissionMissing):
        return read_archived(work.site, volid)
    return {}


def drop_volumes(work: Work, vmid: int) -> None:
    """Remove all volumes of a guest that has just been made from a backup but its root disk."""
    guests = work.site.node.guests
    for key, mount in work.get(vmid).mounts.items():
        guests.set_config(vmid, {}, delete=[key])
        unused = [name for name, volume in work.get(vmid).unused.items() if volume == mount.volume]
        if unused:
            guests.set_config(vmid, {}, delete=unused)


def _choose_rootfs(work: Work, archived: Mapping[str, Mount]) -> Mount:
    """Return the root disk to be made: of the size that the archive's configuration says."""
    disk = work.server.variables.disk or DEFAULT_DISK
    found = archived.get("rootfs")
    storage = found.volume.partition(":")[0] if found is not None else disk.storage
    text = render_new(found, storage) if found is not None else ""
    return Mount(text or f"{storage}:{disk.size / GIB:g}")
