"""What replaces a shell on the node where there is none: what the API tells of guests, restoring instead of reading.

What has no such replacement is refused before a replacement begins.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping

from goldsmith.base.errors import ApiFailed, BackupFailed, FleetError, GuestUnready, PveError
from goldsmith.build.journal import get_tags, render_mark
from goldsmith.build.traces import remove_guest
from goldsmith.definition.fleet import Server
from goldsmith.fleet.archived import RESTORE_TIMEOUT, choose_disks_apart, find_archived_storage, read_archived
from goldsmith.fleet.facts import choose_spare_vmid
from goldsmith.fleet.work import Handling, Work
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount

UP_TIMEOUT = 120.0
"""Seconds until a guest has its address."""
POLL = 0.1
NOT_TOLD = 501
"""Status of a Proxmox that does not tell addresses (before 8.1)."""


def list_wishes(server: Server) -> Iterator[str]:
    """Yield what the inventory wants of a server that only a shell on its node can do."""
    variables = server.variables
    if variables.keep_host_keys:
        yield "keep_host_keys"
    yield from (f"the check {check.title}" for check in variables.checks if check.command or check.testinfra)
    yield from (f"the backup of {bind.source}" for bind in variables.binds if bind.backup != "none")
    if variables.backup is not None:
        hooks = {"before": variables.backup.before, "after": variables.backup.after}
        yield from (f"the command {which} the backup" for which, command in hooks.items() if command)


def check_shell(work: Handling) -> None:
    """Refuse what needs a shell on the node where there is none.

    :raises FleetError: the inventory wants such a thing.
    """
    wishes = [] if work.site.has_shell else list(list_wishes(work.server))
    if wishes:
        raise FleetError(
            f"{work.server.name}: {wishes[0]} needs root's shell on {work.site.node.name}, and there is none "
            "(proxmox_shell: none)",
            hint="take it out of the inventory; checks of ports and URLs need no shell",
            detail="\n".join(wishes) if wishes[1:] else "",
        )


def await_up(work: Handling, vmid: int, *, cut_off: bool) -> str:
    """Wait until a guest runs and, unless it is cut off, has its IPv4 address; its units nobody can look at.

    :raises GuestUnready: it does not in time.
    """
    deadline, wants_address = time.monotonic() + UP_TIMEOUT, not cut_off and work.server.variables.address is not None
    while not (work.is_running(vmid) and (not wants_address or _has_address(work, vmid))):
        if time.monotonic() > deadline:
            lacking = "it has no address" if work.is_running(vmid) else "it does not run"
            raise GuestUnready(f"{work.server.name}: guest {vmid} does not come up: {lacking}")
        time.sleep(POLL)
    return "it runs; its units cannot be looked at without a shell"


def _has_address(work: Handling, vmid: int) -> bool:
    try:
        return any(one.ipv4 is not None for one in work.site.node.guests.list_interfaces(vmid))
    except ApiFailed as error:
        if error.status != NOT_TOLD:
            raise
        return True


def restore_once(work: Handling, volid: str) -> None:
    """Read a whole backup by restoring it, data and all, into a guest that never runs, and removing that again.

    :raises BackupFailed: it cannot be restored.
    """
    vmid, archived = choose_spare_vmid(work.site), read_archived(work.site, volid)
    run_id = secrets.token_hex(6)
    if isinstance(work, Work):
        run_id = work.journal.run_id
        work.journal.note_vmid(vmid)  # the next run removes it if this one is killed
    try:
        _restore(work, volid, vmid, archived, run_id)
    except PveError as error:
        raise BackupFailed(
            f"{work.server.name}: the backup {volid} cannot be read back: {error.message}",
            hint=error.hint,
            detail=error.detail,
        ) from error
    finally:
        remove_guest(work.site, vmid, run_id)


def _restore(work: Handling, volid: str, vmid: int, archived: Mapping[str, Mount], run_id: str) -> None:
    text = f"**{work.server.name}** is restored here from {volid} to read that back; it never runs, and goes again"
    storage = find_archived_storage(archived)
    disks = choose_disks_apart(archived, storage)
    spec = ContainerSpec(
        vmid=vmid, ostemplate=volid, restore=True, unique=True, storage=storage, tags=get_tags("deploy"),
        description=f"{text}\n\n{render_mark(run_id)}", onboot=False, protection=False,
        rootfs=disks.rootfs, mounts=disks.mounts,
        pool=work.server.variables.pool or "",
    )  # fmt: skip
    upid = work.site.node.guests.create_container(spec)
    work.site.node.tasks.wait(upid, work.hear("restore"), timeout=RESTORE_TIMEOUT, stop_if_left=True)
