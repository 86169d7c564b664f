"""Proxmox VE 8.4's privileges, and the roles that it brings along.

A privilege is for `root` (administrators only), `admin`, `user` or `audit`; the roles follow from that: `PVEVMUser`
has what VM users and auditors have, `PVEAdmin` everything of every kind but what is for root.
"""

from __future__ import annotations

_PRIVILEGES = {
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
_USER_PRIVILEGES = frozenset(("User.Modify", "Group.Allocate", "Realm.AllocateUser"))
_ROOT_ONLY = frozenset(("Permissions.Modify", "Realm.Allocate"))


def _names(kind: str, *levels: str) -> frozenset[str]:
    words = " ".join(_PRIVILEGES[kind].get(level, "") for level in levels).split()
    return frozenset(f"{kind}.{word}" for word in words)


def _make_roles() -> dict[str, frozenset[str]]:
    roles: dict[str, frozenset[str]] = {"NoAccess": frozenset(), "PVEUserAdmin": _USER_PRIVILEGES}
    for kind, levels in _PRIVILEGES.items():
        roles[f"PVE{kind}Admin"] = _names(kind, "admin", "user", "audit")
        if "user" in levels:
            roles[f"PVE{kind}User"] = _names(kind, "user", "audit")
    every = frozenset().union(*(_names(kind, "root", "admin", "user", "audit") for kind in _PRIVILEGES))
    roles["PVEAdmin"] = frozenset().union(*(role for name, role in roles.items() if name.endswith("Admin")))
    roles["PVEAdmin"] -= {"Mapping.Modify"}
    roles["PVEAuditor"] = frozenset().union(*(_names(kind, "audit") for kind in _PRIVILEGES))
    roles["PVETemplateUser"] = frozenset(("VM.Clone", "VM.Audit"))
    roles["Administrator"] = every | _USER_PRIVILEGES | _ROOT_ONLY
    return roles


ROLES = _make_roles()
"""The roles that cannot be changed, by name."""
PRIVILEGES = ROLES["Administrator"]
