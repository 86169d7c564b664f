"""Options as the API takes them, turned into what the config file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.guestconf import render_value
from goldsmith.node.lxc.config import GuestConfig
from goldsmith.node.lxc.properties import MOUNT_KEY, MountPoint, Net
from goldsmith.node.properties import NET_KEY, UNUSED_KEY

NOT_OPTIONS = frozenset((
    "node", "vmid", "ostemplate", "password", "ssh-public-keys", "force", "restore", "unique", "pool", "start",
    "storage", "bwlimit", "ignore-unpack-errors", "digest", "delete", "revert", "skiplock",
))  # fmt: skip
"""Parameters of create and config that are not stored."""
KNOWN = frozenset((
    "arch", "cmode", "console", "cores", "cpulimit", "cpuunits", "debug", "description", "features", "hookscript",
    "hostname", "lock", "memory", "nameserver", "onboot", "ostype", "protection", "rootfs", "searchdomain", "startup",
    "swap", "tags", "template", "timezone", "tty", "unprivileged",
))  # fmt: skip
_NUMBERED = re.compile(r"(?:net|mp|unused|dev)\d+")
REQUIRED = frozenset(("memory", "rootfs", "arch", "ostype"))
"""Options that cannot be deleted (PVE 8.4)."""
READ_ONLY = frozenset(("unprivileged",))


def has_option(key: str) -> bool:
    """Tell whether there is an option of that name."""
    return key in KNOWN or _NUMBERED.fullmatch(key) is not None


def render_option(key: str, value: Any) -> str:
    """Return an option as it is stored; network devices complete."""
    text = render_value(key, value)
    return Net.parse(key, text).complete().render() if NET_KEY.fullmatch(key) else text


def render_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the options among an API call's parameters as they are stored."""
    return {key: render_option(key, value) for key, value in params.items() if key not in NOT_OPTIONS}


def is_disk(key: str) -> bool:
    """Tell whether an option is a root disk or mount point."""
    return key == "rootfs" or MOUNT_KEY.fullmatch(key) is not None


def split_disks(options: Mapping[str, str], storage: str) -> tuple[dict[str, str], dict[str, str]]:
    """Part options from disks. A disk that is only a number is one of that size on the given storage."""
    disks = {key: value for key, value in options.items() if is_disk(key)}
    for key, value in disks.items():
        if re.fullmatch(r"\d+(\.\d+)?(,.*)?", value):
            disks[key] = f"{storage}:{value}"
    others = {key: value for key, value in options.items() if key not in disks and not UNUSED_KEY.fullmatch(key)}
    return others, disks


def check_lists(params: Mapping[str, Any], delete: list[str], revert: list[str]) -> None:
    """Raise when `delete` or `revert` name what is unknown or set at the same time; PVE's words."""
    for name, keys in (("delete", delete), ("revert", revert)):
        for key in keys:
            if not has_option(key):
                raise ParameterFault({name: f"unknown option '{key}'"})
            if key in params:
                # The missing quote is PVE's own.
                raise ParameterFault({name: f"you can't use '-{key}' and -{name} {key}' at the same time"})


def stage_changes(config: GuestConfig, changes: Mapping[str, str], delete: list[str], revert: list[str]) -> None:
    """Write changes down as pending.

    :raises ApiFault: an option is read-only or required, or the guest is protected; PVE's words.
    """
    for key in revert:
        config.pending.pop(key, None)
        config.pending_delete = [other for other in config.pending_delete if other != key]
    for key in delete:
        _stage_delete(config, key)
    for key, value in changes.items():
        if key in READ_ONLY:
            raise ApiFault(f"unable to modify read-only option: '{key}'")
        if is_disk(key):
            config.check_protection(f"can't update CT drive '{key}'")
            MountPoint.parse(key, value)
        config.pending[key] = value
        config.pending_delete = [other for other in config.pending_delete if other != key]


def _stage_delete(config: GuestConfig, key: str) -> None:
    if key in REQUIRED:
        raise ApiFault(f"unable to delete required option '{key}'")
    if key in READ_ONLY:
        raise ApiFault(f"unable to delete read-only option: '{key}'")
    if is_disk(key) or UNUSED_KEY.fullmatch(key):
        config.check_protection(f"can't remove CT drive '{key}'")
    config.pending.pop(key, None)
    if key in config.current.values and key not in config.pending_delete:
        config.pending_delete.append(key)
