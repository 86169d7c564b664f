"""Users, tokens, ACL entries, own roles and pools, in one file that only root reads: Proxmox's user.cfg as JSON.

Of passwords and token secrets there are only hashes. Every change holds the lock and replaces the file; readers need
no lock. `root@pam` always exists and is always enabled.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from goldsmith.base.files import open_lock, write_atomic
from goldsmith.base.secrets import Secret
from goldsmith.node.access.roles import get_roles
from goldsmith.node.faults import ApiFault
from goldsmith.node.version import VERSION

ROOT = "root@pam"
_SCRYPT = {"n": 1 << 14, "r": 8, "p": 1}
"""16 MiB and about 40 ms for each try (RFC 7914, section 2: for interactive logins)."""


def hash_password(password: Secret, salt: bytes | None = None) -> str:
    """Return what is kept of a password."""
    salt = salt or secrets.token_bytes(16)
    return f"{salt.hex()}${hashlib.scrypt(password.reveal().encode(), salt=salt, **_SCRYPT).hex()}"


def has_password(kept: str, password: Secret) -> bool:
    """Tell whether a password is the one of which `kept` is kept. Takes as long for a user without one."""
    salt = bytes.fromhex(kept.partition("$")[0]) or b"0" * 16
    return hmac.compare_digest(hash_password(password, salt), kept)


def hash_secret(secret: Secret) -> str:
    """Return what is kept of a token's secret, which is random and long: a plain hash is enough."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()


