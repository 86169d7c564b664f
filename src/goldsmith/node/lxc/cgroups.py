"""A guest's limits and usage as control groups, version 1 or 2, whichever the kernel has mounted.

What the kernel lacks is left out (`goldsmith node doctor` says so).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.runtime import CGROUPS

MIB = 1 << 20
INNER = "ns"
"""The group below a guest's own that the guest itself sees as the root of all (as PVE)."""
PERIOD = 100_000
"""Microseconds over which a share of processor time is counted."""


@dataclass(frozen=True)
class Limit:
    """One limit: controller, file and value in version 1 and in version 2."""

    controller: str
    v1: tuple[str, str]
    v2: tuple[str, str]


@dataclass(frozen=True)
class Hierarchy:
    """How control groups are mounted. `unified`: version 2 at the root; else one version 1 tree per controller."""

    root: Path
    unified: bool

    @classmethod
    def detect(cls, root: Path = CGROUPS) -> Hierarchy:
        """Look at what is mounted."""
        return cls(root, (root / "cgroup.controllers").exists())

    def folder(self, controller: str, group: str) -> Path:
        """Return a group's directory for a controller."""
        return self.root / group if self.unified else self.root / controller / group

    def has(self, limit: Limit) -> bool:
        """Tell whether the kernel has the limit's file."""
        if self.unified:
            controllers = self.root / "cgroup.controllers"
            return limit.controller in controllers.read_text().split()
        # Swap is counted only where the kernel was told to (swapaccount=1); the other files come with their controller.
        folder, name = self.root / limit.controller, limit.v1[0]
        return (folder / name).exists() if "memsw" in name else folder.is_dir()

    def lxc_lines(self, options: Options, vmid: int) -> list[str]:
        """Render a guest's limits as lines of lxc.container.conf(5)."""
        kind = "lxc.cgroup2" if self.unified else "lxc.cgroup"
        pairs = [limit.v2 if self.unified else limit.v1 for limit in plan_limits(options, vmid) if self.has(limit)]
        return [f"{kind}.{name} = {value}" for name, value in pairs]

    def apply(self, group: str, options: Options, vmid: int) -> None:
        """Set a running guest's limits.

        :raises OSError: the kernel refuses (the guest uses more memory than it may have from now on).
        """
        limits = [limit for limit in plan_limits(options, vmid, complete=True) if self.has(limit)]
        try:
            self._write(group, limits)
        except OSError:
            # Memory must never exceed memory plus swap: growing and shrinking want opposite orders.
            self._write(group, list(reversed(limits)))

    def _write(self, group: str, limits: list[Limit]) -> None:
        for limit in limits:
            name, value = limit.v2 if self.unified else limit.v1
            folders = [self.folder(limit.controller, group)]
            if limit.controller == "cpuset" and not self.unified:
                # Version 1 refuses a child more processors than its parent, whichever of them changes.
                folders.append(folders[0] / INNER)
            _write_each(folders, name, value)

    def read(self, controller: str, group: str, v1: str, v2: str) -> str:
        """Return a file's text; empty when there is none."""
        with suppress(OSError):
            return (self.folder(controller, group) / (v2 if self.unified else v1)).read_text()
        return ""


def _write_each(folders: list[Path], name: str, value: str) -> None:
    try:
        for folder in folders:
            (folder / name).write_text(value)
    except OSError:
        for folder in reversed(folders):
            (folder / name).write_text(value)


def pick_processors(cores: int, online: list[int], vmid: int) -> list[int]:
    """Return which processors a guest runs on: so many, starting elsewhere for each guest."""
    if not cores or cores >= len(online):
        return online
    start = vmid % len(online)
    return sorted((online + online)[start : start + cores])


def parse_processors(text: str) -> list[int]:
    """Parse a list of processors such as `0-3,8` (cpuset(7))."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def list_processors() -> list[int]:
    """Return the machine's processors that are switched on."""
    return parse_processors(Path("/sys/devices/system/cpu/online").read_text())


def plan_limits(options: Options, vmid: int, *, complete: bool = False) -> list[Limit]:
    """Return the limits that a guest's options ask for; `complete` includes those that lift an earlier one."""
    memory = options.number("memory", 512) * MIB
    swap = options.number("swap", 512) * MIB
    limits = [
        Limit("memory", ("memory.limit_in_bytes", str(memory)), ("memory.max", str(memory))),
        Limit("memory", ("memory.memsw.limit_in_bytes", str(memory + swap)), ("memory.swap.max", str(swap))),
    ]
    cores = options.number("cores")
    if cores or complete:
        chosen = pick_processors(cores, list_processors(), vmid)
        text = ",".join(map(str, chosen))
        limits.append(Limit("cpuset", ("cpuset.cpus", text), ("cpuset.cpus", text)))
    share = float(options.get("cpulimit", "0"))
    if share or complete:
        quota = int(share * PERIOD)
        v2 = f"{quota or 'max'} {PERIOD}"
        limits.append(Limit("cpu", ("cpu.cfs_quota_us", str(quota or -1)), ("cpu.max", v2)))
    if units := options.number("cpuunits"):
        limits.append(Limit("cpu", ("cpu.shares", str(units)), ("cpu.weight", str(max(1, min(10000, units))))))
    return limits
