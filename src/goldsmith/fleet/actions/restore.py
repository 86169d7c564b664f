"""Bringing the old guest back where it was destroyed: from its backup, and never with data over data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from goldsmith.base.errors import BackupFailed, PermissionMissing
from goldsmith.fleet.actions.data import ensure_data
from goldsmith.fleet.actions.guests import (
    CREATE_TIMEOUT,
    check_nobody_else_makes_it,
    choose_vmids,
    create,
    find_whole,
    is_half_made,
    label_next,
    make_holder,
    remove,
)
from goldsmith.fleet.archived import RESTORE_TIMEOUT, read_archived
from goldsmith.fleet.goals import HOLDER, NEW, OLD, DataAt, DataRestored, OldRestored, Parked, Restored
from goldsmith.fleet.marks import Labels, Role, describe
from goldsmith.fleet.specification import DEFAULT_DISK, connect, label
from goldsmith.fleet.work import Work
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount

GIB = 1 << 30
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": GIB, "T": 1 << 40}


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
    storage = _read_rootfs(work, work.record.backup).volume.partition(":")[0]

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
        )

    return create(work, which, candidates, specify_restored, source="restore", timeout=RESTORE_TIMEOUT)


def restore(work: Work, volid: str, vmid: int) -> None:
    """Make a guest from a backup, without any of its data.

    Proxmox drops mount points that are not named when the root disk is; without that it would make all of them anew,
    empty or from the archive (PVE 8.4).
    """
    rootfs = _read_rootfs(work, volid)
    pool = work.server.variables.pool or ""
    spec = ContainerSpec(vmid=vmid, ostemplate=volid, rootfs=rootfs, restore=True, pool=pool)
    create_again = partial(
        work.site.node.guests.create_container, replace(spec, storage=rootfs.volume.partition(":")[0])
    )
    work.site.node.tasks.run(create_again, work.hear("restore"), timeout=CREATE_TIMEOUT)


def _read_rootfs(work: Work, volid: str) -> Mount:
    """Return the root disk to be made: of the size that the archive's configuration says."""
    disk = work.server.variables.disk or DEFAULT_DISK
    found: Mount | None = None
    with suppress(PermissionMissing):  # see `has_backup`
        found = read_archived(work.site, volid).get("rootfs")
    size = parse_size(found.size or "") if found is not None else None
    storage = found.volume.partition(":")[0] if found is not None else disk.storage
    return Mount(f"{storage}:{(disk.size if size is None else size) / GIB:g}")


def parse_size(text: str) -> int | None:
    """Return the bytes of a size as a configuration has it: `8G`, `512M`, `1T`, `0T` of a directory; None: it is none.

    Proxmox writes the largest unit that makes it a whole number (PVE::JSONSchema, format_size).
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return int(float(found[1]) * UNITS[found[2]]) if found else None
