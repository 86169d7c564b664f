"""Network devices and mount points of containers, as the options describe them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from goldsmith.node.faults import ParameterFault
from goldsmith.node.properties import (
    UNITS,
    make_mac,
    parse_bool,
    parse_properties,
    parse_size,
    render_properties,
    render_size,
)
from goldsmith.node.storage.driver import VolumeId

MOUNT_KEY = re.compile(r"mp(\d+)")


@dataclass(frozen=True)
class Net:
    """A network device, `netN`. `values` holds every key as written."""

    index: int
    values: Mapping[str, str]

    @classmethod
    def parse(cls, key: str, text: str) -> Net:
        """Parse the option `key` (`net0`)."""
        return cls(int(key[3:]), parse_properties(text))

    @property
    def key(self) -> str:
        """`net0`, ..."""
        return f"net{self.index}"

    @property
    def name(self) -> str:
        """The interface's name inside."""
        return self.values["name"]

    @property
    def bridge(self) -> str:
        """The bridge by its API name; empty: not connected."""
        return self.values.get("bridge", "")

    @property
    def mac(self) -> str:
        """Its hardware address."""
        return self.values["hwaddr"]

    @property
    def link_down(self) -> bool:
        """Whether its cable is pulled."""
        return parse_bool(self.values.get("link_down"))

    def get(self, key: str) -> str:
        """Return another key's value, or nothing."""
        return self.values.get(key, "")

    def complete(self) -> Net:
        """Return it with type and hardware address filled in, as it is stored."""
        return replace(self, values={"hwaddr": make_mac(), "type": "veth", **self.values})

    def with_new_mac(self) -> Net:
        """Return it with another hardware address."""
        return replace(self, values={**self.values, "hwaddr": make_mac()})

    def render(self) -> str:
        """Render the option's value."""
        return render_properties(self.values, first=("name", "bridge"))


@dataclass(frozen=True)
class MountPoint:
    """`rootfs`, `mpN` or `unusedN`. `volume` is a volume id, a directory of the machine or a device."""

    key: str
    values: Mapping[str, str]

    @classmethod
    def parse(cls, key: str, text: str) -> MountPoint:
        """Parse the option `key`."""
        values = parse_properties(text, "volume")
        if "volume" not in values:
            raise ParameterFault({key: "invalid format - format error\nvolume: property is missing\n"})
        return cls(key, values)

    @property
    def volume(self) -> str:
        """What is mounted, as written."""
        return self.values["volume"]

    @property
    def kind(self) -> str:
        """`volume`, `bind` or `device`."""
        if self.volume.startswith("/dev/"):
            return "device"
        return "bind" if self.volume.startswith("/") else "volume"

    @property
    def target(self) -> str:
        """Where it appears inside the guest."""
        return "/" if self.key == "rootfs" else "/" + self.values.get("mp", "").strip("/")

    @property
    def size(self) -> int:
        """Its size limit in bytes; 0 means none, or not known."""
        return parse_size(self.values["size"]) if "size" in self.values else 0

    @property
    def has_backup(self) -> bool:
        """Whether vzdump includes it: the root disk always, others when they say so (PVE 8.4)."""
        return self.kind == "volume" and (self.key == "rootfs" or parse_bool(self.values.get("backup")))

    @property
    def mount_options(self) -> list[str]:
        """Options for the mount itself, by mount(8)'s names."""
        options = [option for option in self.values.get("mountoptions", "").split(";") if option]
        return (["ro"] if parse_bool(self.values.get("ro")) else []) + options

    def request(self) -> tuple[str, int] | None:
        """Return storage and bytes when it asks for a new disk (`local:8`, GiB), else None."""
        match = re.fullmatch(r"([a-zA-Z][\w.-]*):(\d+(?:\.\d+)?)", self.volume)
        return (match[1], int(float(match[2]) * UNITS["G"])) if match else None

    def with_volume(self, volume: VolumeId | str, size: int | None = None) -> MountPoint:
        """Return it with another volume, and its size where given."""
        changed = {**self.values, "volume": str(volume)}
        if size is not None:
            changed["size"] = render_size(size)
        return replace(self, values=changed)

    def with_size(self, size: int) -> MountPoint:
        """Return it with another size."""
        return replace(self, values={**self.values, "size": render_size(size)})

    def render(self) -> str:
        """Render the option's value."""
        return render_properties(self.values, first=("mp",), default_key="volume")
