"""The forms that single values have: disk sizes, addresses, names. Each says what it accepts when it refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Interface

GIB = 1 << 30
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = re.compile(rf"{LABEL}(\.{LABEL})*\Z")
"""What Proxmox takes as a container's host name (PVE 8.4, format dns-name)."""
STORAGE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]\Z")
"""A storage id (PVE 8.4, format pve-storage-id)."""
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
"""A login name as Debian's useradd takes it."""
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?\Z")
"""A Debian package (policy 5.6.7), with `:arch` or `=version` where wanted."""
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\Z")
"""A name that is at once a file name, part of a template's name and an OCI repository name."""

DISK_FORM = "<storage>:<size in GiB>, for example local:8"
CIDR_FORM = "an IPv4 address with its prefix length, for example 10.10.10.254/24"


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
    try:
        gib = Decimal(size)
    except InvalidOperation as error:
        raise ValueError(f"the size {size!r} is not a number of GiB") from error
    if not gib.is_finite() or not Decimal("0.5") <= gib <= 8192:
        raise ValueError(f"the size {size} is not between 0.5 and 8192 GiB")
    return DiskSize(storage, int(gib * 1024) << 20)


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
