"""Users, tokens, roles, ACL and pools, and what is refused without them (observed answers, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from tests.contract.node.conftest import Served


def refusal(work: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ResourceException) as caught:
        work()
    return caught.value.status_code, str(caught.value.content)


@pytest.fixture
def user(served: Served, make_user: Callable[..., str]) -> str:
    return make_user("ansible@pve", password="secret99")


@pytest.fixture
def pool(served: Served) -> Iterator[str]:
    served.api.pools.post(poolid="lab")
    yield "lab"
    served.api.pools("lab").delete()


def make_token(served: Served, user: str, **params: Any) -> ProxmoxAPI:
    made = served.api.access.users(user).token("t1").post(**params)
    return served.client(made["full-tokenid"], made["value"])


def give(served: Served, path: str, role: str, **who: str) -> None:
    served.api.access.acl.put(path=path, roles=role, **who)


def test_a_new_token_tells_its_secret_once(served: Served, user: str) -> None:
    made = served.api.access.users(user).token("t1").post(comment="c")
    assert made["full-tokenid"] == "ansible@pve!t1"
    assert made["info"] == {"privsep": "1", "comment": "c"}
    assert len(made["value"]) == 36
    assert served.api.access.users(user).token("t1").get() == {"privsep": 1, "expire": 0, "comment": "c"}
    with pytest.raises(ResourceException) as caught:
        served.api.access.users(user).token("t1").post()
    assert caught.value.errors == {"tokenid": "Token already exists."}
    served.api.access.users(user).token("t1").delete()
    text = "no such token 't1' for user 'ansible@pve'"
    assert refusal(lambda: served.api.access.users(user).token("t1").delete()) == (500, text)


def test_a_user_exists_once(served: Served, user: str) -> None:
    text = "create user failed: user 'ansible@pve' already exists"
    assert refusal(lambda: served.api.access.users.post(userid=user)) == (500, text)


def test_without_rights_lists_are_empty_and_the_rest_is_refused(served: Served, user: str) -> None:
    api = served.login(user, "secret99")
    assert api.version.get()["release"] == "8.4"
    assert api.cluster.nextid.get() == "100"
    assert api.access.permissions.get() == {}
    for call in ("nodes/pve/lxc", "nodes/pve/storage", "nodes/pve/tasks", "pools", "storage"):
        assert api(call).get() == [], call
    assert [entry["type"] for entry in api.cluster.resources.get()] == ["node"]
    assert "maxmem" not in api.nodes.get()[0]
    node = api.nodes("pve")
    expected = {
        "Permission check failed (/nodes/pve, Sys.Audit)": node.status.get,
        "Permission check failed (/vms/100, VM.Audit)": node.lxc(100).config.get,
        "Permission check failed (/vms/abc, VM.Audit)": node.lxc("abc").config.get,
        "Permission check failed (/storage/local, Datastore.Audit|Datastore.AllocateSpace)": node.storage(
            "local"
        ).content.get,
        "Permission check failed (/vms/100, VM.Allocate)": node.lxc(100).delete,
        "Permission check failed (/access/groups, User.Modify)": lambda: api.access.users.post(userid="x@pve"),
        "Permission check failed (/pool/p, Pool.Allocate)": lambda: api.pools.post(poolid="p"),
        "Permission check failed (/, Permissions.Modify)": lambda: api.access.acl.put(
            path="/", roles="Administrator", users=user
        ),
    }
    for text, work in expected.items():
        assert refusal(work) == (403, text)


def test_open_methods_look_at_parameters_first(served: Served, user: str) -> None:
    api = served.login(user, "secret99")
    assert refusal(lambda: api.nodes("pve").lxc.post(vmid=5, ostemplate="x"))[0] == 400
    assert refusal(lambda: api.nodes("pve").lxc.post(vmid=500, ostemplate="local:vztmpl/x.tar.zst")) == (
        403,
        "Permission check failed",
    )


def test_a_separated_token_has_what_both_have(served: Served, user: str) -> None:
    api = make_token(served, user)
    status = api.nodes("pve").status
    give(served, "/nodes", "PVEAuditor", tokens=f"{user}!t1")
    assert refusal(status.get)[0] == 403
    give(served, "/", "PVEAuditor", users=user)
    assert status.get()["cpuinfo"]["cpus"] >= 1
    assert set(api.access.permissions.get()["/nodes"]) >= {"Sys.Audit"}
    assert refusal(api.nodes("pve").storage("local").content.get)[0] == 403


def test_an_unseparated_token_is_its_user(served: Served, user: str) -> None:
    give(served, "/nodes", "PVEAuditor", users=user)
    assert make_token(served, user, privsep=0).nodes("pve").status.get()["uptime"] > 0


def test_entries_hold_below_only_when_they_propagate(served: Served, user: str) -> None:
    api = served.login(user, "secret99")
    give(served, "/storage", "PVEDatastoreUser", users=user, propagate="0")
    assert api.nodes("pve").storage.get() == []
    give(served, "/storage", "PVEDatastoreUser", users=user)
    assert {entry["storage"] for entry in api.nodes("pve").storage.get()} == {"local", "plain"}
    give(served, "/storage/plain", "NoAccess", users=user)
    assert {entry["storage"] for entry in api.nodes("pve").storage.get()} == {"local"}
    served.api.access.acl.put(path="/storage/plain", roles="NoAccess", users=user, delete=1)
    assert len(api.nodes("pve").storage.get()) == 2


def test_rights_go_with_a_deleted_user(served: Served, make_user: Callable[..., str]) -> None:
    served.api.access.users.post(userid="short@pve")
    give(served, "/", "PVEAuditor", users="short@pve")
    served.api.access.users("short@pve").delete()
    assert "short@pve" not in [entry["ugid"] for entry in served.api.access.acl.get()]


def test_pools_have_members_and_must_be_empty_to_go(served: Served, pool: str) -> None:
    served.api.pools(pool).put(storage="plain", comment="a lab")
    shown = served.api.pools(pool).get()
    assert shown["comment"] == "a lab"
    assert [member["storage"] for member in shown["members"]] == ["plain"]
    assert refusal(served.api.pools(pool).delete) == (500, "delete pool failed: pool 'lab' is not empty")
    served.api.pools(pool).put(storage="plain", delete=1)


def test_a_pool_gives_rights_on_its_storages(served: Served, user: str, pool: str) -> None:
    api = served.login(user, "secret99")
    served.api.pools(pool).put(storage="plain")
    give(served, "/pool/lab", "PVEDatastoreUser", users=user)
    assert [entry["storage"] for entry in api.nodes("pve").storage.get()] == ["plain"]
    served.api.pools(pool).put(storage="plain", delete=1)


def test_roles_are_proxmoxs_own_and_ones_own(served: Served, user: str) -> None:
    roles = {role["roleid"]: role for role in served.api.access.roles.get()}
    assert {"Administrator", "NoAccess", "PVEAdmin", "PVEAuditor", "PVEVMUser", "PVETemplateUser"} <= set(roles)
    assert set(roles["PVEVMUser"]["privs"].split(",")) == {
        "VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.PowerMgmt",
    }  # fmt: skip
    assert "Permissions.Modify" not in roles["PVEAdmin"]["privs"]
    served.api.access.roles.post(roleid="Looker", privs="Sys.Audit")
    try:
        give(served, "/nodes/pve", "Looker", users=user)
        assert served.login(user, "secret99").nodes("pve").status.get()["uptime"] > 0
    finally:
        served.api.access.roles("Looker").delete()
    with pytest.raises(ResourceException) as caught:
        served.api.access.roles.post(roleid="Bad", privs="No.Such")
    assert caught.value.errors == {"privs": "invalid format - invalid privilege 'No.Such'\n"}


def test_other_peoples_tasks_are_not_seen(served: Served, user: str) -> None:
    upid = served.api.nodes("pve").storage("local").content("local:backup/none.tar.zst").delete()
    served.wait(upid)
    api = served.login(user, "secret99")
    text = "Permission check failed (/nodes/pve, Sys.Audit)"
    assert refusal(api.nodes("pve").tasks(upid).status.get) == (403, text)
    assert refusal(api.nodes("pve").tasks(upid).log.get) == (403, text)
    assert api.nodes("pve").tasks.get() == []


def test_a_token_of_root_is_not_root(served: Served) -> None:
    text = "Permission check failed (URI '/access/password' not available with API token, need proper ticket.\n)"
    call = served.request("PUT", "/api2/json/access/password", data={"userid": "root@pam", "password": "abcde"})
    assert (call.status_code, call.json()["message"]) == (403, text + "\n")
    given = {"vmid": 700, "ostemplate": "local:vztmpl/x.tar.zst", "unprivileged": 1}
    for option, said in (
        ({"features": "keyctl=1"}, "changing feature flags (except nesting) is only allowed for root@pam"),
        ({"rootfs": "local:1", "mp0": "/srv,mp=/srv"}, "mount point type bind is only allowed for root@pam"),
        ({"hookscript": "local:snippets/x"}, "changing the hookscript is only allowed for root@pam"),
    ):
        status, reason = refusal(lambda option=option: served.api.nodes("pve").lxc.post(**given, **option))
        assert (status, reason) == (403, f"Permission check failed ({said})")


def test_a_password_is_changed_by_its_owner(served: Served, user: str) -> None:
    served.login(user, "secret99").access.password.put(userid=user, password="another99")
    assert served.login(user, "another99").version.get()
    other = served.login(user, "another99").access.password
    assert refusal(lambda: other.put(userid="root@pam", password="stolen99"))[0] == 403


def test_a_disabled_user_is_out_at_once(served: Served, user: str) -> None:
    api = served.login(user, "secret99")
    served.api.access.users(user).put(enable=0)
    with pytest.raises(ResourceException) as caught:
        api.version.get()
    assert caught.value.status_code == 401
