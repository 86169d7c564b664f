"""What a server is besides its guest: its firewall, HA, replication, backup jobs. All go by the vmid, and go along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import ApiFailed, FleetError, PermissionMissing
from goldsmith.base.events import Notice
from goldsmith.build.facts import Site
from goldsmith.fleet.goals import HOLDER, NEW, OLD, RECREATE, FirewallAt, Joined, Left
from goldsmith.fleet.marks import Record
from goldsmith.fleet.work import Work
from goldsmith.pve.membership import Membership


def read_cluster(site: Site, vmid: int, name: str) -> Mapping[str, JsonValue]:
    """Return what a guest has besides itself, for the record of its replacement; what it does not have is left out.

    Backup jobs that we may not see (Sys.Audit on /) stay as they are.

    :param name: the server's, for messages.
    :raises FleetError: HA manages it, and we may not see how.
    """
    held = _read_membership(site, vmid, name)
    found: dict[str, Any] = {"ha": held.ha, "rules": held.rules, "replication": held.replication}
    found |= {"jobs": _list_jobs(site, vmid), "firewall": not site.node.firewalls.read(vmid).is_empty}
    return {word: value for word, value in found.items() if value}


def _read_membership(site: Site, vmid: int, name: str) -> Membership:
    """Ask HA itself: one that it is to ignore is not managed, by a guest's status, and yet cannot be destroyed."""
    try:
        return site.pve.memberships.read(vmid, in_ha=True)
    except PermissionMissing as error:
        if site.node.guests.get_status(vmid).ha_managed:
            raise FleetError(
                f"{name}: guest {vmid} is managed by HA, which we may not see: {error.reason}",
                hint="grant Sys.Audit and Sys.Console on /, or take it out first (ha-manager remove)",
            ) from error
    return site.pve.memberships.read(vmid, in_ha=False)


def _list_jobs(site: Site, vmid: int) -> list[str]:
    try:
        return site.pve.memberships.list_backup_jobs(vmid)
    except PermissionMissing:
        return []


def get_membership(record: Record) -> Membership:
    """Return where the server is a member, as its record says."""
    held = cast("Mapping[str, Any]", record.cluster)
    return Membership(held.get("ha"), held.get("rules"), held.get("replication"))


def check_membership(work: Work) -> None:
    """Refuse a replacement for which we may not do what it needs in the cluster.

    :raises FleetError: a privilege is missing.
    """
    held, lacking = get_membership(work.record), ""
    if held.ha is not None and "Sys.Console" not in work.site.pve.find_privileges("/"):
        lacking = "it is managed by HA: Sys.Console on /"
    elif held.replication and not _may_replicate(work):
        lacking = f"it is replicated: Datastore.Allocate on /storage, or VM.Replicate on /vms/{work.record.old}"
    if lacking:
        raise FleetError(
            f"{work.server.name}: guest {work.record.old} cannot be replaced without a privilege, for {lacking}",
            hint="grant it, or take the guest out first, and put the new one in afterwards",
        )


def check_remaking(work: Work) -> None:
    """Refuse to make a server anew under its vmid where the right to do so goes with the guest that it is now.

    Proxmox takes a guest that is destroyed out of its pool, and removes what is granted on it alone (PVE 8.4,
    PVE::AccessControl::remove_vm_access).

    :raises FleetError: nothing else lets us make a guest of that vmid.
    """
    if work.record.strategy != RECREATE:
        return
    pool, privileges = work.server.variables.pool, work.site.pve.find_privileges
    paths = ["/vms", *([f"/pool/{pool}"] if pool else [])]
    if not any("VM.Allocate" in privileges(path) for path in paths):
        raise FleetError(
            f"{work.server.name}: when guest {work.record.old} is destroyed, so is the right to make it again",
            hint="grant VM.Allocate on /vms, or on a pool that the inventory names (pool); or strategy: swap",
        )


def _may_replicate(work: Work) -> bool:
    """Tell whether we may change replication jobs (PVE 9: VM.Replicate; before: Datastore.Allocate)."""
    pve = work.site.pve
    return "Datastore.Allocate" in pve.find_privileges("/storage") or "VM.Replicate" in pve.find_privileges(
        f"/vms/{work.record.old}"
    )


def leave(goal: Left, work: Work) -> str:
    """Take a guest out of HA and replication: HA would start again what is stopped."""
    vmid = work.find_guest(goal.which)
    if not vmid:
        return "it is not there"
    held = get_membership(work.record)
    work.site.pve.memberships.leave(vmid, held)
    return describe(held)


def join(goal: Joined, work: Work) -> str:
    """Make a guest a member where the server was, and none of the replacement's others."""
    vmid, held, memberships = work.get_guest(goal.which), get_membership(work.record), work.site.pve.memberships
    others = [other for which in (OLD, NEW) if (other := work.find_guest(which)) not in (0, vmid)]
    for other in others:
        memberships.leave(other, held)
    memberships.join(vmid, held)
    hand_on_jobs(work, vmid)
    return f"{describe(held)}: guest {vmid}"


def hand_on_jobs(work: Work, vmid: int) -> None:
    """Have the backup jobs name a guest that named the server's; where we may not, tell what is to be done."""
    jobs = cast("list[str]", work.record.cluster.get("jobs", []))
    others = {one for one in (work.record.old, work.record.new) if one}
    try:
        work.site.pve.memberships.hand_on_jobs(jobs, others, vmid)
    except ApiFailed as error:  # PermissionMissing, or 500: one with a `dumpdir` is for root@pam alone
        told = f"{work.server.name}: backup job {', '.join(jobs)} names guest {work.record.old}; put {vmid} into it"
        work.events.emit(Notice(message=f"{told} ({error.reason})", level="warning"))


def describe(held: Membership) -> str:
    """Say for a person where the server is a member."""
    named = {"HA": held.ha is not None, "replication": bool(held.replication)}
    return ", ".join(name for name, is_member in named.items() if is_member) or "backup jobs"


def ensure_firewall(goal: FirewallAt, work: Work) -> str:
    """Give a guest the firewall that the server has.

    The old guest gets it back only where it was made anew: what it has itself is never written over.
    """
    vmid, firewalls = work.get_guest(goal.which), work.site.node.firewalls
    sources = {NEW: (OLD, HOLDER), HOLDER: (OLD,), OLD: (HOLDER,)}[goal.which]
    source = next((found for which in sources if (found := work.find_guest(which))), 0)
    wanted = firewalls.read(source) if source else None
    if wanted is None or wanted.is_empty or (goal.which == OLD and not firewalls.read(vmid).is_empty):
        return "it is so"
    return f"guest {vmid}, as guest {source}" if firewalls.write(vmid, wanted) else "it is so"
