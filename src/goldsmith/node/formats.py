"""The named formats of Proxmox's API schema, and what it says when a value does not have one.

Source of rules and wordings: answers of PVE 8.4. A check returns an error's text, or nothing when the value is right.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path

from goldsmith.node.access.roles import PRIVILEGES

Check = Callable[[str], str]
_ZONES = Path("/usr/share/zoneinfo")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_CONTENT_TYPES = frozenset(("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"))


def _matching(pattern: str, text: str, *, flags: int = re.ASCII) -> Check:
    """Return a check by pattern; `{value}` in the text stands for what was given."""
    compiled = re.compile(pattern, flags)
    return lambda value: "" if compiled.fullmatch(value) else text.replace("{value}", value) + "\n"


def _address(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], text: str, *extra: str) -> Check:
    def check(value: str) -> str:
        try:
            kind(value)
        except ValueError:
            return "" if value in extra else text + "\n"
        return ""

    return check


def _cidr(kind: type[ipaddress.IPv4Interface] | type[ipaddress.IPv6Interface], text: str, *extra: str) -> Check:
    def check(value: str) -> str:
        if value in extra:
            return ""
        try:
            parsed = kind(value)
        except ValueError:
            return text + "\n"
        return "" if "/" in value and parsed.network.prefixlen > 0 else text + "\n"

    return check


def _check_vmid(value: str) -> str:
    is_vmid = re.fullmatch(r"[1-9]\d{2,8}", value) is not None
    return "" if is_vmid else "value does not look like a valid VM ID\n"


def _check_dns_name(value: str) -> str:
    is_name = re.fullmatch(rf"(?:{_LABEL}\.)*{_LABEL}", value) is not None
    return "" if is_name else "value does not look like a valid DNS name\n"


def _check_volume(value: str) -> str:
    return (
        ""
        if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]:\S+", value)
        else f"unable to parse volume ID '{value}'\n"
    )


def _check_source(value: str) -> str:
    """Check a drive's volume: one that exists, a new one (`local:8`), or a path."""
    is_new = re.fullmatch(r"(?:[^/:\s]+:)?\d+(?:\.\d+)?", value)
    return "" if is_new or value.startswith("/") else _check_volume(value)


def _check_mount(value: str) -> str:
    if ".." in value.split("/") or value in (".", "..") or "\0" in value:
        return "invalid mount point path\n"
    return ""


def _check_device(value: str) -> str:
    if not value.startswith("/dev/") or ".." in value.split("/"):
        return f"{value} cannot be passed through\n"
    return ""


def _check_timezone(value: str) -> str:
    if value == "host" or (".." not in value and (_ZONES / value).is_file()):
        return ""
    return f"invalid time zone '{value}'\n"


def _check_startup(value: str) -> str:
    parts = value.split(",")
    is_order = all(re.fullmatch(r"(?:order=)?\d+|(?:up|down)=\d+", part) for part in parts)
    return "" if is_order else "unable to parse startup options\n"


def _check_content(value: str) -> str:
    return "" if value in _CONTENT_TYPES else f"invalid content type '{value}'\n"


def _check_privilege(value: str) -> str:
    return "" if value in PRIVILEGES else f"invalid privilege '{value}'\n"


def _check_name_server(value: str) -> str:
    return "" if value == "host" or not _check_ip(value.partition("%")[0]) else "value is not a valid IP address\n"


def _check_ip(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return "value is not a valid IP address\n"
    return ""


FORMATS: dict[str, Check] = {
    "pve-vmid": _check_vmid,
    "dns-name": _check_dns_name,
    "pve-node": _matching(_LABEL, "value does not look like a valid node name"),
    "pve-configid": _matching(r"[a-zA-Z][a-zA-Z0-9_-]+", "invalid configuration ID '{value}'"),
    "pve-storage-id": _matching(
        r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]", "storage ID '{value}' contains illegal characters"
    ),
    "pve-volume-id": _check_volume,
    "pve-volume-id-or-qm-path": lambda value: "" if value in ("none", "cdrom") else _check_source(value),
    "pve-volume-id-or-absolute-path": lambda value: "" if value.startswith("/") else _check_volume(value),
    "pve-qm-bootdev": _matching(r"(?:net|ide|sata|scsi|virtio|usb|hostpci)\d+", "invalid boot device '{value}'"),
    "pve-lxc-mp-string": _check_mount,
    "pve-lxc-dev-string": _check_device,
    "pve-ct-timezone": _check_timezone,
    "pve-startup-order": _check_startup,
    "pve-tag": _matching(r"(?i)[a-z0-9_][a-z0-9_\-+.]*", "invalid characters in tag"),
    "pve-poolid": _matching(
        r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}", "pool name '{value}' contains invalid characters"
    ),
    "pve-userid": _matching(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", "value '{value}' is no valid user name"),
    "pve-tokenid": _matching(
        r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+",
        "value '{value}' does not look like a valid token ID",
    ),
    "pve-realm": _matching(r"[A-Za-z][A-Za-z0-9.\-_]+", "value does not look like a valid realm"),
    "pve-roleid": _matching(r"[A-Za-z0-9.\-_]+", "role name '{value}' contains invalid characters"),
    "pve-groupid": _matching(r"[A-Za-z0-9.\-_]+", "group name '{value}' contains invalid characters"),
    "pve-priv": _check_privilege,
    "pve-storage-content": _check_content,
    "pve-bridge-id": _matching(r"[-_.\w\d]+", "invalid bridge '{value}'"),
    "pve-task-status-type": _matching(r"unknown|ok|warning|error", "invalid status '{value}'"),
    "ipv4": _address(ipaddress.IPv4Address, "value does not look like a valid IPv4 address"),
    "ipv6": _address(ipaddress.IPv6Address, "value does not look like a valid IPv6 address"),
    "ip": _check_ip,
    "lxc-ip-with-ll-iface": _check_name_server,
    "pve-ipv4-config": _cidr(
        ipaddress.IPv4Interface, "value does not look like a valid ipv4 network configuration", "dhcp", "manual"
    ),
    "pve-ipv6-config": _cidr(
        ipaddress.IPv6Interface,
        "value does not look like a valid ipv6 network configuration", "dhcp", "manual", "auto",
    ),
    "mac-addr": _matching(
        r"(?i)[a-f0-9][02468ace](?::[a-f0-9]{2}){5}", "value does not look like a valid unicast MAC address"
    ),
    "disk-size": _matching(r"\d+(?:\.\d+)?[KMGT]?", "value does not look like a valid disk size: {value}"),
    "email": _matching(r"[^\s@]+@[^\s@]+", "value does not look like a valid email address"),
    "email-or-username": _matching(r"\S+", "value does not look like a valid email address or user name"),
    "string": lambda _: "",
}  # fmt: skip
"""Checks of single values. `NAME-list` and `NAME-opt` are made of these."""


def split_list(text: str) -> list[str]:
    """Split a list as PVE does: at commas, semicolons, spaces and NULs."""
    return [part for part in re.split(r"[,;\s\0]+", text) if part]


def check_format(name: str, value: str) -> str:
    """Return what is wrong with a value of a named format; nothing when it is right."""
    if name in FORMATS:
        return FORMATS[name](value)
    if name.endswith("-list"):
        return next((text for item in split_list(value) if (text := check_format(name[:-5], item))), "")
    if name.endswith("-opt"):
        return check_format(name[:-4], value) if value else ""
    raise KeyError(f"no check for format {name!r}")
