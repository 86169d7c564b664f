"""Property strings of guests' options (`name=eth0,bridge=vmbr0`) as Proxmox reads and writes them; volume ids.

Order when written (PVE 8.4): the key that needs no name first, then required keys, then the rest by name.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from math import ceil

from goldsmith.node.faults import ApiFault
from goldsmith.node.storage.driver import VolumeId

MAC_PREFIX = "BC:24:11"
"""Proxmox Server Solutions GmbH's own; PVE 8's default for generated addresses."""
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
NET_KEY = re.compile(r"net(\d+)")
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
    return ceil(float(match[1]) * UNITS[match[2]])


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
