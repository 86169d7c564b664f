"""`/access/users` and `/access/groups`: users, their API tokens, groups of users."""

from __future__ import annotations

from typing import Any

from goldsmith.base.secrets import Secret
from goldsmith.node.access.store import ROOT, Access, Token, User, hash_password, hash_secret, make_uuid
from goldsmith.node.api.access import check_user_right
from goldsmith.node.faults import ApiFault, ParameterFault, PermissionFault
from goldsmith.node.formats import split_list
from goldsmith.node.routing import Call, method

_ABOUT = ("comment", "email", "firstname", "lastname", "keys")
_USER = "/access/users/{userid}"
_TOKEN = _USER + "/token/{tokenid}"


@method("GET", "/access/users")
def list_users(call: Call) -> list[dict[str, Any]]:
    """Return all users to who may look at them, else only oneself."""
    sees_all = call.caller.may("/access/groups", "User.Modify", "Sys.Audit", any_of=True)
    shown = []
    for name, user in sorted(call.node.access.load().users.items()):
        if (sees_all or name == call.caller.user) and call.params.get("enabled", user.enable) == user.enable:
            tokens = [{"tokenid": token, **about.describe()} for token, about in sorted(user.tokens.items())]
            more = {"groups": ",".join(user.groups), "tokens": tokens} if call.params.get("full") else {}
            shown.append({"userid": name, "realm-type": name.rpartition("@")[2], **user.describe(), **more})
    return shown


@method("POST", "/access/users")
def create_user(call: Call) -> None:
    """Make a user."""
    check_user_right(call, "User.Modify")
    params, name = call.params, call.params["userid"]
    with call.node.access.change() as access:
        if name in access.users:
            raise ApiFault(f"create user failed: user '{name}' already exists")
        password = params.get("password")
        user = User(password=hash_password(Secret(password)) if password else "")
        _apply(access, user, params)
        access.users[name] = user


def _apply(access: Access, user: User, params: dict[str, Any]) -> None:
    user.enable = params.get("enable", user.enable)
    user.expire = params.get("expire", user.expire)
    user.about.update({key: params[key] for key in _ABOUT if key in params})
    if "groups" in params:
        groups = split_list(params["groups"])
        if missing := [group for group in groups if group not in access.groups]:
            raise ApiFault(f"no such group '{missing[0]}'")
        user.groups = sorted({*(user.groups if params.get("append") else ()), *groups})


@method("GET", _USER)
def get_user(call: Call) -> dict[str, Any]:
    """Return a user."""
    _check_self(call, "User.Modify", "Sys.Audit")
    user = call.node.access.load().get_user(call.params["userid"])
    tokens = {name: token.describe() for name, token in user.tokens.items()}
    return {**user.describe(), "groups": user.groups, "tokens": tokens}


@method("PUT", _USER)
def update_user(call: Call) -> None:
    """Change a user."""
    check_user_right(call, "User.Modify")
    with call.node.access.change() as access:
        _apply(access, access.get_user(call.params["userid"]), call.params)


@method("DELETE", _USER)
def delete_user(call: Call) -> None:
    """Remove a user, with tokens and ACL entries."""
    check_user_right(call, "User.Modify")
    name = call.params["userid"]
    if name in (ROOT, call.caller.user):
        raise PermissionFault
    with call.node.access.change() as access:
        for token in access.get_user(name).tokens:
            access.forget("token", f"{name}!{token}")
        access.forget("user", name)
        del access.users[name]


def _check_self(call: Call, *privileges: str) -> None:
    """Raise unless the caller is the user in question or has one of the privileges over users."""
    if call.caller.id != call.params["userid"]:
        check_user_right(call, *(privileges or ("User.Modify",)))


@method("GET", f"{_USER}/token")
def list_tokens(call: Call) -> list[dict[str, Any]]:
    """Return a user's tokens."""
    _check_self(call)
    user = call.node.access.load().get_user(call.params["userid"])
    return [{"tokenid": name, **token.describe()} for name, token in sorted(user.tokens.items())]


