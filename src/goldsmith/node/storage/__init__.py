"""Storages of the embedded node: where volumes, templates and backups lie, and how they are copied on write.

local    btrfs    subvolumes of a file system in one sparse file; snapshots and clones are instant
plain    dir      raw ext4 images and plain directories; no snapshots, no linked clones
"""

from __future__ import annotations

from goldsmith.node.settings import NodeSettings
from goldsmith.node.storage.btrfs import BtrfsStorage
from goldsmith.node.storage.directory import DirectoryStorage
from goldsmith.node.storage.driver import Storage


def make_storages(settings: NodeSettings) -> list[Storage]:
    """Return the node's storages. Nothing is made or mounted; `ensure` does that when the node starts."""
    state = settings.state
    plain = DirectoryStorage("plain", state / "plain", state / "run" / "mounts" / "plain")
    if not settings.with_guests:
        return [DirectoryStorage("local", state / "storage", state / "run" / "mounts" / "local"), plain]
    return [BtrfsStorage("local", state / "storage", image=state / "disks.btrfs", image_size=settings.disk_size), plain]
