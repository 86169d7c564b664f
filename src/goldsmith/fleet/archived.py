"""What a backup has of a server: the configuration of the guest that is in the archive."""

from __future__ import annotations

import re

from goldsmith.build.facts import Site
from goldsmith.pve.properties import Mount, parse_mount

RESTORE_TIMEOUT = 4 * 3600.0
"""Seconds until a whole backup has been restored."""
LINE = re.compile(r"(?P<key>rootfs|mp\d+): (?P<mount>.*)")


def read_archived(site: Site, volid: str) -> dict[str, Mount]:
    """Return root disk and mount points of the guest in an archive, by key, as the configuration in it has them."""
    lines = site.node.backups.read_config(volid).splitlines()
    found = (LINE.match(line) for line in reversed(lines))  # of several of a key the first counts
    return {line["key"]: parse_mount(line["mount"]) for line in found if line}


def find_archived_storage(site: Site, volid: str) -> str:
    """Return where the root disk of the guest in an archive was: its copy goes there, too."""
    rootfs = read_archived(site, volid).get("rootfs")
    return rootfs.volume.partition(":")[0] if rootfs is not None else "local"


def list_archived_paths(site: Site, volid: str) -> set[str]:
    """Return where the data is mounted that an archive has: Proxmox leaves out what does not say `backup=1`."""
    return {mount.path for mount in read_archived(site, volid).values() if mount.backup}
