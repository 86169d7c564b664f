"""Who a container's users are outside: root for privileged ones, 100000 and up for unprivileged ones (PVE 8.4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.files import write_atomic
from goldsmith.base.process import Argument

BASE, COUNT = 100000, 65536


@dataclass(frozen=True)
class IdMap:
    """The shift of user and group ids; `base` 0 means none (privileged)."""

    base: int

    @classmethod
    def of(cls, *, unprivileged: bool) -> IdMap:
        """Return the map of a container by its `unprivileged` option."""
        return cls(BASE if unprivileged else 0)

    @property
    def name(self) -> str:
        """A short name, for cached trees."""
        return f"u{self.base}" if self.base else "p"

    @property
    def owner(self) -> tuple[int, int]:
        """The guest's root user and group, outside."""
        return (self.base, self.base)

    def outside(self, inside: int) -> int:
        """Return the outside number of a user or group inside."""
        return self.base + inside

    def lxc(self) -> list[str]:
        """Return the values of `lxc.idmap`."""
        return [f"{kind} 0 {self.base} {COUNT}" for kind in "ug"] if self.base else []

    def wrap(self, argv: list[Argument]) -> list[Argument]:
        """Return a command that sees files' owners as the guest does."""
        if not self.base:
            return argv
        maps = [option for kind in "ug" for option in ("-m", f"{kind}:0:{self.base}:{COUNT}")]
        return ["lxc-usernsexec", *maps, "--", *argv]


def ensure_subordinate_ids(directory: Path = Path("/etc")) -> None:
    """Let root use the range: newuidmap(1) asks /etc/subuid and /etc/subgid, also when root calls it.

    Proxmox's own package adds the same line to both files.
    """
    line = f"root:{BASE}:{COUNT}"
    for path in (directory / "subuid", directory / "subgid"):
        text = path.read_text() if path.exists() else ""
        if line not in text.splitlines():
            write_atomic(path, text + ("" if text.endswith("\n") or not text else "\n") + line + "\n")
