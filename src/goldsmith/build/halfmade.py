"""What a node that died in the middle of our task has left: a guest that does not say yet whose it is, locks, disks.

A guest that is being made says nothing but `lock: create` (PVE 8.4); its mark comes when it is whole. Where the node
died in between, it stays so, and no description tells whose it is. It is ours only where all of this holds:

    the journal names the task that made it, and that task has ended
    the guest says nothing but that it is being made, and nobody works on it
    the node shows us all tasks (Sys.Audit), and no later one has made a guest of that vmid

Otherwise it is left alone, and a person is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from goldsmith.base.errors import GuestError
from goldsmith.build.facts import Site
from goldsmith.pve.answers import Upid
from goldsmith.pve.containers import ContainerConfig
from goldsmith.pve.tasks import parse_upid

MAKING = ("vzcreate", "vzrestore")
"""Tasks that make a guest under the vmid that they name; a clone's names the guest that it copies (PVE 8.4)."""
SAYS_NOTHING = frozenset({"lock", "digest", "arch"})
"""All that a guest which is being made may say."""


def is_half_made(site: Site, vmid: int, config: ContainerConfig, tasks: Sequence[str]) -> bool:
    """Tell whether a guest is one that a task of ours did not finish.

    :param tasks: the UPIDs of those that were begun for the run, as its journal has them.
    """
    if config.lock != "create" or not SAYS_NOTHING.issuperset(config.raw):
        return False
    return find_dead_task(site, vmid, tasks) is not None


def find_dead_task(site: Site, vmid: int, tasks: Sequence[str]) -> Upid | None:
    """Find the task of ours that was the last one to make a guest of a vmid, and has ended; None: that is not sure."""
    own = [Upid(upid) for upid in tasks if (name := parse_upid(upid)).type in MAKING and name.id == str(vmid)]
    if not own or "Sys.Audit" not in site.pve.find_privileges(f"/nodes/{site.node.name}"):
        return None
    made = [upid for upid in site.node.tasks.list_recent(vmid) if parse_upid(upid).type in MAKING]
    since = parse_upid(own[-1]).started
    is_last = own[-1] in made and not any(parse_upid(upid).started >= since for upid in made if upid not in own)
    return own[-1] if is_last and not has_work(site, vmid) else None


def has_work(site: Site, vmid: int) -> bool:
    """Tell whether some task works on a guest, or may: one of several guests names none of them (vzdump)."""
    running = [parse_upid(upid).id for upid in site.node.tasks.list_running()]
    return any(name == str(vmid) or not name.isdigit() for name in running)


def remove_half_made(site: Site, vmid: int, tasks: Sequence[str]) -> None:
    """Destroy a guest that `is_half_made`, and the disks that it does not name yet."""
    dead = find_dead_task(site, vmid, tasks)
    disks = list_disks(site, vmid, parse_upid(dead).started) if dead is not None else []
    release_lock(site, vmid, "create")
    site.node.tasks.run(lambda: site.node.guests.destroy(vmid, force=True, purge=True))
    if site.pve.is_free(vmid):
        for volid in disks:
            site.node.storage.delete_volume(volid)


def list_disks(site: Site, vmid: int, since: int) -> list[str]:
    """Return the volume ids of a guest's disks that were made since a task of ours began.

    Only while there is the guest: a disk that bears the vmid of none is no container's to Proxmox (`images`), and is
    not shown to who has his rights by a pool (PVE::Storage::Plugin, list_volumes).

    :param since: seconds since 1970, by the node's clock.
    """
    return [
        volume.volid
        for storage in site.node.storage.list_storages("rootdir")
        for volume in site.node.storage.list_content(storage.name, "rootdir", vmid)
        if volume.vmid == vmid and volume.created >= since
    ]


def release_lock(site: Site, vmid: int, lock: str) -> None:
    """Remove the lock of a guest of ours on which nobody works; the API has no way to do that (PVE 8.4).

    :raises GuestError: there is no shell on the node, or the embedded node must do it.
    """
    if site.kind != "proxmox":
        hint = "the embedded node puts that in order when it starts: goldsmith node stop, then run the command again"
        raise GuestError(f"guest {vmid} is locked ({lock}) by a task that is gone", hint=hint)
    site.shell.run(["pct", "unlock", str(vmid)])


def release_dead_lock(site: Site, vmid: int, config: ContainerConfig | None) -> bool:
    """Remove the lock of a guest of ours whose task is gone, where that is sure; tell whether it was.

    Nothing could be done to the guest ever again. Who may not see all tasks cannot know whether one still works on it.
    """
    if config is None or not config.lock or site.kind != "proxmox" or has_work(site, vmid):
        return False
    if "Sys.Audit" not in site.pve.find_privileges(f"/nodes/{site.node.name}"):
        return False
    release_lock(site, vmid, config.lock)
    return True
