"""The commands by which an administrator grants what is needed: roles, user, token, ACL entries; pure."""

from __future__ import annotations

from collections.abc import Iterable

from goldsmith.build.doctor.needs import Need

ROLES = {
    "/vms": "GoldsmithGuests",
    "/pool": "GoldsmithGuests",
    "/storage": "GoldsmithStorage",
    "/sdn": "GoldsmithNetwork",
    "/nodes": "GoldsmithNode",
    "/": "GoldsmithCluster",
}
"""By the beginning of a path."""


def render_commands(needs: Iterable[Need], user: str, token: str = "", known_roles: Iterable[str] = ()) -> list[str]:
    """Return `pveum` lines (pveum(1), the same from PVE 7 to 9) that grant needs to a user and his token.

    One role for each kind of path has what any path of that kind needs, so that a handful of roles does.

    :param token: the token's own name; it is separate from its user, so both get the entries.
    :param known_roles: those that there are; they are changed, not added.
    """
    listed, known = list(needs), set(known_roles)
    whom = [f"--users {user}", *([f"--tokens '{user}!{token}'"] if token else [])]
    roles = [
        f'pveum role {"modify" if role in known else "add"} {role} --privs "{" ".join(sorted(privileges))}"'
        for role, privileges in _gather(listed).items()
    ]
    entries = [f"pveum acl modify {_grant_at(need)} --roles {_role_of(need)} {who}" for need in listed for who in whom]
    return [*roles, *entries]


def _gather(needs: list[Need]) -> dict[str, set[str]]:
    roles: dict[str, set[str]] = {}
    for need in needs:
        roles.setdefault(_role_of(need), set()).update(need.privileges)
    return roles


def _role_of(need: Need) -> str:
    return ROLES["/" + need.path.split("/")[1]]


def _grant_at(need: Need) -> str:
    """Return where a right is granted: for guests whose vmids are not known beforehand, above them all."""
    return "/vms" if need.path.startswith("/vms/") else need.path
