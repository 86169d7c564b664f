"""What a backup has of a server: the configuration of the guest that is in the archive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from goldsmith.build.facts import Site
from goldsmith.definition.values import GIB
from goldsmith.pve.properties import Mount, parse_mount

RESTORE_TIMEOUT = 4 * 3600.0
"""Seconds until a whole backup has been restored."""
LINE = re.compile(r"(?P<key>rootfs|mp\d+): (?P<mount>.*)")
SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[KMGT]?)\Z")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def read_archived(site: Site, volid: str) -> dict[str, Mount]:
    """Return root disk and mount points of the guest in an archive, by key, as the configuration in it has them."""
    lines = site.node.backups.read_config(volid).splitlines()
    found = (LINE.match(line) for line in reversed(lines))  # of several of a key the first counts
    return {line["key"]: parse_mount(line["mount"]) for line in found if line}


def find_archived_storage(archived: Mapping[str, Mount]) -> str:
    """Return where the root disk of the guest in an archive was: its copy goes there, too."""
    rootfs = archived.get("rootfs")
    return rootfs.volume.partition(":")[0] if rootfs is not None else "local"


def list_archived_paths(site: Site, volid: str) -> set[str]:
    """Return where the data is mounted that an archive has: Proxmox leaves out what does not say `backup=1`."""
    return {mount.path for mount in read_archived(site, volid).values() if mount.backup}


def render_new(mount: Mount, storage: str) -> str:
    """Return the request for a new disk as large as one in an archive's configuration; empty where that does not say.

    (`8G`, or another unit that divides it; `0T` is a directory without a limit.)
    """
    found = SIZE.match(mount.size or "")
    return f"{storage}:{float(found['number']) * UNITS[found['unit']] / GIB:.12g}" if found else ""


@dataclass(frozen=True)
class Disks:
    """The disks of a guest that is made from an archive; without any, Proxmox makes all that the archive speaks of."""

    rootfs: Mount | None = None
    mounts: tuple[Mount, ...] = ()


def choose_disks_apart(archived: Mapping[str, Mount], storage: str) -> Disks:
    """Return the disks of a copy that shares nothing with the server in an archive.

    Where that has directories of the node, Proxmox would mount them into the copy, too, or refuse (who is not root@pam
    itself): then its disks are named, and so they alone are made.
    """
    if not any(mount.is_bind for mount in archived.values()):
        return Disks()
    made = {
        key: Mount(text, mount.path, backup=mount.backup)
        for key, mount in sorted(archived.items(), key=lambda item: (len(item[0]), item[0]))
        if not mount.is_bind and (text := render_new(mount, storage))
    }
    rootfs = made.pop("rootfs", None)
    return Disks(rootfs, tuple(made.values())) if rootfs is not None else Disks()