@dataclass
class Token:
    """An API token. `privsep`: it has only what its own ACL entries give, never more than its user."""

    hashed: str
    privsep: bool = True
    expire: int = 0
    comment: str = ""

    def is_expired(self) -> bool:
        """Tell whether its time is over."""
        return self.expire != 0 and self.expire <= time.time()

    def describe(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        shown = {"privsep": int(self.privsep), "expire": self.expire}
        return {**shown, "comment": self.comment} if self.comment else shown


@dataclass
class User:
    """A user. `expire` is in seconds since 1970; 0 means never."""

    enable: bool = True
    expire: int = 0
    password: str = ""
    about: dict[str, str] = field(default_factory=dict)
    """`comment`, `email`, `firstname`, `lastname`, `keys`."""
    groups: list[str] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)

    def is_active(self) -> bool:
        """Tell whether the user may log in."""
        return self.enable and (self.expire == 0 or self.expire > time.time())

    def describe(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {"enable": int(self.enable), "expire": self.expire, **{k: v for k, v in self.about.items() if v}}


@dataclass(frozen=True)
class AclEntry:
    """A role on a path. `kind` is user, token or group."""

    path: str
    kind: str
    who: str
    role: str
    propagate: bool = True


@dataclass
class Pool:
    """A named set of guests and storages."""

    comment: str = ""
    vms: list[int] = field(default_factory=list)
    storages: list[str] = field(default_factory=list)

    @property
    def members(self) -> frozenset[int]:
        """The guests' vmids."""
        return frozenset(self.vms)


@dataclass
class Access:
    """Everything in the file."""

    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    roles: dict[str, list[str]] = field(default_factory=dict)
    acl: list[AclEntry] = field(default_factory=list)
    pools: dict[str, Pool] = field(default_factory=dict)
    version = VERSION
    """Of Proxmox VE that the node plays; no part of the file."""

    def find_user(self, name: str) -> User | None:
        """Return a user."""
        return self.users.get(name)

    def get_user(self, name: str) -> User:
        """Return a user.

        :raises ApiFault: there is none; PVE's words.
        """
        if name not in self.users:
            raise ApiFault(f"no such user ('{name}')")
        return self.users[name]

    def get_token(self, user: str, name: str) -> Token:
        """Return a user's token.

        :raises ApiFault: there is none; PVE's words.
        """
        tokens = self.get_user(user).tokens
        if name not in tokens:
            raise ApiFault(f"no such token '{name}' for user '{user}'")
        return tokens[name]

    def get_pool(self, name: str) -> Pool:
        """Return a pool.

        :raises ApiFault: there is none; PVE's words.
        """
        if name not in self.pools:
            raise ApiFault(f"pool '{name}' does not exist")
        return self.pools[name]

    def find_pool_of(self, vmid: int) -> str | None:
        """Return the pool that a guest is in; it is in one at most."""
        return next((name for name, pool in self.pools.items() if vmid in pool.vms), None)

    def privileges_of(self, role: str) -> frozenset[str]:
        """Return what a role may; nothing for one that is gone."""
        return get_roles(self.version).get(role) or frozenset(self.roles.get(role, ()))

    def forget(self, kind: str, who: str) -> None:
        """Remove all ACL entries of a user, token or group."""
        self.acl = [entry for entry in self.acl if (entry.kind, entry.who) != (kind, who)]


def _parse(text: str) -> Access:
    values = json.loads(text)
    users = {
        name: User(**{**user, "tokens": {token: Token(**about) for token, about in user["tokens"].items()}})
        for name, user in values["users"].items()
    }
    pools = {name: Pool(**pool) for name, pool in values["pools"].items()}
    acl = [AclEntry(**entry) for entry in values["acl"]]
    return Access(users, values["groups"], values["roles"], acl, pools)


class AccessStore:
    """The file. `load` is for reading; what is changed in a `change` block is written when the block ends well."""

    def __init__(self, path: Path, version: str = VERSION) -> None:
        self._path = path
        self._version = version
        self._seen: tuple[tuple[int, int], Access] | None = None

    def load(self) -> Access:
        """Return the present state; not to be changed."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return self._mark(Access(users={ROOT: User()}))
        stamp = (status.st_ino, status.st_mtime_ns)
        if self._seen is None or self._seen[0] != stamp:
            self._seen = (stamp, self._mark(_parse(self._path.read_text())))
        return self._seen[1]

    def _mark(self, access: Access) -> Access:
        access.version = self._version
        return access

    @contextmanager
    def change(self) -> Iterator[Access]:
        """Hold the lock and hand over the state to be changed."""
        with open_lock(self._path.with_suffix(".lock"), timeout=10, what="user list"):
            access = self._mark(_parse(self._path.read_text()) if self._path.exists() else Access())
            access.users.setdefault(ROOT, User())
            yield access
            write_atomic(self._path, json.dumps(asdict(access), indent=1, sort_keys=True), mode=0o600)

    def set_password(self, user: str, password: Secret) -> None:
        """Set a user's password. Root of the machine may do that for anybody (as `pveum passwd`)."""
        with self.change() as access:
            access.get_user(user).password = hash_password(password)

    def set_token(self, user: str, name: str, *, privsep: bool, expire: int = 0, comment: str = "") -> Secret:
        """Make a token, or give one that exists another secret, and return the secret; it is not kept."""
        secret = Secret(make_uuid())
        with self.change() as access:
            access.get_user(user).tokens[name] = Token(hash_secret(secret), privsep, expire, comment)
        return secret

    def add_to_pool(self, pool: str, vmid: int) -> None:
        """Put a guest into a pool, out of any other."""
        with self.change() as access:
            access.get_pool(pool)
            for name, members in access.pools.items():
                members.vms = sorted({*members.vms, vmid} if name == pool else {*members.vms} - {vmid})

    def forget_guest(self, vmid: int) -> None:
        """Take a guest that is destroyed out of its pool, and its ACL entries with it."""
        access = self.load()
        path = f"/vms/{vmid}"
        if access.find_pool_of(vmid) is None and not any(entry.path == path for entry in access.acl):
            return
        with self.change() as access:
            for members in access.pools.values():
                members.vms = [member for member in members.vms if member != vmid]
            access.acl = [entry for entry in access.acl if entry.path != path]


def make_uuid() -> str:
    """Return a random UUID (version 4), the form that token secrets have."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
