"""Proxmox VE's privileges, and the roles that it brings along: those of 8.4, and those that 9 has for machines.

A privilege is for `root` (administrators only), `admin`, `user` or `audit`; the roles follow from that: `PVEVMUser`
has what VM users and auditors have, `PVEAdmin` everything of every kind but what is for root.
"""

from __future__ import annotations

from collections.abc import Mapping

from goldsmith.node.version import is_at_least

Levels = Mapping[str, Mapping[str, str]]
_PRIVILEGES: Levels = {
    "VM": {
        "admin": "Config.Disk Config.CPU Config.Memory Config.Network Config.HWType Config.Options Allocate Clone "
        "Migrate Monitor Snapshot Snapshot.Rollback",
        "user": "Config.CDROM Config.Cloudinit Console Backup PowerMgmt",
        "audit": "Audit",
    },
    "Sys": {
        "root": "PowerMgmt Modify Incoming AccessNetwork",
        "admin": "Console Syslog",
        "audit": "Audit",
    },
    "Datastore": {"admin": "Allocate AllocateTemplate", "user": "AllocateSpace", "audit": "Audit"},
    "SDN": {"admin": "Allocate Audit", "user": "Use", "audit": "Audit"},
    "Pool": {"admin": "Allocate", "user": "Audit", "audit": "Audit"},
    "Mapping": {"admin": "Modify", "user": "Use", "audit": "Audit"},
}
_LATER_PRIVILEGES: Levels = {
    **_PRIVILEGES,
    "VM": {
        "admin": "Config.Disk Config.CPU Config.Memory Config.Network Config.HWType Config.Options Allocate Clone "
        "GuestAgent.Unrestricted Migrate Replicate Snapshot Snapshot.Rollback",
        "user": "Config.CDROM Config.Cloudinit Console Backup GuestAgent.FileRead GuestAgent.FileSystemMgmt "
        "GuestAgent.FileWrite PowerMgmt",
        "audit": "Audit GuestAgent.Audit",
    },
}
"""From Proxmox VE 9 on, rights on the guest agent stand for themselves, and VM.Monitor is gone."""
_USER_PRIVILEGES = frozenset(("User.Modify", "Group.Allocate", "Realm.AllocateUser"))
_ROOT_ONLY = frozenset(("Permissions.Modify", "Realm.Allocate"))


def _names(privileges: Levels, kind: str, *levels: str) -> frozenset[str]:
    words = " ".join(privileges[kind].get(level, "") for level in levels).split()
    return frozenset(f"{kind}.{word}" for word in words)


def _make_roles(privileges: Levels) -> dict[str, frozenset[str]]:
    roles: dict[str, frozenset[str]] = {"NoAccess": frozenset(), "PVEUserAdmin": _USER_PRIVILEGES}
    for kind, levels in privileges.items():
        roles[f"PVE{kind}Admin"] = _names(privileges, kind, "admin", "user", "audit")
        if "user" in levels:
            roles[f"PVE{kind}User"] = _names(privileges, kind, "user", "audit")
    every = frozenset().union(*(_names(privileges, kind, "root", "admin", "user", "audit") for kind in privileges))
    roles["PVEAdmin"] = frozenset().union(*(role for name, role in roles.items() if name.endswith("Admin")))
    roles["PVEAdmin"] -= {"Mapping.Modify"}
    roles["PVEAuditor"] = frozenset().union(*(_names(privileges, kind, "audit") for kind in privileges))
    roles["PVETemplateUser"] = frozenset(("VM.Clone", "VM.Audit"))
    roles["Administrator"] = every | _USER_PRIVILEGES | _ROOT_ONLY
    return roles


ROLES = _make_roles(_PRIVILEGES)
"""The roles that cannot be changed, by name; other versions' have the same names."""
_LATER_ROLES = _make_roles(_LATER_PRIVILEGES)
PRIVILEGES = ROLES["Administrator"] | _LATER_ROLES["Administrator"]
"""All that there are in any version."""


def get_roles(version: str) -> dict[str, frozenset[str]]:
    """Return the roles of a version of Proxmox VE, by name."""
    return _LATER_ROLES if is_at_least(version, "9.0") else ROLES


def get_privileges(version: str) -> frozenset[str]:
    """Return all privileges of a version of Proxmox VE."""
    return get_roles(version)["Administrator"]
