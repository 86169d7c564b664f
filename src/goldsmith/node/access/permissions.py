"""What a user or token may do on a path: Proxmox's rules, as its manual (pveum(1)) and its answers show them.

- An entry on a path holds there, and below it when it propagates. Of entries on the way down, the deepest replaces
  those above; on one level, a token's or user's own entries replace those of its groups. `NoAccess` takes all away.
- A guest in a pool also has the roles that hold on the pool's path.
- A token without separation is its user; one with separation has what both it and its user have.
- root@pam may do anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from goldsmith.node.access.roles import get_privileges
from goldsmith.node.access.store import ROOT, Access, AclEntry
from goldsmith.node.faults import PermissionFault

_NO_ACCESS = "NoAccess"


def _list_levels(path: str) -> list[str]:
    """Return a path and those above it, from `/` down."""
    parts = [part for part in path.split("/") if part]
    return ["/", *("/" + "/".join(parts[: number + 1]) for number in range(len(parts)))]


def _find_level(access: Access, who: str, path: str, *, final: bool) -> dict[str, bool] | None:
    """Return the roles (and whether they propagate) that somebody's entries on one path give; None without any."""
    entries = [entry for entry in access.acl if entry.path == path and (final or entry.propagate)]
    kind = "token" if "!" in who else "user"
    own = [entry for entry in entries if (entry.kind, entry.who) == (kind, who)]
    return _merge(own) or _merge(_find_group_entries(access, who, entries))


def _find_group_entries(access: Access, who: str, entries: list[AclEntry]) -> list[AclEntry]:
    user = access.find_user(who)
    return [entry for entry in entries if entry.kind == "group" and user is not None and entry.who in user.groups]


def _merge(entries: list[AclEntry]) -> dict[str, bool] | None:
    roles = {entry.role: entry.propagate for entry in entries}
    return {_NO_ACCESS: roles[_NO_ACCESS]} if _NO_ACCESS in roles else roles or None


def find_roles(access: Access, who: str, path: str) -> dict[str, bool]:
    """Return the roles that hold for a user or token by itself on a path, and whether they propagate."""
    levels = _list_levels(path)
    roles: dict[str, bool] = {}
    for level in levels:
        found = _find_level(access, who, level, final=level == levels[-1])
        roles = found if found is not None else roles
    return _add_pool_roles(access, who, path, roles)


def _add_pool_roles(access: Access, who: str, path: str, roles: dict[str, bool]) -> dict[str, bool]:
    kind, _, name = path.removeprefix("/").partition("/")
    if _NO_ACCESS in roles or kind not in ("vms", "storage") or "/" in name:
        return roles
    for pool, members in access.pools.items():
        if name in [str(vmid) for vmid in members.vms] if kind == "vms" else name in members.storages:
            of_pool = find_roles(access, who, f"/pool/{pool}")
            if _NO_ACCESS in of_pool:
                return {_NO_ACCESS: False}
            roles = {**dict.fromkeys(of_pool, False), **roles}
    return roles


def find_privileges(access: Access, who: str, path: str) -> dict[str, bool]:
    """Return a user's or token's privileges on a path, and whether they propagate."""
    user, _, name = who.partition("!")
    account = access.find_user(user)
    if account is None or not account.is_active():
        return {}
    if name:
        token = account.tokens.get(name)
        if token is None:
            return {}
        if token.privsep:
            own, users = _expand(access, find_roles(access, who, path)), find_privileges(access, user, path)
            return {privilege: own[privilege] and users[privilege] for privilege in own.keys() & users.keys()}
    if user == ROOT:
        return dict.fromkeys(get_privileges(access.version), True)
    return _expand(access, find_roles(access, user, path))


def _expand(access: Access, roles: dict[str, bool]) -> dict[str, bool]:
    privileges: dict[str, bool] = {}
    for role, propagates in roles.items():
        for privilege in access.privileges_of(role):
            privileges[privilege] = privileges.get(privilege, False) or propagates
    return privileges


@dataclass(frozen=True)
class AclCaller:
    """Who asks (`routing.Caller`): `root@pam`, or `root@pam!ci` for a token; only a ticket of root@pam `is_root`."""

    id: str
    access: Access

    @property
    def user(self) -> str:
        """The user, without a token."""
        return self.id.partition("!")[0]

    @property
    def is_root(self) -> bool:
        """Whether it is root@pam itself: a token of root@pam is not, whatever its privileges."""
        return self.id == ROOT

    def privileges(self, path: str) -> dict[str, bool]:
        """Return all privileges on a path, and whether they propagate."""
        return find_privileges(self.access, self.id, path)

    def may(self, path: str, *privileges: str, any_of: bool = False) -> bool:
        """Tell whether the caller has all (or one) of the privileges on an ACL path."""
        has = self.privileges(path)
        return any(name in has for name in privileges) if any_of else all(name in has for name in privileges)

    def check(self, path: str, *privileges: str, any_of: bool = False) -> None:
        """Raise `PermissionFault` in Proxmox's words unless `may`."""
        if not self.may(path, *privileges, any_of=any_of):
            raise PermissionFault(f"{path}, {'|'.join(privileges)}")
