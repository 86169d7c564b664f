"""How an API method is declared: verb, path, privileges and code in one place. `server` calls what `api/` declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from goldsmith.node.access.tickets import Tickets
from goldsmith.node.context import Node


class Caller(Protocol):
    """Who asks. `id` is `root@pam` or, for a token, `root@pam!ci`; only a real root@pam ticket `is_root`."""

    @property
    def id(self) -> str:
        """`user@realm` or `user@realm!token`."""
        ...

    @property
    def is_root(self) -> bool:
        """Whether it is root@pam itself."""
        ...

    @property
    def user(self) -> str:
        """The user, without a token."""
        ...

    def privileges(self, path: str) -> dict[str, bool]:
        """Return all privileges on a path, and whether they propagate."""
        ...

    def may(self, path: str, *privileges: str, any_of: bool = False) -> bool:
        """Tell whether the caller has all (or one) of the privileges on an ACL path."""
        ...

    def check(self, path: str, *privileges: str, any_of: bool = False) -> None:
        """Raise `PermissionFault` in Proxmox's words unless `may`."""
        ...


@dataclass(frozen=True)
class Call:
    """One request: parameters are verified against the schema and typed, those of the path (`vmid`, ...) among them.

    `spawn(type, id, work, *arguments)` starts `work(task, node, *arguments)` in its own process, returns its UPID.
    `work` is a module-level function and the arguments can be pickled.
    """

    node: Node
    caller: Caller
    params: dict[str, Any]
    spawn: Callable[..., str]
    tickets: Tickets | None = None
    upload: Path | None = None
    """Where a received file is; whoever takes the call takes care of it, unless the call fails."""


@dataclass(frozen=True)
class Method:
    """A declared method. `permission` is an ACL path template and privileges, checked before the parameters."""

    verb: str
    path: str
    code: Callable[[Call], Any]
    permission: tuple[str, ...] | None = None
    any_of: bool = False
    since: str = ""
    """The first version of Proxmox VE that has it, where that is later than 8.4."""


METHODS: list[Method] = []


def method(
    verb: str, path: str, *, permission: tuple[str, ...] | None = None, any_of: bool = False, since: str = ""
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Declare a method: `@method("GET", "/nodes/{node}/lxc/{vmid}/config", permission=("/vms/{vmid}", "VM.Audit"))`."""

    def declare(code: Callable[[Call], Any]) -> Callable[[Call], Any]:
        METHODS.append(Method(verb, path, code, permission, any_of, since))
        return code

    return declare


class Task(Protocol):
    """What a worker is given: its UPID and its log (one line a call; programs' output is passed on by line)."""

    upid: str

    def log(self, line: str) -> None:
        """Write a line into the task's log."""
        ...

    def warn(self, line: str) -> None:
        """Write a `WARN:` line; the task then ends with `WARNINGS: n`."""
        ...

    def spawn(self, kind: str, name: str, work: Callable[..., Any], *arguments: Any) -> str:
        """Start another task for the same user, in a process of its own, and return its UPID."""
        ...
