"""What every storage can do. Volume ids are Proxmox's: `local:100/subvol-100-disk-0.subvol`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class VolumeId:
    """`<storage>:<name>`; for disks the name is `<vmid>/<file>`."""

    storage: str
    name: str

    def __str__(self) -> str:
        return f"{self.storage}:{self.name}"


@dataclass(frozen=True)
class Space:
    """Room of a storage in bytes."""

    total: int
    used: int
    available: int


class Storage(Protocol):
    """One storage. Disk methods take and return volume ids of this storage and raise `ApiFault` in Proxmox's words."""

    id: str
    type: str
    content: frozenset[str]

    def space(self) -> Space:
        """Return total, used and available bytes."""
        ...

    def allocate(self, vmid: int, size: int, *, root: tuple[int, int] = (0, 0)) -> VolumeId:
        """Make an empty disk of `size` bytes (0: no limit) for a guest; `root` is uid and gid of its top directory."""
        ...

    def allocate_from(self, vmid: int, size: int, tree: Path) -> VolumeId:
        """Make a disk holding a copy of a tree of this storage, on write where the storage can."""
        ...

    def mount(self, volume: VolumeId) -> Path:
        """Return the directory where the disk's files are, mounting it where needed. Idempotent."""
        ...

    def unmount(self, volume: VolumeId) -> None:
        """Undo `mount`. Idempotent."""
        ...

    def size(self, volume: VolumeId) -> int:
        """Return the disk's size limit in bytes (0: none)."""
        ...

    def used(self, volume: VolumeId) -> int:
        """Return the bytes a disk takes."""
        ...

    def resize(self, volume: VolumeId, size: int) -> None:
        """Grow a disk to `size` bytes."""
        ...

    def free(self, volume: VolumeId) -> None:
        """Delete a disk, its snapshots with it."""
        ...

    def rename(self, volume: VolumeId, vmid: int) -> VolumeId:
        """Hand a disk to another guest; a rename, never a copy."""
        ...

    def make_base(self, volume: VolumeId) -> VolumeId:
        """Turn a disk into a template's read-only base disk."""
        ...

    def clone(self, volume: VolumeId, vmid: int, *, snapshot: str | None = None) -> VolumeId:
        """Copy a disk (or one of its snapshots) for another guest, on write."""
        ...

    def has_snapshots(self) -> bool:
        """Tell whether disks here can have snapshots."""
        ...

    def snapshot(self, volume: VolumeId, name: str) -> None:
        """Freeze a disk's present content under a name."""
        ...

    def rollback(self, volume: VolumeId, name: str) -> None:
        """Bring a disk back to a snapshot's content. The snapshot stays, and so do later ones."""
        ...

    def delete_snapshot(self, volume: VolumeId, name: str) -> None:
        """Forget a snapshot."""
        ...

    def snapshot_path(self, volume: VolumeId, name: str) -> Path:
        """Return the directory with a snapshot's files, read-only."""
        ...

    def list_disks(self) -> list[VolumeId]:
        """Return all disks on this storage."""
        ...
