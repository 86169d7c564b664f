"""The forms that single values have: disk sizes, addresses, names. Each says what it accepts when it refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Interface, IPv6Interface

GIB = 1 << 30
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = re.compile(rf"{LABEL}(\.{LABEL})*\Z")
"""What Proxmox takes as a container's host name (PVE 8.4, format dns-name)."""
STORAGE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]\Z")
"""A storage id (PVE 8.4, format pve-storage-id)."""
PLACE = re.compile(rf"(?:(?P<node>{LABEL}):)?(?P<storage>[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9])\Z")
"""A storage, alone or on one node: `nas`, `pve2:local`."""
POOL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+){0,2}\Z")
"""A pool; since PVE 8.1 it may lie in another one (format pve-poolid)."""
CHANNEL = re.compile(r"[a-z][a-z0-9]*([-._][a-z0-9]+)*\Z")
"""A channel's name."""
VERSION_TAG = re.compile(r"\d{8}\.[1-9]\d*\Z")
"""A version's tag: the day, and its number on that day."""
GUEST_TAG = re.compile(r"[a-z0-9_][a-z0-9_.+-]*\Z")
"""A tag of a guest, in the small letters that Proxmox makes of it (PVE 8.4, format pve-tag)."""
NAMESERVERS = re.compile(r"[0-9A-Fa-f.:]+( [0-9A-Fa-f.:]+)*\Z")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
"""A login name as Debian's useradd takes it."""
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?\Z")
"""A Debian package (policy 5.6.7), with `:arch` or `=version` where wanted."""
NAME = re.compile(r"(?=.{1,100}\Z)[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*\Z")
"""A name that is at once a file name, part of a template's name and an OCI repository name (distribution-spec 1.1,
"Pulling manifests")."""
REGISTRY = "oci://"
"""What the location of a repository in a registry begins with."""
LOCATION = re.compile(
    rf"({REGISTRY}([A-Za-z0-9.-]+|\[[0-9a-f:]+\])(:\d+)?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*/?"
    r"|(?![A-Za-z][A-Za-z0-9+.-]*://).+)\Z"
)
"""A directory, or a place in a registry (distribution-spec 1.1, "Pulling manifests")."""
API_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?\Z")
API_USER = re.compile(r"[^\s:/@!]+@[A-Za-z][A-Za-z0-9._-]+\Z")
"""A user with its realm (PVE 8.4, formats pve-userid and pve-realm)."""
TOKEN_ID = re.compile(r"([^\s:/@!]+@[A-Za-z][A-Za-z0-9._-]+!)?[A-Za-z][A-Za-z0-9._-]+\Z")
"""A token's name, alone or with its user (PVE 8.4, format pve-tokenid)."""
FINGERPRINT = re.compile(r"([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}\Z")
STRATEGY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
SIZE = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?\Z")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that no name, path or password here has: they break lines or cannot be written as UTF-8."""

DISK_FORM = "<storage>:<size in GiB>, for example local:8"
CIDR_FORM = "an IPv4 address with its prefix length, for example 10.10.10.254/24"
DHCP, AUTO = "dhcp", "auto"
"""Addresses that a network gives: by DHCP, and (IPv6) by its router's announcements."""
BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}\Z")
"""The name of a network interface of the node: a bridge, or a vnet of its SDN."""


class RenderError(ValueError):
    """A template that cannot be rendered. The message may hold parts of values: not to be shown for a secret."""


class UnknownName(RenderError):
    """A template that uses something that is not there."""


@dataclass(frozen=True)
class DiskSize:
    """A disk to be made: a storage and a size in bytes (whole MiB)."""

    storage: str
    size: int

    def __str__(self) -> str:
        return f"{self.storage}:{self.size / GIB:g}"


def parse_disk_size(text: str) -> DiskSize:
    """Parse `<storage>:<size>`, the size in GiB with or without a fraction and without a unit (as `pct create` does).

    :raises ValueError: it has another form; says what is wrong with it.
    """
    storage, colon, size = text.partition(":")
    if not colon or not STORAGE.match(storage):
        raise ValueError(f"{text!r} names no storage before a colon")
    if not SIZE.match(size):
        raise ValueError(f"the size {size!r} is not a number of GiB (without a unit)")
    gib = Decimal(size)
    if not Decimal("0.5") <= gib <= 8192:
        raise ValueError(f"the size {size} is not between 0.5 and 8192 GiB")
    return DiskSize(storage, int(gib * 1024) << 20)


def parse_interface6(text: str) -> IPv6Interface:
    """Parse an IPv6 address with its prefix length.

    :raises ValueError: it has no prefix length, or is no address.
    """
    if "/" not in text:
        raise ValueError(f"{text!r} lacks a prefix length")
    try:
        return IPv6Interface(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IPv6 address with a prefix length") from error


@dataclass(frozen=True)
class VmIdRange:
    """Vmids from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def vmids(self) -> range:
        """All of them."""
        return range(self.first, self.last + 1)


def parse_range(text: str) -> VmIdRange:
    """Parse `900-949`: vmids from 100 to 999999999 (PVE 8.4, format pve-vmid).

    :raises ValueError: it is no range, or an empty one.
    """
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        raise ValueError(f"{text!r} is not a range like 900-999")
    if not 100 <= int(first) <= int(last) <= 999_999_999:
        raise ValueError(f"{text!r} is not a range between 100 and 999999999")
    return VmIdRange(int(first), int(last))


def parse_interface(text: str) -> IPv4Interface:
    """Parse an IPv4 address with its prefix length that a host can have.

    :raises ValueError: no prefix length, no address, or the network's own or broadcast address.
    """
    if "/" not in text:
        raise ValueError(f"{text!r} lacks a prefix length")
    try:
        interface = IPv4Interface(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IPv4 address with a prefix length") from error
    network = interface.network
    if network.prefixlen < 31 and interface.ip in (network.network_address, network.broadcast_address):
        raise ValueError(f"{interface.ip} is not a host's address in {network}")
    return interface
