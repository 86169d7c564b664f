"""Property strings of container options: `name=eth0,bridge=vmbr0,...`, read and written as Proxmox does.

Order when written (PVE 8.4): the key that needs no name first, then required keys, then the rest by name.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.storage.driver import VolumeId

MAC_PREFIX = "BC:24:11"
"""Proxmox Server Solutions GmbH's own; PVE 8's default for generated addresses."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
NET_KEY = re.compile(r"net(\d+)")
MOUNT_KEY = re.compile(r"mp(\d+)")
UNUSED_KEY = re.compile(r"unused(\d+)")


def parse_properties(text: str, default_key: str = "") -> dict[str, str]:
    """Parse `a=1,b=2`; a part without `=` belongs to `default_key`."""
    values: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals and (not default_key or not name.startswith("/") or default_key in values):
            values[name.strip()] = value.strip()
        elif part.strip() and default_key:
            values[default_key] = part.strip()
        elif part.strip():
            raise ApiFault(f"format error: value without key, but schema does not define a default key: '{part}'")
    return values


def render_properties(values: Mapping[str, str], first: tuple[str, ...] = (), default_key: str = "") -> str:
    """Render a property string: default key, then `first`, then the others by name."""
    order = [default_key, *first, *sorted(set(values) - {default_key, *first})]
    parts = [values[key] if key == default_key else f"{key}={values[key]}" for key in order if key in values]
    return ",".join(parts)


def parse_size(text: str) -> int:
    """Parse `8G`, `512M` or a number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    if match is None:
        raise ApiFault(f"unable to parse size '{text}'")
    return ceil(float(match[1]) * _UNITS[match[2]])


def render_size(size: int) -> str:
    """Render bytes in the largest unit that divides them; 0 is `0T`, as PVE writes a disk without a limit."""
    for unit in ("", "K", "M", "G"):
        if size % 1024 or unit == "T":
            return f"{size}{unit}"
        size //= 1024
    return f"{size}T"


def make_mac(prefix: str = MAC_PREFIX) -> str:
    """Return a new hardware address below Proxmox's prefix."""
    return ":".join([prefix, *(f"{byte:02X}" for byte in secrets.token_bytes(3))])


def parse_bool(text: str | None) -> bool:
    """Parse a flag of a property string; absent is false."""
    return text is not None and text.lower() in ("1", "on", "yes", "true")


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
        return (match[1], int(float(match[2]) * _UNITS["G"])) if match else None

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


def parse_volume(volid: str) -> VolumeId:
    """Parse a volume id.

    :raises ApiFault: it is none; PVE's words.
    """
    storage, colon, name = volid.partition(":")
    if not colon or not storage or not name:
        raise ApiFault(f"unable to parse volume ID '{volid}'")
    return VolumeId(storage, name)


def get_owner(volume: VolumeId) -> int:
    """Return the vmid that a disk belongs to: the folder that it lies in."""
    folder, _, name = volume.name.partition("/")
    if not folder.isdigit() or not name:
        raise ApiFault(f"unable to parse directory volume name '{volume.name}'")
    return int(folder)
