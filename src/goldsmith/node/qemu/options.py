"""Options as the API takes them, turned into what the config file holds; what cannot be done here is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.guestconf import render_scalar, render_value
from goldsmith.node.properties import NET_KEY, UNUSED_KEY, parse_properties
from goldsmith.node.qemu.config import GuestConfig, Options
from goldsmith.node.qemu.properties import DRIVE_KEY, SERIAL_KEY, Drive, Net

NOT_OPTIONS = frozenset((
    "node", "vmid", "pool", "start", "storage", "digest", "delete", "revert", "skiplock", "background_delay",
))  # fmt: skip
"""Parameters of create and config that are not stored."""
KNOWN = frozenset((
    "acpi", "agent", "args", "balloon", "bios", "boot", "cores", "cpu", "description", "kvm", "memory", "name", "numa",
    "onboot", "ostype", "protection", "scsihw", "sockets", "startup", "tablet", "tags", "template", "vga",
))  # fmt: skip
_ONLY = {"acpi": "1", "balloon": "0", "bios": "seabios", "numa": "0"}
"""Options of which one value is all that there is here; clients like to send it."""
_DRIVE_KEYS = frozenset((
    "file", "media", "size", "format", "import-from", "cache", "discard", "iothread", "ssd", "backup", "replicate",
    "ro", "serial", "aio",
))  # fmt: skip
_NET_KEYS = frozenset(("bridge", "firewall", "link_down"))
FAST = frozenset(("name", "onboot", "startup", "description", "protection", "tags"))
"""Options that a running machine takes by being written down (PVE 8.4)."""
_REFUSED = "not supported by the embedded node"


def is_drive(key: str) -> bool:
    """Tell whether an option is a disk or CD drive."""
    return DRIVE_KEY.fullmatch(key) is not None


def has_option(key: str) -> bool:
    """Tell whether there is an option of that name here."""
    return key in KNOWN or any(form.fullmatch(key) for form in (DRIVE_KEY, NET_KEY, SERIAL_KEY, UNUSED_KEY))


def check_supported(params: Mapping[str, Any]) -> None:
    """Raise when an option, a value or a part of one is none of those that the embedded node can do."""
    errors = {key: wrong for key, value in params.items() if (wrong := _find_unsupported(key, render_scalar(value)))}
    if errors:
        raise ParameterFault(errors)


def _find_unsupported(key: str, text: str) -> str:
    if key in NOT_OPTIONS:
        return ""
    if not has_option(key) or UNUSED_KEY.fullmatch(key):
        return _REFUSED
    if is_drive(key):
        return _name_parts(Drive.parse(key, text).values.keys() - _DRIVE_KEYS) or _check_drive(Drive.parse(key, text))
    if NET_KEY.fullmatch(key):
        return _name_parts(Net.parse(key, text).values.keys() - _NET_KEYS)
    if SERIAL_KEY.fullmatch(key):
        return "" if text == "socket" else f"'{text}' is {_REFUSED}, only 'socket' is"
    return _check_plain(key, text)


def _check_plain(key: str, text: str) -> str:
    if text != _ONLY.get(key, text):
        return f"'{text}' is {_REFUSED}, only '{_ONLY[key]}' is"
    if key == "boot" and "legacy" in parse_properties(text, "legacy"):
        return f"'{text}' is {_REFUSED}, only 'order=' is"
    if key == "vga" and not re.fullmatch(r"(?:type=)?(?:std|none|virtio|cirrus|vmware|serial[0-3])", text):
        return f"'{text}' is {_REFUSED}"
    if key == "agent" and parse_properties(text, "enabled").get("type", "virtio") != "virtio":
        return f"type 'isa' is {_REFUSED}"
    return ""


def _check_drive(drive: Drive) -> str:
    if drive.get("format") not in ("", "raw", "qcow2"):
        return f"format '{drive.get('format')}' is {_REFUSED}"
    wanted = drive.request()
    if "import-from" in drive.values and (wanted is None or wanted[1]):
        return "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"
    return ""


def _name_parts(keys: Iterable[str]) -> str:
    names = ", ".join(f"'{key}'" for key in sorted(keys))
    return f"{names} {_REFUSED}" if names else ""


def render_option(key: str, value: Any) -> str:
    """Return an option as it is stored; network devices complete."""
    text = render_value(key, value)
    return Net.parse(key, text).complete().render() if NET_KEY.fullmatch(key) else text


def render_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the options among an API call's parameters as they are stored; drives may still ask to be made.

    :raises ParameterFault: some of them are more than the embedded node can do.
    """
    check_supported(params)
    return {key: render_option(key, value) for key, value in params.items() if key not in NOT_OPTIONS}


def render_default_boot(options: Options) -> str:
    """Return what to boot from when nobody has said: the first disk, the first CD drive, the first device (PVE)."""
    disks = [drive.key for drive in options.drives() if not drive.is_cdrom]
    cdroms = [drive.key for drive in options.drives() if drive.is_cdrom]
    chosen = [*disks[:1], *cdroms[:1], *[net.key for net in options.nets()[:1]]]
    return f"order={';'.join(chosen)}" if chosen else ""


def check_deletions(params: Mapping[str, Any], delete: list[str]) -> None:
    """Raise when `delete` names what is unknown or set at the same time; PVE's words."""
    for key in delete:
        if key in params:
            # The missing quote is PVE's own.
            raise ParameterFault({"delete": f"you can't use '-{key}' and -delete {key}' at the same time"})
        if not has_option(key):
            raise ParameterFault({"delete": f"unknown option '{key}'"})


def check_boot(config: GuestConfig, changes: Mapping[str, str]) -> None:
    """Raise when the machine is to boot from a device that it has not; PVE's words."""
    merged = {**config.merged().values, **changes}
    for key in Options(dict(merged)).boot_order() if "boot" in changes else []:
        if key not in merged:
            raise ApiFault(f"invalid bootorder: device '{key}' does not exist'")