@method("GET", _TOKEN)
def get_token(call: Call) -> dict[str, Any]:
    """Return a token, without its secret."""
    _check_self(call)
    return call.node.access.load().get_token(call.params["userid"], call.params["tokenid"]).describe()


@method("POST", _TOKEN)
def create_token(call: Call) -> dict[str, Any]:
    """Make a token; its secret is told this once."""
    _check_self(call)
    params, user, name = call.params, call.params["userid"], call.params["tokenid"]
    secret = make_uuid()
    with call.node.access.change() as access:
        if name in access.get_user(user).tokens:
            raise ParameterFault({"tokenid": "Token already exists."})
        token = Token(
            hash_secret(Secret(secret)), params.get("privsep", True), params.get("expire", 0), params.get("comment", "")
        )
        access.users[user].tokens[name] = token
    info = {key: str(value) for key, value in token.describe().items() if value or key != "expire"}
    return {"full-tokenid": f"{user}!{name}", "value": secret, "info": info}


@method("PUT", _TOKEN)
def update_token(call: Call) -> dict[str, Any]:
    """Change a token; its secret stays."""
    _check_self(call)
    params = call.params
    with call.node.access.change() as access:
        token = access.get_token(params["userid"], params["tokenid"])
        token.privsep = params.get("privsep", token.privsep)
        token.expire = params.get("expire", token.expire)
        token.comment = params.get("comment", token.comment)
    return token.describe()


@method("DELETE", _TOKEN)
def delete_token(call: Call) -> None:
    """Remove a token with its ACL entries."""
    _check_self(call)
    user, name = call.params["userid"], call.params["tokenid"]
    with call.node.access.change() as access:
        access.get_token(user, name)
        del access.users[user].tokens[name]
        access.forget("token", f"{user}!{name}")


@method("GET", "/access/groups")
def list_groups(call: Call) -> list[dict[str, Any]]:
    """Return the groups."""
    if not call.caller.may("/access/groups", "User.Modify", "Sys.Audit", "Group.Allocate", any_of=True):
        return []
    access = call.node.access.load()
    return [
        {
            "groupid": name, "comment": comment,
            "users": ",".join(sorted(user for user, about in access.users.items() if name in about.groups)),
        }
        for name, comment in sorted(access.groups.items())
    ]  # fmt: skip


@method("POST", "/access/groups", permission=("/access/groups", "Group.Allocate"))
def create_group(call: Call) -> None:
    """Make a group."""
    name = call.params["groupid"]
    with call.node.access.change() as access:
        if name in access.groups:
            raise ApiFault(f"create group failed: group '{name}' already exists")
        access.groups[name] = call.params.get("comment", "")


@method("GET", "/access/groups/{groupid}", permission=("/access/groups", "Sys.Audit", "Group.Allocate"), any_of=True)
def get_group(call: Call) -> dict[str, Any]:
    """Return a group with its members."""
    access, name = call.node.access.load(), call.params["groupid"]
    _check_group(access, name)
    members = sorted(user for user, about in access.users.items() if name in about.groups)
    comment = access.groups[name]
    return {"members": members, **({"comment": comment} if comment else {})}


@method("PUT", "/access/groups/{groupid}", permission=("/access/groups", "Group.Allocate"))
def update_group(call: Call) -> None:
    """Change a group's comment."""
    with call.node.access.change() as access:
        _check_group(access, call.params["groupid"])
        access.groups[call.params["groupid"]] = call.params.get("comment", "")


@method("DELETE", "/access/groups/{groupid}", permission=("/access/groups", "Group.Allocate"))
def delete_group(call: Call) -> None:
    """Remove a group with its ACL entries; its members stay."""
    name = call.params["groupid"]
    with call.node.access.change() as access:
        _check_group(access, name)
        del access.groups[name]
        access.forget("group", name)
        for user in access.users.values():
            user.groups = [group for group in user.groups if group != name]


def _check_group(access: Access, name: str) -> None:
    if name not in access.groups:
        raise ApiFault(f"group '{name}' does not exist")
