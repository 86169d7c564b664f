"""The data of a server: looked for, handed from guest to guest, never copied, never lost sight of."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Set
from functools import partial

from goldsmith.base.errors import DataMissing, FleetError
from goldsmith.build.facts import Site
from goldsmith.definition.fleet import Server
from goldsmith.fleet.actions.mend import mend_moves
from goldsmith.fleet.archived import list_archived_paths
from goldsmith.fleet.goals import HOLDER, NEW, OLD, RECREATE, RESTORE_DATA, DataAt, Detached
from goldsmith.fleet.specification import list_mounts, render_data
from goldsmith.fleet.work import Handling, Work
from goldsmith.pve.containers import ContainerConfig
from goldsmith.pve.properties import Mount, render_mount

MOVE_TIMEOUT = 3600.0
"""Seconds. A rename takes half a second; a storage that cannot rename would copy."""
LOCK_PATIENCE = 30.0


def list_places(work: Work) -> dict[str, tuple[int, str, Mount]]:
    """Return where each of the mount points is that the replacement is about: vmid, key and mount, by path.

    :raises DataMissing: two guests claim the same path, so that nobody can tell which is the right one.
    """
    places: dict[str, tuple[int, str, Mount]] = {}
    for vmid in dict.fromkeys((work.record.old, work.record.new, work.record.holder)):
        for path, (key, mount) in work.list_data(vmid).items():
            if mount.is_bind or is_passed_over(work, vmid, path):
                continue
            if path in places and places[path][0] != vmid:
                raise DataMissing(
                    f"{work.server.name}: {path} is on guest {places[path][0]} and on guest {vmid}",
                    hint="look at both; one of the volumes has to be detached by hand",
                )
            places[path] = (vmid, key, mount)
    return places


def is_passed_over(work: Work, vmid: int, path: str) -> bool:
    """Tell whether a volume is none of those that a restoring of data is about.

    The old guest keeps its own, but for those that no backup has. These came out of the backup empty.
    """
    if work.record.strategy != RESTORE_DATA:
        return False
    goes_along = path in dict(work.record.data)
    return (vmid == work.record.old and not goes_along) or (vmid == work.record.holder and goes_along)


def ensure_data(goal: DataAt, work: Work) -> str:
    """Hand all data over to a guest. Volumes that never were are made; the rest must be found.

    :raises DataMissing: data that there was when the replacement began is nowhere.
    """
    target = work.get_guest(goal.which)
    if work.resumed or work.record.back:
        mend_moves(work)
    places, known = list_places(work), dict(work.record.data)
    for path, volid in known.items():
        if path not in places:
            raise DataMissing(
                f"{work.server.name}: the volume of {path} ({volid}) is at none of its guests",
                hint=f"it may be an unused disk of guest {work.record.old}: attach it again, then goldsmith resume",
            )
    check_restored(goal, work, places)
    declared = work.server.variables.volume_paths
    # what this replacement has made itself goes along: wherever the server is, its declared data is
    if goal.which == OLD and work.record.strategy == RESTORE_DATA:
        declared = frozenset()  # it has its own
    wanted = [path for path in places if path in known or path in declared]
    moved = [path for path in wanted if _move(work, path, places[path], target)]
    made = make_missing(work.server, work.site, target) if goal.which == NEW else []
    return ", ".join([*moved, *(f"{path} (made)" for path in made)]) or "it is there"


def check_restored(goal: DataAt, work: Work, places: Container[str]) -> None:
    """Check that what a backup has is there to be handed over: else empty volumes would take its place.

    :raises DataMissing: it is not.
    """
    if work.record.strategy != RESTORE_DATA or goal.which != NEW:
        return
    held = list_archived_paths(work.site, work.record.backup) & work.server.variables.volume_paths
    if missing := [path for path in sorted(held) if path not in places]:
        raise DataMissing(
            f"{work.server.name}: {', '.join(missing)} of {work.record.backup} is at none of its guests",
            hint=f"goldsmith abort {work.server.name}, and restore again",
        )


def ensure_detached(_goal: Detached, work: Work) -> str:
    """Have the old guest own no data; where it is gone already, that is so."""
    return ensure_data(DataAt(which=HOLDER), work) if work.find_guest(OLD) else "the old guest is gone"


def _move(work: Work, path: str, place: tuple[int, str, Mount], target: int) -> bool:
    """Move one volume to a guest; tell whether it had to be."""
    source, key, _ = place
    if source == target:
        return False
    guests, tasks = work.site.node.guests, work.site.node.tasks
    free = find_key(work.get(target), key)
    move = partial(guests.move_volume, source, key, target_vmid=target, target_volume=free)
    tasks.run(move, work.hear("move"), timeout=MOVE_TIMEOUT)
    deadline = time.monotonic() + LOCK_PATIENCE
    while path not in work.list_data(target):
        if time.monotonic() > deadline:
            raise DataMissing(f"{work.server.name}: {path} did not arrive at guest {target}")
        time.sleep(0.05)
    return True


def find_key(config: ContainerConfig, wanted: str) -> str:
    """Return a free mount point key of a guest, the wanted one if it is."""
    return wanted if wanted not in config.mounts else next(
        key for number in range(256) if (key := f"mp{number}") not in config.mounts
    )  # fmt: skip


def make_missing(server: Server, site: Site, vmid: int) -> list[str]:
    """Make the volumes that are declared and never were, and mount the directories of the node; return the paths."""
    made: list[str] = []
    for wanted, one in list_mounts(server).items():
        config = site.node.guests.get_config(vmid)
        if str(one.path) in {mount.path for mount in config.mounts.values()}:
            continue
        changes = {find_key(config, wanted): render_mount(render_data(one))}
        site.node.guests.set_config(vmid, changes, digest=config.digest)
        made.append(str(one.path))
    return made


def check_owns_nothing(work: Handling, vmid: int, discard: Set[str]) -> None:
    """Check that destroying a guest destroys no data.

    :param discard: paths that were said to be lost.
    :raises DataMissing: it owns a volume that is not its root disk and was not said to be lost.
    """
    config = work.get(vmid)
    named = [(mount.path, mount.volume) for mount in config.mounts.values()
             if not mount.is_bind and mount.path not in discard]  # fmt: skip
    named += [(key, volume) for key, volume in config.unused.items() if f"/{key}" not in discard]
    has = work.site.node.storage.has_volume  # what a move has taken away may still be named, after a crash
    owned = [f"{path} ({volume})" for path, volume in named if has(volume)]
    if owned:
        raise DataMissing(
            f"{work.server.name}: guest {vmid} still owns {', '.join(owned)}, and is not destroyed",
            hint=f"look at it (pct config {vmid}), and remove it by hand when nobody needs that data",
        )


def check_movable(server: Server, site: Site, vmid: int, data: Iterable[tuple[str, str]]) -> None:
    """Check that no snapshot of a guest has its data: Proxmox hands such volumes to no other guest.

    :param data: what is to be handed over: path and volume id.
    :raises FleetError: one has.
    """
    paths = {volid: path for path, volid in data}
    guests = site.node.guests
    for snapshot in guests.list_snapshots(vmid) if paths else []:
        mounts = guests.get_config(vmid, snapshot=snapshot.name).mounts.values()
        if held := sorted(paths[mount.volume] for mount in mounts if mount.volume in paths):
            raise FleetError(
                f"{server.name}: snapshot {snapshot.name} of guest {vmid} has {', '.join(held)}, which Proxmox hands "
                "to no other guest as long as that is there",
                hint=f"pct delsnapshot {vmid} {snapshot.name}, where nobody needs it any more",
            )


def check_data(work: Work) -> None:
    """Check before anything is done that the old guest has the declared data, and no other, and can give it away.

    :raises FleetError: it has data that the inventory does not declare, or that is in a snapshot.
    """
    old = work.find_guest(OLD) or (work.record.old if work.adopt else 0)
    config = work.find(old)
    if config is None:
        return  # there is none, or (a replacement that is gone on with) it was looked at and destroyed
    declared = {str(one.path) for one in work.server.variables.data}
    strange = [mount.path for mount in config.mounts.values() if mount.path not in declared]
    unused = [f"/{key}" for key, volume in config.unused.items() if work.site.node.storage.has_volume(volume)]
    listed = [path for path in (*strange, *unused) if path not in work.discard]
    if listed:
        raise FleetError(
            f"{work.server.name}: guest {old} has data that the inventory does not declare: {', '.join(listed)}",
            hint="declare it under data, or say that it may be lost: --discard PATH",
        )
    if work.record.strategy == RECREATE and config.protection:
        what = f"{work.server.name}: guest {old} is protected, and Proxmox does not let it be destroyed"
        raise FleetError(what, hint=f"pct set {old} -protection 0, or strategy: swap")
    if work.record.data and not config.unprivileged:
        raise FleetError(
            f"{work.server.name}: guest {old} is privileged: in the new one, which is not, nobody owns its data",
            hint=f"make it unprivileged first: back it up, then pct restore {old} BACKUP --unprivileged 1 --force 1",
        )
    check_movable(work.server, work.site, old, work.record.data)
