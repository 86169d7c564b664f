"""`/access`: tickets, permissions, roles, ACL, passwords."""

from __future__ import annotations

from typing import Any

from goldsmith.base.secrets import Secret
from goldsmith.node.access.permissions import AclCaller
from goldsmith.node.access.roles import ROLES, get_privileges
from goldsmith.node.access.store import Access, AclEntry, has_password
from goldsmith.node.faults import ApiFault, ParameterFault, PermissionFault
from goldsmith.node.formats import split_list
from goldsmith.node.routing import Call, method

_CAPABILITIES = {
    "vms": "/vms", "storage": "/storage", "nodes": "/nodes", "access": "/access", "dc": "/", "sdn": "/sdn",
    "mapping": "/mapping",
}  # fmt: skip


@method("GET", "/access")
def index(call: Call) -> list[dict[str, str]]:
    """Return what there is below."""
    del call
    return [{"subdir": name} for name in ("users", "groups", "roles", "acl", "permissions", "password", "ticket")]


@method("GET", "/access/ticket")
def get_ticket(call: Call) -> None:
    """Do nothing, as Proxmox does, for logins of generic HTTP clients."""
    del call


@method("POST", "/access/ticket")
def create_ticket(call: Call) -> dict[str, Any]:
    """Log in with a password, or with a ticket that still holds.

    :raises ApiFault: 401, whatever is wrong.
    """
    name, password = call.params["username"], Secret(call.params["password"])
    if "@" not in name:
        name = f"{name}@{call.params.get('realm', 'pam')}"
    access, tickets = call.node.access.load(), call.tickets
    assert tickets is not None
    user = access.find_user(name)
    is_known = has_password(user.password if user else "", password) or tickets.find_user(password.reveal()) == name
    if user is None or not user.is_active() or not is_known:
        raise ApiFault("authentication failure", status=401)
    return {
        "username": name,
        "ticket": tickets.make_ticket(name),
        "CSRFPreventionToken": tickets.make_csrf_token(name),
        "cap": list_capabilities(AclCaller(name, access)),
    }


def list_capabilities(caller: AclCaller) -> dict[str, dict[str, int]]:
    """Return what a user may on the trees that Proxmox's web interface asks for."""
    return {key: dict.fromkeys(sorted(caller.privileges(path)), 1) for key, path in _CAPABILITIES.items()}


@method("PUT", "/access/password")
def change_password(call: Call) -> None:
    """Set a password: one's own, or with the rights over users, another's."""
    name = call.params["userid"]
    if name != call.caller.id:
        check_user_right(call, "User.Modify")
    if call.caller.user != "root@pam" and name == "root@pam":
        raise PermissionFault
    call.node.access.set_password(name, Secret(call.params["password"]))


def check_user_right(call: Call, *privileges: str) -> None:
    """Raise unless the caller has one of the privileges over users."""
    call.caller.check("/access/groups", *privileges, any_of=True)


@method("GET", "/access/permissions")
def permissions(call: Call) -> dict[str, dict[str, int]]:
    """Return the caller's privileges by path, or those of another user to who may look at users."""
    access, who = call.node.access.load(), call.params.get("userid", call.caller.id)
    if who.partition("!")[0] != call.caller.user:
        call.caller.check("/access", "Sys.Audit")
    caller = AclCaller(who, access)
    paths = [call.params["path"]] if "path" in call.params else _list_paths(access)
    shown = {path: {name: int(value) for name, value in caller.privileges(path).items()} for path in paths}
    return {path: privileges for path, privileges in shown.items() if privileges}


def _list_paths(access: Access) -> list[str]:
    """Return the paths worth telling: the trees' tops, and those that entries, pools and their guests are about."""
    members = [f"/vms/{vmid}" for pool in access.pools.values() for vmid in pool.vms]
    entries = [entry.path for entry in access.acl]
    return sorted({"/", "/access/groups", *_CAPABILITIES.values(), *entries, *members})


@method("GET", "/access/roles")
def list_roles(call: Call) -> list[dict[str, Any]]:
    """Return all roles with their privileges."""
    access = call.node.access.load()
    return [
        {"roleid": name, "privs": ",".join(sorted(access.privileges_of(name))), "special": int(name in ROLES)}
        for name in sorted({*ROLES, *access.roles})
    ]


