"""What a cluster does with a guest besides running it: HA, replication, backup jobs. Left, joined, handed on.

Proxmox knows all of them by the guest's vmid, so a server that gets another one falls out of them unless it is put in.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from goldsmith.base.errors import ApiFailed
from goldsmith.pve.answers import Entry, read_entries
from goldsmith.pve.door import Door, Parameter

HA = ("state", "group", "max_restart", "max_relocate", "failback", "auto-rebalance", "comment")
"""What is set of an HA resource; groups are before PVE 9, which has rules instead."""
RULE = ("type", "affinity", "nodes", "strict", "disable", "comment")
REPLICATION = ("type", "target", "schedule", "rate", "disable", "comment")
REMOVAL_PATIENCE, REMOVAL_PAUSE = 180.0, 1.0
"""Seconds for which the removal of replication jobs is waited for, while the guest runs, and between two looks."""
Fields = dict[str, str]


@dataclass(frozen=True)
class Membership:
    """Where a guest is a member. All values as Proxmox takes them."""

    ha: Mapping[str, str] | None = None
    """The settings of its HA resource."""
    rules: Mapping[str, Mapping[str, str]] | None = None
    """Of HA (PVE 9), by name; `resources` are the others in it."""
    replication: Mapping[str, Mapping[str, str]] | None = None
    """Jobs by number (`ID-0` is number 0)."""

    @property
    def is_held(self) -> bool:
        """Whether something has to be left before the guest is stopped or goes."""
        return self.ha is not None or bool(self.replication)


class Memberships:
    """The memberships of containers in one cluster."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def read(self, vmid: int, *, in_ha: bool) -> Membership:
        """Return where a container is a member.

        :param in_ha: whether HA is asked at all; its answer needs Sys.Audit on /.
        :raises PermissionMissing: we may not see its HA resource.
        """
        ha = self._find_resource(vmid) if in_ha else None
        rules = self._list_rules(vmid) if ha is not None else {}
        return Membership(ha, rules or None, self._list_replication(vmid) or None)

    def _find_resource(self, vmid: int) -> Fields | None:
        listed = self._list("/cluster/ha/resources")
        found = (entry for entry in listed if entry.text("sid") == _sid(vmid))
        return next((entry.given(HA) for entry in found), None)

    def _list_rules(self, vmid: int) -> dict[str, Fields]:
        """Return the rules that name a container; a Proxmox before 9 has none."""
        listed = self._list("/cluster/ha/rules")
        found = {entry.text("rule"): (entry, _split(entry.text("resources"))) for entry in listed}
        return {
            name: {**entry.given(RULE), "resources": ",".join(one for one in resources if one != _sid(vmid))}
            for name, (entry, resources) in found.items()
            if _sid(vmid) in resources
        }

    def _list_replication(self, vmid: int) -> dict[str, Fields]:
        listed = self._list("/cluster/replication")
        ours = (entry for entry in listed if entry.number("guest") == vmid and not entry.text("remove_job"))
        return {entry.text("id").rpartition("-")[2]: entry.given(REPLICATION) for entry in ours}

    def leave(self, vmid: int, held: Membership) -> None:
        """Take a container out of HA and replication; it runs on. What it is no member of is passed over."""
        found = self.read(vmid, in_ha=held.ha is not None)
        if found.ha is not None:
            self._door.delete(f"/cluster/ha/resources/{_sid(vmid)}")
        if found.replication:
            self._remove_jobs([f"{vmid}-{number}" for number in found.replication])

    def _remove_jobs(self, jobs: Collection[str]) -> None:
        """Remove replication jobs with what they have made: their snapshots here, the copies on the other nodes.

        The cluster's scheduler does that, once a minute, by the names that the volumes have now (PVE::Replication,
        `remove_job`): left behind, they would take room there for ever, and keep the vmid from being replicated again.
        Where it cannot, as the other node is off, the job alone is removed.
        """
        for job in jobs:
            self._door.delete(f"/cluster/replication/{job}")
        deadline = time.monotonic() + REMOVAL_PATIENCE
        while left := [entry.text("id") for entry in self._list("/cluster/replication") if entry.text("id") in jobs]:
            if time.monotonic() > deadline:
                for job in left:
                    self._door.delete(f"/cluster/replication/{job}", {"force": True})
                return
            time.sleep(REMOVAL_PAUSE)

    def join(self, vmid: int, held: Membership) -> None:
        """Make a container a member where another one was; what it is a member of already is left as it is."""
        found = self.read(vmid, in_ha=held.ha is not None)
        if held.ha is not None and found.ha is None:
            self._door.post("/cluster/ha/resources", {"sid": _sid(vmid), **held.ha})
        listed = self._list("/cluster/ha/rules") if held.rules else []  # a group that is no rule yet shows as one now
        members = {entry.text("rule"): _split(entry.text("resources")) for entry in listed}
        for name, rule in (held.rules or {}).items():
            if _sid(vmid) not in members.get(name, []):
                self._join_rule(name, rule, members.get(name), vmid)
        for number, job in (held.replication or {}).items():
            if number not in (found.replication or {}):
                self._door.post("/cluster/replication", {"id": f"{vmid}-{number}", **job})

    def _join_rule(self, name: str, rule: Mapping[str, str], present: list[str] | None, vmid: int) -> None:
        """Put a container into a rule; one that went with its last member (`present` is None) is made again."""
        others = _split(rule["resources"]) if present is None else present
        resources = ",".join(dict.fromkeys([*others, _sid(vmid)]))
        if present is None:
            self._door.post("/cluster/ha/rules", {"rule": name, **rule, "resources": resources})
        else:
            self._door.put(f"/cluster/ha/rules/{name}", {"type": rule["type"], "resources": resources})

    def list_backup_jobs(self, vmid: int) -> list[str]:
        """Return the ids of the backup jobs that name a container, as one to back up or as an exception.

        :raises PermissionMissing: we may not see them (Sys.Audit on /).
        """
        return [job.text("id") for job in self._list("/cluster/backup") if str(vmid) in _list_vmids(job)]

    def hand_on_jobs(self, jobs: Collection[str], vmids: Collection[int], vmid: int) -> list[str]:
        """Have backup jobs name one container in place of others; return the ids of those that were changed.

        :param vmids: those that are named no longer.
        """
        changed = []
        gone = {str(one) for one in vmids if one != vmid}
        for job in self._list("/cluster/backup"):
            if job.text("id") in jobs and gone.intersection(_list_vmids(job)):
                self._door.put(f"/cluster/backup/{job.text('id')}", _replace_vmid(job, gone, str(vmid)))
                changed.append(job.text("id"))
        return changed

    def _list(self, path: str) -> list[Entry]:
        """Ask; a node that does not know such things (501, "not implemented") has none of them."""
        try:
            return read_entries(self._door.get(path))
        except ApiFailed as error:
            if error.status == 501:
                return []
            raise


def _replace_vmid(job: Entry, gone: Collection[str], vmid: str) -> dict[str, Parameter]:
    changes: dict[str, Parameter] = {}
    for name in _list_naming(job):
        listed = _split(job.text(name))
        if any(one in gone for one in listed):
            changes[name] = ",".join(dict.fromkeys(vmid if one in gone else one for one in listed))
    return changes


def _list_vmids(job: Entry) -> list[str]:
    return [vmid for name in _list_naming(job) for vmid in _split(job.text(name))]


def _list_naming(job: Entry) -> tuple[str, ...]:
    """Return the fields by which a job names guests.

    One of a pool takes no exceptions; sent one, it becomes a job of all guests (PVE::API2::Backup, update_job).
    """
    return ("vmid",) if job.text("pool") else ("vmid", "exclude")


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.replace(";", ",").split(",") if word.strip()]


def _sid(vmid: int) -> str:
    return f"ct:{vmid}"
