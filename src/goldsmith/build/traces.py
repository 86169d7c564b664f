"""What a run has on a node, found by its mark and removed: guests, dumps, templates; by runs that end and by sweeps.

A call that was interrupted may still do its work on the node, and nobody has its answer; so nothing here relies on
one. What does not carry the run's mark is somebody else's and never touched.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import unquote

from goldsmith.base.errors import ApiFailed, PermissionMissing, TaskFailed
from goldsmith.build.cache.guests import has_layers, release_guest
from goldsmith.build.facts import Site
from goldsmith.build.halfmade import is_half_made, release_dead_lock, remove_half_made
from goldsmith.build.journal import has_mark
from goldsmith.pve.answers import Upid
from goldsmith.pve.containers import ContainerConfig
from goldsmith.pve.guests import has_no_guest

SETTLE_SECONDS = 120.0
"""How long a guest that is being created may take until it is whole and shows whose it is."""
LATE_SECONDS = 1.0
"""How long a request that was interrupted on its way may take to show."""
POLL = 0.1


def remove_guest(
    site: Site, vmid: int, run_id: str, *, late: float = 0.0, tasks: Sequence[str] = ()
) -> bool:  # fmt: skip
    """Destroy a run's guest, running or not; tell whether there was one.

    :param late: seconds to wait for a guest whose creation may still be on its way.
    :param tasks: UPIDs of those that make the run's guests, by which one that is half made is known.
    """
    if not is_ours(site, vmid, run_id, late=late, tasks=tasks):
        return _remove_half_made(site, vmid, tasks)
    end_tasks(site, vmid)
    try:
        _destroy(site, vmid)
    except (ApiFailed, TaskFailed) as error:
        if isinstance(error, ApiFailed) and has_no_guest(error):
            return False
        if not release_dead_lock(site, vmid, find_config(site, vmid)):
            raise
        _destroy(site, vmid)
    return True


def _destroy(site: Site, vmid: int) -> None:
    site.node.tasks.run(lambda: site.node.guests.destroy(vmid, force=True, purge=True))


def _remove_half_made(site: Site, vmid: int, tasks: Sequence[str]) -> bool:
    """Remove a guest that a node's death has left half made, where it is sure that it is ours."""
    config = find_config(site, vmid) if tasks else None
    if config is None or not is_half_made(site, vmid, config, tasks):
        return False
    remove_half_made(site, vmid, tasks)
    return True


def remove_or_release(
    site: Site, vmid: int, run_id: str, *, late: float = 0.0, tasks: Sequence[str] = ()
) -> bool:  # fmt: skip
    """End a run's guest: destroyed, or given back where it keeps finished layers; tell whether it was destroyed."""
    if is_ours(site, vmid, run_id, late=late, tasks=tasks) and has_layers(site, vmid):
        end_tasks(site, vmid)
        release_guest(site, vmid)
        return False
    return remove_guest(site, vmid, run_id, tasks=tasks)


def is_ours(site: Site, vmid: int, run_id: str, *, late: float = 0.0, tasks: Sequence[str] = ()) -> bool:
    """Tell whether a guest carries the run's mark; one that is just being created may not carry it yet.

    Of one whose tasks have all ended nothing more is to be waited for.
    """
    begun = time.monotonic()
    while True:
        config = find_config(site, vmid)
        waited = time.monotonic() - begun
        if config is None and waited >= late:
            return False
        if config is not None and (config.lock != "create" or waited > SETTLE_SECONDS or _have_ended(site, tasks)):
            return has_mark(config.description, run_id)
        time.sleep(POLL)


def _have_ended(site: Site, tasks: Sequence[str]) -> bool:
    """Tell whether tasks are known, and none of them runs any more."""
    try:
        return bool(tasks) and not any(site.node.tasks.state(Upid(upid)).running for upid in tasks)
    except ApiFailed:  # the node has forgotten one, or cannot say
        return False


def find_config(site: Site, vmid: int) -> ContainerConfig | None:
    """Return a container's configuration, None where there is no such container (or none that we may see).

    :raises ApiFailed: that cannot be told now.
    """
    try:
        return site.node.guests.get_config(vmid)
    except ApiFailed as error:
        if has_no_guest(error) or (isinstance(error, PermissionMissing) and not _is_seen(site, vmid)):
            return None
        raise


def _is_seen(site: Site, vmid: int) -> bool:
    """Tell whether we may see a guest: to rights on a pool alone, one that is gone is refused like a stranger's."""
    return site.node.guests.find_guest(vmid) is not None


def end_tasks(site: Site, vmid: int) -> None:
    """Stop what still runs on a guest of ours: a dump holds a lock that would make removing it fail."""
    for upid in site.node.tasks.list_running(vmid):
        site.node.tasks.stop(upid)


def remove_dumps(site: Site, storage: str, run_id: str, vmids: Sequence[int] = ()) -> list[str]:
    """Delete a run's dumps and return their volume ids.

    :param vmids: the run's guests: a dump of one may be whole and have no notes yet, where the node died right then;
        the guest's description is in it, and says whose it is.
    """
    volumes = site.node.storage.read_backups(storage)
    marked = [volume for volume in volumes if has_mark(volume.notes, run_id) or (
        volume.vmid in vmids and not volume.notes and _has_marked_guest(site, volume.volid, run_id)
    )]  # fmt: skip
    for volume in marked:
        if volume.protected:  # it was to be kept, and its notes could not be written
            site.node.storage.set_volume(volume.volid, {"protected": False})
        site.node.storage.delete_volume(volume.volid)
    return [volume.volid for volume in marked]


def _has_marked_guest(site: Site, volid: str, run_id: str) -> bool:
    """Tell whether the guest in a dump carries a run's mark; a half-written one tells nothing."""
    try:
        config = site.node.backups.read_config(volid)
    except ApiFailed:
        return False
    return has_mark("\n".join(unquote(line.removeprefix("#")) for line in config.splitlines()), run_id)


def remove_template(site: Site, volid: str, run_id: str) -> bool:
    """Delete a template that was brought to the node for one run; tell whether there was one.

    Its name is its mark.
    """
    if run_id not in volid or site.node.storage.find_volume(volid) is None:
        return False
    site.node.storage.delete_volume(volid)
    return True