@method("GET", "/access/roles/{roleid}")
def get_role(call: Call) -> dict[str, int]:
    """Return a role's privileges."""
    access, name = call.node.access.load(), call.params["roleid"]
    if name not in ROLES and name not in access.roles:
        raise ApiFault(f"role '{name}' does not exist")
    return dict.fromkeys(sorted(access.privileges_of(name)), 1)


def _split_privileges(call: Call) -> list[str]:
    """Return the privileges of a role that is made or changed; those of other versions of Proxmox VE are none."""
    given = split_list(call.params.get("privs", ""))
    for unknown in [name for name in given if name not in get_privileges(call.node.settings.pve_version)]:
        raise ParameterFault({"privs": f"invalid format - invalid privilege '{unknown}'\n"})
    return given


@method("POST", "/access/roles", permission=("/access", "Sys.Modify"))
def create_role(call: Call) -> None:
    """Make a role."""
    name, privileges = call.params["roleid"], _split_privileges(call)
    with call.node.access.change() as access:
        if name in ROLES or name in access.roles:
            raise ApiFault(f"create role failed: role '{name}' already exists")
        access.roles[name] = sorted(privileges)


@method("PUT", "/access/roles/{roleid}", permission=("/access", "Sys.Modify"))
def update_role(call: Call) -> None:
    """Change a role's privileges."""
    name, privileges = call.params["roleid"], _split_privileges(call)
    if name in ROLES:
        raise ApiFault(f"auto-generated role '{name}' cannot be modified")
    with call.node.access.change() as access:
        if name not in access.roles:
            raise ApiFault(f"role '{name}' does not exist")
        kept = access.roles[name] if call.params.get("append") else []
        access.roles[name] = sorted({*kept, *privileges})


@method("DELETE", "/access/roles/{roleid}", permission=("/access", "Sys.Modify"))
def delete_role(call: Call) -> None:
    """Remove a role."""
    name = call.params["roleid"]
    if name in ROLES:
        raise ApiFault(f"auto-generated role '{name}' cannot be deleted")
    with call.node.access.change() as access:
        if access.roles.pop(name, None) is None:
            raise ApiFault(f"role '{name}' does not exist")
        access.acl = [entry for entry in access.acl if entry.role != name]


@method("GET", "/access/acl")
def list_acl(call: Call) -> list[dict[str, Any]]:
    """Return the entries on paths that the caller may look at or change."""
    return [
        {
            "path": entry.path, "type": entry.kind, "ugid": entry.who, "roleid": entry.role,
            "propagate": int(entry.propagate),
        }
        for entry in call.node.access.load().acl
        if call.caller.may(entry.path, "Permissions.Modify", "Sys.Audit", any_of=True)
    ]  # fmt: skip


@method("PUT", "/access/acl")
def update_acl(call: Call) -> None:
    """Give or take roles on a path."""
    params = call.params
    path = "/" + "/".join(part for part in params["path"].split("/") if part)
    call.caller.check(path, "Permissions.Modify")
    named = [(kind, who) for kind in ("user", "token", "group") for who in split_list(params.get(f"{kind}s", ""))]
    if not named:
        raise ParameterFault(dict.fromkeys(("users", "groups", "tokens"), "property is missing and it is not optional"))
    with call.node.access.change() as access:
        for role in split_list(params["roles"]):
            if role not in ROLES and role not in access.roles:
                raise ApiFault(f"role '{role}' does not exist")
            for kind, who in named:
                _check_exists(access, kind, who)
                entry = AclEntry(path, kind, who, role, params.get("propagate", True))
                access.acl = [other for other in access.acl if _identity(other) != _identity(entry)]
                access.acl += [] if params.get("delete") else [entry]


def _identity(entry: AclEntry) -> tuple[str, str, str, str]:
    return (entry.path, entry.kind, entry.who, entry.role)


def _check_exists(access: Access, kind: str, who: str) -> None:
    if kind == "group" and who not in access.groups:
        raise ApiFault(f"group '{who}' does not exist")
    if kind == "user" and who not in access.users:
        raise ApiFault(f"user '{who}' does not exist")
    if kind == "token":
        user, _, name = who.partition("!")
        access.get_token(user, name)
