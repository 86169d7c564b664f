"""A virtual machine's config file `qemu-server/<vmid>.conf`; see `guestconf` for the format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from goldsmith.node import guestconf
from goldsmith.node.guestconf import ConfigFiles
from goldsmith.node.properties import NET_KEY, UNUSED_KEY, parse_bool, parse_properties
from goldsmith.node.qemu.properties import DRIVE_KEY, SERIAL_KEY, Drive, Net

DEFAULT_MEMORY = 512
"""MiB (PVE 8.4)."""
_INTERFACES = ("ide", "scsi", "virtio", "unused")


@dataclass
class Options(guestconf.Options):
    """One section's options of a virtual machine. `memory` and `agent` stay text in JSON (PVE 8.4)."""

    NUMBERS: ClassVar[frozenset[str]] = frozenset((
        "acpi", "balloon", "cores", "kvm", "numa", "onboot", "protection", "snaptime", "sockets", "tablet", "template",
    ))  # fmt: skip

    @property
    def memory(self) -> int:
        """MiB."""
        return int(parse_properties(self.get("memory", str(DEFAULT_MEMORY)), "current")["current"])

    @property
    def has_agent(self) -> bool:
        """Whether a guest agent is said to be inside and enabled."""
        return parse_bool(parse_properties(self.get("agent", "0"), "enabled").get("enabled"))

    def drives(self, *, unused: bool = False) -> list[Drive]:
        """Return disks and CD drives in the order ide, scsi, virtio, then (where wanted) unused disks."""
        keys = [key for key in self.values if DRIVE_KEY.fullmatch(key) or (unused and UNUSED_KEY.fullmatch(key))]
        found = [Drive.parse(key, self.values[key]) for key in keys]
        return sorted(found, key=lambda drive: (_INTERFACES.index(drive.interface), drive.index))

    def disks(self, *, unused: bool = False) -> list[Drive]:
        """Return the drives that have a volume of the machine's own."""
        return [drive for drive in self.drives(unused=unused) if drive.has_disk]

    def nets(self) -> list[Net]:
        """Return its network devices by number."""
        keys = sorted((key for key in self.values if NET_KEY.fullmatch(key)), key=lambda key: int(key[3:]))
        return [Net.parse(key, self.values[key]) for key in keys]

    def serials(self) -> list[str]:
        """Return the keys of its serial ports."""
        return sorted(key for key in self.values if SERIAL_KEY.fullmatch(key))

    def boot_order(self) -> list[str]:
        """Return the keys of the devices to boot from."""
        order = parse_properties(self.get("boot"), "legacy").get("order", "")
        return [key for key in order.split(";") if key]


@dataclass
class GuestConfig(guestconf.Config[Options]):
    """A virtual machine's whole config file."""

    current: Options = field(default_factory=Options)
    WORD: ClassVar[str] = "VM"


FILES = ConfigFiles("qemu-server", GuestConfig, Options, "PENDING")
