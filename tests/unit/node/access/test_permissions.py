"""Proxmox's rules of who may do what, as values."""

from __future__ import annotations

import time

import pytest

from goldsmith.node.access.permissions import AclCaller
from goldsmith.node.access.roles import ROLES, get_privileges, get_roles
from goldsmith.node.access.store import Access, AclEntry, Pool, Token, User
from goldsmith.node.faults import PermissionFault
from goldsmith.node.version import VERSION

AUDIT, POWER = "VM.Audit", "VM.PowerMgmt"


def entry(path: str, role: str, who: str = "u@pve", *, kind: str = "user", propagate: bool = True) -> AclEntry:
    return AclEntry(path, kind, who, role, propagate)


def make(*acl: AclEntry, **more: object) -> Access:
    users = {
        "u@pve": User(groups=["g"], tokens={"t": Token("x"), "same": Token("x", privsep=False)}),
        "root@pam": User(),
    }
    users["root@pam"].tokens["ci"] = Token("x", privsep=False)
    return Access(users=users, groups={"g": ""}, acl=list(acl), **more)  # type: ignore[arg-type]


def may(access: Access, path: str, privilege: str = AUDIT, *, who: str = "u@pve") -> bool:
    return AclCaller(who, access).may(path, privilege)


def test_an_entry_holds_below_unless_it_does_not_propagate() -> None:
    assert may(make(entry("/vms", "PVEVMUser")), "/vms/100")
    assert not may(make(entry("/vms", "PVEVMUser", propagate=False)), "/vms/100")
    assert may(make(entry("/vms/100", "PVEVMUser", propagate=False)), "/vms/100")
    assert not may(make(entry("/vms/100", "PVEVMUser")), "/vms/1001")
    assert not may(make(entry("/vms/100", "PVEVMUser")), "/vms")


def test_deeper_entries_replace_those_above() -> None:
    access = make(entry("/", "PVEVMAdmin"), entry("/vms/100", "PVEAuditor"))
    assert may(access, "/vms/100")
    assert not may(access, "/vms/100", POWER)
    assert may(access, "/vms/101", POWER)


def test_roles_on_one_path_add_up() -> None:
    access = make(entry("/vms", "PVEAuditor"), entry("/vms", "PVETemplateUser"))
    assert AclCaller("u@pve", access).may("/vms/100", AUDIT, "VM.Clone")


def test_no_access_takes_all_away() -> None:
    access = make(entry("/", "Administrator"), entry("/vms/100", "NoAccess"), entry("/vms/100", "PVEVMUser"))
    assert not may(access, "/vms/100")
    assert may(access, "/vms/101")


def test_own_entries_replace_those_of_groups_on_one_path() -> None:
    access = make(entry("/vms", "PVEVMAdmin", "g", kind="group"))
    assert may(access, "/vms/100", POWER)
    access.acl.append(entry("/vms", "PVEAuditor"))
    assert not may(access, "/vms/100", POWER)
    assert may(access, "/vms/100")


def test_pools_give_their_rights_to_members() -> None:
    access = make(entry("/pool/lab", "PVEVMUser"), pools={"lab": Pool(vms=[100], storages=["local"])})
    assert may(access, "/vms/100", POWER)
    assert not may(access, "/vms/101", POWER)
    access.acl.append(entry("/vms/100", "NoAccess"))
    assert not may(access, "/vms/100", POWER)


@pytest.mark.parametrize("token", ["u@pve!t", "u@pve!same", "u@pve!gone", "x@pve!t"])
def test_a_token_alone_has_nothing(token: str) -> None:
    access = make(entry("/", "Administrator", token, kind="token"))
    assert AclCaller(token, access).privileges("/vms/100") == {}


def test_a_separated_token_has_what_both_have() -> None:
    access = make(entry("/", "PVEVMAdmin"), entry("/vms", "PVEAuditor", "u@pve!t", kind="token"))
    assert may(access, "/vms/100", who="u@pve!t")
    assert not may(access, "/vms/100", POWER, who="u@pve!t")
    assert may(access, "/vms/100", POWER, who="u@pve!same")


def test_root_may_do_anything_and_its_token_is_still_not_root() -> None:
    access = make()
    root, token = AclCaller("root@pam", access), AclCaller("root@pam!ci", access)
    assert set(root.privileges("/vms/100")) == set(token.privileges("/")) == get_privileges(VERSION)
    assert (root.is_root, token.is_root, token.user) == (True, False, "root@pam")


def test_who_is_locked_out_has_nothing() -> None:
    access = make(entry("/", "Administrator"))
    access.users["u@pve"].expire = int(time.time()) - 1
    assert not may(access, "/vms/100")
    access.users["u@pve"] = User(enable=False)
    assert not may(access, "/vms/100")


def test_refusals_are_in_proxmoxs_words() -> None:
    caller = AclCaller("u@pve", make())
    with pytest.raises(PermissionFault) as caught:
        caller.check("/storage/local", "Datastore.Audit", "Datastore.AllocateSpace", any_of=True)
    assert (caught.value.status, caught.value.reason) == (
        403,
        "Permission check failed (/storage/local, Datastore.Audit|Datastore.AllocateSpace)",
    )


def test_own_roles_count_as_long_as_they_exist() -> None:
    access = make(entry("/", "Looker"), roles={"Looker": [AUDIT]})
    assert may(access, "/vms/100")
    access.roles.clear()
    assert not may(access, "/vms/100")


def test_what_the_great_roles_lack() -> None:
    assert {"Permissions.Modify", "Realm.Allocate", "Sys.Modify", "Sys.PowerMgmt"}.isdisjoint(ROLES["PVEAdmin"])
    assert all(name.endswith("Audit") for name in ROLES["PVEAuditor"])
    assert ROLES["PVEDatastoreUser"] == {"Datastore.AllocateSpace", "Datastore.Audit"}


def test_rights_on_the_guest_agent_are_those_of_the_version() -> None:
    assert "VM.Monitor" in get_roles("8.4.21")["PVEVMAdmin"]
    assert not any(name.startswith("VM.GuestAgent") for name in get_roles("8.4.21")["Administrator"])
    assert "VM.Monitor" not in get_roles("9.1.2")["Administrator"]
    assert "VM.GuestAgent.Unrestricted" in get_roles("9.1.2")["PVEVMAdmin"]
    assert {"VM.GuestAgent.FileRead", "VM.GuestAgent.Audit"} <= get_roles("9.1.2")["PVEVMUser"]
    assert "VM.GuestAgent.Audit" in get_roles("9.1.2")["PVEAuditor"]
    assert get_roles("9.1.2").keys() == get_roles("8.4.21").keys()
