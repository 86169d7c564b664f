"""What every storage can do. Volume ids are Proxmox's: `local:100/subvol-100-disk-0.subvol`."""

from __future__ import annotations

from collections.abc import Callable
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


Announce = Callable[[VolumeId], None]
"""Is told of a disk before it is made."""


def forget(_volume: VolumeId) -> None:
    """Nobody wants to know."""


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
    root: Path
    content: frozenset[str]

    def ensure(self) -> None:
        """Make what is missing of the storage: its file system, mounted, and its folders. Idempotent."""
        ...

    def clear_leftovers(self) -> None:
        """Remove what killed work left half done. Nobody may be at work on the storage."""
        ...

    def close(self) -> None:
        """Let go of what `ensure` mounted, unless a guest uses it. Idempotent."""
        ...

    def folder(self, content: str) -> Path:
        """Return the directory of a kind of content (`vztmpl`, `backup`, `iso`, `import`, `snippets`, `images`)."""
        ...

    def path(self, volume: VolumeId) -> Path:
        """Return a volume's file or directory, whether it exists or not.

        :raises ApiFault: the name is none of a volume.
        """
        ...

    def prune(self, vmid: int, retention: str, *, log: Callable[[str], None]) -> int:
        """Delete a guest's backups beyond `keep-last=3,...`; protected ones stay. Return how many."""
        ...

    def space(self) -> Space:
        """Return total, used and available bytes."""
        ...

    def allocate(
        self, vmid: int, size: int, *, root: tuple[int, int] = (0, 0), name: str = "", announce: Announce = forget
    ) -> VolumeId:
        """Make an empty disk of `size` bytes (0: no limit) for a guest; `root` is uid and gid of its top directory.

        :param name: its file's name, instead of the next free one.
        :param announce: called with its name right before it is made, so that a kill in between leaves nothing unknown.
        """
        ...

    def allocate_from(self, vmid: int, size: int, tree: Path, *, announce: Announce = forget) -> VolumeId:
        """Make a disk holding a copy of a tree of this storage, on write where the storage can."""
        ...

    def allocate_image(
        self, vmid: int, form: str, fill: Callable[[Path], None], *, announce: Announce = forget
    ) -> VolumeId:
        """Make a virtual machine's disk in the format `raw` or `qcow2`; `fill` makes the file."""
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

    def clone(
        self, volume: VolumeId, vmid: int, *, snapshot: str | None = None, announce: Announce = forget
    ) -> VolumeId:
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

    def make_tree(self, name: str, *, root: tuple[int, int] = (0, 0)) -> Path:
        """Make an empty tree to be filled and sealed; what an interrupted filling left is dropped first."""
        ...

    def seal_tree(self, name: str) -> Path:
        """Make a filled tree read-only and findable; return where it is from now on."""
        ...

    def find_tree(self, name: str) -> Path | None:
        """Return a sealed tree."""
        ...

    def drop_tree(self, name: str) -> None:
        """Delete a tree, sealed or not. Copies made of it stay. Idempotent."""
        ...

    def list_trees(self) -> list[str]:
        """Return the names of sealed trees, the longest unused first."""
        ...
