"""What a run has on a node, found by its mark and removed: guests, dumps, templates; by runs that end and by sweeps.

A call that was interrupted may still do its work on the node, and nobody has its answer; so nothing here relies on
one. What does not carry the run's mark is somebody else's and never touched.
"""

from __future__ import annotations

import time

from goldsmith.base.errors import ApiFailed, PermissionMissing
from goldsmith.build.cache.guests import has_layers, release_guest
from goldsmith.build.facts import Site
from goldsmith.build.journal import has_mark
from goldsmith.pve.containers import ContainerConfig
from goldsmith.pve.guests import has_no_guest

SETTLE_SECONDS = 120.0
"""How long a guest that is being created may take until it is whole and shows whose it is."""
LATE_SECONDS = 1.0
"""How long a request that was interrupted on its way may take to show."""
POLL = 0.1


def remove_guest(site: Site, vmid: int, run_id: str, *, late: float = 0.0) -> bool:
    """Destroy a run's guest, running or not; tell whether there was one.

    :param late: seconds to wait for a guest whose creation may still be on its way.
    """
    if not is_ours(site, vmid, run_id, late=late):
        return False
    end_tasks(site, vmid)
    try:
        site.node.tasks.run(lambda: site.node.guests.destroy(vmid, force=True, purge=True))
    except ApiFailed as error:
        if has_no_guest(error):
            return False
        raise
    return True


def remove_or_release(site: Site, vmid: int, run_id: str, *, late: float = 0.0) -> bool:
    """End a run's guest: destroyed, or given back where it keeps finished layers; tell whether it was destroyed."""
    if is_ours(site, vmid, run_id, late=late) and has_layers(site, vmid):
        end_tasks(site, vmid)
        release_guest(site, vmid)
        return False
    return remove_guest(site, vmid, run_id)


def is_ours(site: Site, vmid: int, run_id: str, *, late: float = 0.0) -> bool:
    """Tell whether a guest carries the run's mark; one that is just being created may not carry it yet."""
    begun = time.monotonic()
    while True:
        config = find_config(site, vmid)
        waited = time.monotonic() - begun
        if config is None and waited >= late:
            return False
        if config is not None and (config.lock != "create" or waited > SETTLE_SECONDS):
            return has_mark(config.description, run_id)
        time.sleep(POLL)


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


def remove_dumps(site: Site, storage: str, run_id: str) -> list[str]:
    """Delete a run's dumps and return their volume ids."""
    volumes = site.node.storage.list_content(storage, "backup")
    marked = [volume.volid for volume in volumes if has_mark(volume.notes, run_id)]
    for volid in marked:
        site.node.storage.delete_volume(volid)
    return marked


def remove_template(site: Site, volid: str, run_id: str) -> bool:
    """Delete a template that was brought to the node for one run; tell whether there was one.

    Its name is its mark.
    """
    if run_id not in volid or site.node.storage.find_volume(volid) is None:
        return False
    site.node.storage.delete_volume(volid)
    return True
