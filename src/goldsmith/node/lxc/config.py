"""A container's config file `lxc/<vmid>.conf`; see `guestconf` for the format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from goldsmith.node import guestconf
from goldsmith.node.guestconf import ConfigFiles
from goldsmith.node.lxc.properties import MOUNT_KEY, MountPoint, Net
from goldsmith.node.properties import NET_KEY, UNUSED_KEY


@dataclass
class Options(guestconf.Options):
    """One section's options of a container. `cpulimit` stays text in JSON (PVE 8.4)."""

    NUMBERS: ClassVar[frozenset[str]] = frozenset((
        "memory", "swap", "cores", "cpuunits", "tty", "onboot", "console", "protection", "template", "unprivileged",
        "debug", "snaptime",
    ))  # fmt: skip

    @property
    def is_unprivileged(self) -> bool:
        """Whether its users are mapped to others outside."""
        return self.flag("unprivileged")

    def nets(self) -> list[Net]:
        """Return its network devices by number."""
        keys = sorted((key for key in self.values if NET_KEY.fullmatch(key)), key=lambda key: int(key[3:]))
        return [Net.parse(key, self.values[key]) for key in keys]

    def mount_points(self, *, unused: bool = False) -> list[MountPoint]:
        """Return root disk, then mount points by number, then (where wanted) unused disks."""
        found = [key for key in self.values if key == "rootfs" or MOUNT_KEY.fullmatch(key)]
        found += [key for key in self.values if unused and UNUSED_KEY.fullmatch(key)]
        return [MountPoint.parse(key, self.values[key]) for key in sorted(found, key=_mount_order)]


def _mount_order(key: str) -> tuple[int, int]:
    if key == "rootfs":
        return (0, 0)
    kind = 1 if key.startswith("mp") else 2
    return (kind, int(key.lstrip("mpunsed")))


@dataclass
class GuestConfig(guestconf.Config[Options]):
    """A container's whole config file."""

    current: Options = field(default_factory=Options)
    WORD: ClassVar[str] = "CT"


FILES = ConfigFiles("lxc", GuestConfig, Options, "pve:pending")
parse_config = FILES.parse
render_config = FILES.render
config_path = FILES.path
has_config = FILES.has
list_vmids = FILES.list_vmids
load_config = FILES.load
save_config = FILES.save
open_config = FILES.open
create_config = FILES.create
abandon_guest = FILES.abandon
hold_lock = FILES.hold
release_lock = FILES.release
