"""Storage `local`: every disk is a btrfs subvolume, its size a quota, snapshots and clones copies on write.

    <state>/disks.btrfs      the file system, one sparse file; space on the machine is taken only as it is used
    <root>                   where it is mounted; Proxmox's folders (see `folders`), and
           images/100/subvol-100-disk-0.subvol          a disk
                      subvol-100-disk-0.subvol@before   its snapshot, read-only
                      base-100-disk-0.subvol            a template's disk, read-only
           trees/NAME                                   an unpacked template, read-only; NAME.part while it is filled

A disk is full when its size is reached, by what it began with and what has been written to it since and still exists,
if only in its snapshots. That is btrfs's simple quota (Linux 6.7). Before that, and on file systems that were made with
it, full quota groups count what a disk refers to, shared with others or not, and that costs: ten copies of 800 MB in
23,000 files, each changed a little, take 11.2 s of a processor to be removed instead of 0.4 s (none: 0.1 s), and
changing them takes twice as long (kernel 6.18).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from goldsmith.base.errors import NodeServiceError, ProgramFailed
from goldsmith.base.process import run
from goldsmith.node.faults import ApiFault
from goldsmith.node.storage import ioctls
from goldsmith.node.storage.driver import Announce, Space, VolumeId, forget
from goldsmith.node.storage.folders import FolderStorage, read_image_size, remove_if_empty
from goldsmith.node.storage.loops import mount_file

_CONTENT = frozenset(("vztmpl", "backup", "iso", "import", "snippets", "rootdir", "images"))
_FREE_SHARE = 3 / 4
_SMALLEST = 1 << 30
"""mkfs.btrfs needs 114 MiB; below a GiB nothing useful fits."""
_RESERVE = 256 << 20
"""Bytes that must be left for a new disk to be made."""


class BtrfsStorage(FolderStorage):
    """A storage on a btrfs file system of its own."""

    type = "btrfs"

    def __init__(self, name: str, root: Path, *, image: Path, image_size: int = 0, simple_quota: bool = True) -> None:
        super().__init__(name, root, _CONTENT)
        self._image = image
        self._image_size = image_size
        self._simple_quota = simple_quota

    def ensure(self) -> None:
        """Make and mount the file system and its folders. Idempotent.

        :raises NodeServiceError: the machine cannot do it.
        """
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        try:
            if not self._image.exists():
                self._make_image()
            if not os.path.ismount(self.root):
                mount_file(self._image, self.root, kind=self.type, options="noatime,discard=async")
            ioctls.ensure_quota(self.root, simple=self._simple_quota)
        except (ProgramFailed, OSError) as error:
            raise NodeServiceError(
                f"the guests' file system {self._image} cannot be set up: {error}",
                detail=getattr(error, "detail", ""),
                hint="loop devices and btrfs are needed; `goldsmith node doctor` says what the machine lacks",
            ) from error
        self.ensure_folders()
        self._trees.mkdir(mode=0o700, exist_ok=True)

    def clear_leftovers(self) -> None:
        """Remove what killed work left half done: trees being filled, rollbacks, uploads. Nobody may be at work."""
        super().clear_leftovers()
        for left in [*self._trees.glob("*.part"), *self.folder("images").glob("*/*.new")]:
            _destroy(left)

    def _make_image(self) -> None:
        """Make the file system under another name first, so that there is a whole one or none."""
        status = os.statvfs(self._image.parent)
        size = self._image_size or int(status.f_bavail * status.f_frsize * _FREE_SHARE)
        partial = self._image.with_suffix(".part")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        # On a machine that has btrfs itself, copying on write below copying on write would shred the file.
        run(["chattr", "+C", partial], check=False)
        os.truncate(partial, max(size, _SMALLEST))
        run(["mkfs.btrfs", "-q", "--force", "--metadata", "single", partial], timeout=120)
        partial.rename(self._image)

    def close(self) -> None:
        """Unmount the file system unless somebody uses it."""
        if os.path.ismount(self.root):
            run(["umount", self.root], check=False)

    def space(self) -> Space:
        """Return the space of the file system, but never more than the machine has left for its file to grow."""
        inside, outside = super().space(), os.statvfs(self._image.parent)
        left = outside.f_bavail * outside.f_frsize
        return Space(inside.total, inside.used, min(inside.available, left))

    def _check_ready(self) -> None:
        """See that the new disk's limit will hold.

        :raises ApiFault: the machine's disk is nearly full. A sparse file that cannot grow breaks what is in it.
        """
        ioctls.ensure_quota(self.root, simple=self._simple_quota)
        left = self.space().available
        if left < _RESERVE:
            raise ApiFault(f"storage '{self.id}': not enough space, only {left >> 20} MB left")

    def allocate(
        self, vmid: int, size: int, *, root: tuple[int, int] = (0, 0), name: str = "", announce: Announce = forget
    ) -> VolumeId:
        """Make an empty disk."""
        self._check_ready()
        with self.free_name(vmid, "subvol", "subvol", name, announce) as (volume, path):
            ioctls.create_subvolume(path)
            os.chown(path, *root)
            path.chmod(0o755)
            ioctls.limit_subvolume(path, size)
        return volume

    def allocate_from(self, vmid: int, size: int, tree: Path, *, announce: Announce = forget) -> VolumeId:
        """Make a disk that begins as a copy of a tree."""
        self._check_ready()
        with self.free_name(vmid, "subvol", "subvol", announce=announce) as (volume, path):
            ioctls.create_snapshot(tree, path)
            ioctls.limit_subvolume(path, size)
        return volume

    def mount(self, volume: VolumeId) -> Path:
        """Return the disk's directory."""
        return self.path(volume)

    def unmount(self, volume: VolumeId) -> None:
        """Nothing was mounted."""

    def size(self, volume: VolumeId) -> int:
        """Return the disk's size limit in bytes (0: none)."""
        path = self.path(volume)
        return read_image_size(path) if path.is_file() else ioctls.get_quota(path).limit

    def used(self, volume: VolumeId) -> int:
        """Return the bytes that the disk's files take, as of the last half minute."""
        path = self.path(volume)
        return path.stat().st_blocks * 512 if path.is_file() else ioctls.get_quota(path).referenced

    def resize(self, volume: VolumeId, size: int) -> None:
        """Change a disk's limit, also while it is in use."""
        ioctls.limit_subvolume(self.path(volume), size)

    def free(self, volume: VolumeId) -> None:
        """Delete a disk, its snapshots with it."""
        path = self.path(volume)
        if path.is_file():
            path.unlink()  # a virtual machine's image
        for snapshot in path.parent.glob(f"{path.name}@*"):
            _destroy(snapshot)
        _destroy(path)
        remove_if_empty(path.parent)

    def rename(self, volume: VolumeId, vmid: int) -> VolumeId:
        """Hand a disk to another guest."""
        old = self.path(volume)
        with self.free_name(vmid, "subvol", "subvol") as (renamed, path):
            old.rename(path)
        remove_if_empty(old.parent)
        return renamed

    def make_base(self, volume: VolumeId) -> VolumeId:
        """Turn a disk into a template's read-only base disk."""
        base = self.base_name(volume)
        if base != volume:
            self.path(volume).rename(self.path(base))
        ioctls.set_read_only(self.path(base), read_only=True)
        return base

    def clone(
        self, volume: VolumeId, vmid: int, *, snapshot: str | None = None, announce: Announce = forget
    ) -> VolumeId:
        """Copy a disk (or one of its snapshots) on write."""
        source = self.snapshot_path(volume, snapshot) if snapshot else self.path(volume)
        return self.allocate_from(vmid, self.size(volume), source, announce=announce)

    def has_snapshots(self) -> bool:
        """They can."""
        return True

    def snapshot(self, volume: VolumeId, name: str) -> None:
        """Freeze a disk's present content under a name."""
        ioctls.create_snapshot(self.path(volume), self.snapshot_path(volume, name), read_only=True)

    def rollback(self, volume: VolumeId, name: str) -> None:
        """Bring a disk back to a snapshot's content, in one step: a power cut leaves it before or after."""
        path = self.path(volume)
        fresh = path.with_name(f"{path.name}.new")
        size = self.size(volume)
        _destroy(fresh)
        ioctls.create_snapshot(self.snapshot_path(volume, name), fresh)
        ioctls.limit_subvolume(fresh, size)
        ioctls.exchange(fresh, path)
        _destroy(fresh)

    def delete_snapshot(self, volume: VolumeId, name: str) -> None:
        """Forget a snapshot."""
        _destroy(self.snapshot_path(volume, name))

    def snapshot_path(self, volume: VolumeId, name: str) -> Path:
        """Return the directory with a snapshot's files, read-only."""
        path = self.path(volume)
        return path.with_name(f"{path.name}@{name}")

    @property
    def _trees(self) -> Path:
        return self.root / "trees"

    def make_tree(self, name: str, *, root: tuple[int, int] = (0, 0)) -> Path:
        """Make an empty tree to be filled and sealed."""
        self._check_ready()
        partial = self._trees / f"{name}.part"
        _destroy(partial)
        ioctls.create_subvolume(partial)
        os.chown(partial, *root)
        partial.chmod(0o755)
        return partial

    def seal_tree(self, name: str) -> Path:
        """Make a filled tree read-only and findable. It is written out first: after a power cut, a found one is whole.

        The same subvolume, not a snapshot of it: Linux loses count (`ensure_quota`) when the original is removed then.
        """
        partial, tree = self._trees / f"{name}.part", self._trees / name
        ioctls.write_out(partial)
        partial.rename(tree)
        ioctls.set_read_only(tree, read_only=True)
        self._mark(name).touch()
        return tree

    def _mark(self, name: str) -> Path:
        """Return the file whose time says when a tree was last used."""
        return self._trees / f"{name}.used"

    def find_tree(self, name: str) -> Path | None:
        """Return a sealed tree."""
        tree = self._trees / name
        if not tree.is_dir():
            return None
        self._mark(name).touch()
        return tree

    def drop_tree(self, name: str) -> None:
        """Delete a tree, sealed or not."""
        self._mark(name).unlink(missing_ok=True)
        for path in (self._trees / f"{name}.part", self._trees / name):
            _destroy(path)

    def list_trees(self) -> list[str]:
        """Return the names of sealed trees, the longest unused first."""

        def last_used(path: Path) -> float:
            with suppress(FileNotFoundError):
                return self._mark(path.name).stat().st_mtime
            return 0.0

        trees = [path for path in self._trees.iterdir() if path.is_dir() and path.suffix != ".part"]
        return [path.name for path in sorted(trees, key=last_used)]


def _destroy(path: Path) -> None:
    """Delete a subvolume and those that a guest made inside it (docker's btrfs driver does). Idempotent."""
    if not path.is_dir():
        return
    try:
        ioctls.destroy_subvolume(path)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        ioctls.set_read_only(path, read_only=False)
        for nested in _find_nested(path):
            ioctls.set_read_only(nested, read_only=False)
            ioctls.destroy_subvolume(nested)
        ioctls.destroy_subvolume(path)


def _find_nested(top: Path) -> list[Path]:
    """Return the subvolumes below one, the deepest first."""
    found = [
        Path(directory, name)
        for directory, folders, _ in os.walk(top, topdown=False)
        for name in folders
        if os.lstat(os.path.join(directory, name)).st_ino == ioctls.SUBVOLUME_INODE  # noqa: PTH118 - many entries
    ]
    return [path for path in found if not path.is_symlink()]
