"""Storage `plain`: disks are raw ext4 images on loop devices, or plain directories. No snapshots, no linked clones.

The way Proxmox's own `local` works. A disk of size 0 is a directory (`subvol-100-disk-0.subvol`), which needs no loop
device and, on a machine where we are not root, is the only kind there is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from goldsmith.base.errors import ProgramFailed
from goldsmith.base.process import run
from goldsmith.node.faults import ApiFault
from goldsmith.node.storage.driver import Announce, VolumeId, forget
from goldsmith.node.storage.folders import FolderStorage, read_image_size, remove_if_empty
from goldsmith.node.storage.loops import find_device, mount_file

_CONTENT = frozenset(("rootdir", "images", "backup", "vztmpl", "iso", "import", "snippets"))
_COPY_SECONDS = 3600.0
_NO_SNAPSHOTS = "snapshot feature is not available"


class DirectoryStorage(FolderStorage):
    """A storage in a directory. `mounts` is where images are mounted for the node's own use."""

    type = "dir"

    def __init__(self, name: str, root: Path, mounts: Path) -> None:
        super().__init__(name, root, _CONTENT)
        self._mounts = mounts

    def ensure(self) -> None:
        """Make the folders. Idempotent."""
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.ensure_folders()

    def close(self) -> None:
        """Unmount what is mounted for the node's own use."""
        for place in self._mounts.iterdir() if self._mounts.is_dir() else []:
            if os.path.ismount(place):
                run(["umount", place], check=False)

    def allocate(
        self, vmid: int, size: int, *, root: tuple[int, int] = (0, 0), name: str = "", announce: Announce = forget
    ) -> VolumeId:
        """Make an empty disk: an ext4 image, or a directory when it has no size."""
        if size:
            return self._allocate_image(vmid, size, root, name, announce)
        with self.free_name(vmid, "subvol", "subvol", name, announce) as (volume, path):
            path.mkdir(mode=0o755)
            if os.geteuid() == 0:
                os.chown(path, *root)
        return volume

    def _allocate_image(self, vmid: int, size: int, root: tuple[int, int], name: str, announce: Announce) -> VolumeId:
        with self.free_name(vmid, "vm", "raw", name, announce) as (volume, path):
            path.touch(mode=0o600)
            try:
                os.truncate(path, size)
                # Inode tables and journal are zero already in a new sparse file: writing them would only take time.
                options = f"root_owner={root[0]}:{root[1]},lazy_itable_init=1,lazy_journal_init=1,nodiscard"
                run(["mkfs.ext4", "-q", "-F", "-E", options, path], timeout=300)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return volume

    def allocate_from(self, vmid: int, size: int, tree: Path, *, announce: Announce = forget) -> VolumeId:
        """Make a disk holding a copy of a tree."""
        status = tree.stat()
        volume = self.allocate(vmid, size, root=(status.st_uid, status.st_gid), announce=announce)
        try:
            command = ["cp", "-a", "--reflink=auto", "--sparse=auto", ".", str(self.mount(volume))]
            run(command, cwd=tree, timeout=_COPY_SECONDS)
        except BaseException:
            self.unmount(volume)
            self.free(volume)
            raise
        self.unmount(volume)
        return volume

    def _place(self, volume: VolumeId) -> Path:
        return self._mounts / volume.name.replace("/", "-")

    def mount(self, volume: VolumeId) -> Path:
        """Return the directory where the disk's files are, mounting an image where needed. Idempotent."""
        path = self.path(volume)
        if path.suffix != ".raw":
            return path
        place = self._place(volume)
        if not os.path.ismount(place):
            place.mkdir(mode=0o711, parents=True, exist_ok=True)
            mode = "ro,noload" if path.name.startswith("base-") else "rw"
            mount_file(path, place, kind="ext4", options=f"{mode},noatime", shared="nodiscard")
        return place

    def unmount(self, volume: VolumeId) -> None:
        """Undo `mount`. Idempotent."""
        place = self._place(volume)
        if os.path.ismount(place):
            run(["umount", place])
        if place.is_dir():
            place.rmdir()

    def size(self, volume: VolumeId) -> int:
        """Return an image's size; a directory has none."""
        path = self.path(volume)
        try:
            return 0 if path.suffix == ".subvol" else read_image_size(path)
        except FileNotFoundError:
            raise ApiFault(f"volume '{volume}' does not exist") from None

    def used(self, volume: VolumeId) -> int:
        """Return the bytes that an image takes; a directory's are not counted (PVE)."""
        path = self.path(volume)
        return path.stat().st_blocks * 512 if path.suffix != ".subvol" and path.exists() else 0

    def resize(self, volume: VolumeId, size: int) -> None:
        """Grow an image and its file system, also while a guest uses it.

        :raises ApiFault: the kernel refuses that for one in use (CAP_SYS_RESOURCE is needed); it is as it was then.
        """
        path, before = self.path(volume), self.size(volume)
        if path.suffix != ".raw":
            raise ApiFault("can't resize this volume format")
        device = find_device(path)
        try:
            os.truncate(path, size)
            if device:
                run(["losetup", "--set-capacity", device])
                self._resize_in_use(volume, device)
            else:
                run(["e2fsck", "-f", "-p", path], timeout=600, check=False)  # its code 1 is "corrected"
                run(["resize2fs", path], timeout=600)
        except ProgramFailed as error:
            os.truncate(path, before)
            if device:
                run(["losetup", "--set-capacity", device], check=False)
            raise ApiFault(f"command '{error.command}' failed: exit code {error.returncode}") from error

    def _resize_in_use(self, volume: VolumeId, device: str) -> None:
        """Grow a mounted file system. resize2fs must see it mounted, and a guest's mounts are not ours."""
        was_mounted = os.path.ismount(self._place(volume))
        self.mount(volume)
        try:
            run(["resize2fs", device], timeout=600)
        finally:
            if not was_mounted:
                self.unmount(volume)

    def free(self, volume: VolumeId) -> None:
        """Delete a disk."""
        path = self.path(volume)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            if path.name.startswith("base-"):
                run(["chattr", "-i", path], check=False)
            path.unlink()
        remove_if_empty(path.parent)

    def rename(self, volume: VolumeId, vmid: int) -> VolumeId:
        """Hand an image to another guest."""
        old = self.path(volume)
        kind, suffix = ("vm", "raw") if old.suffix == ".raw" else ("subvol", "subvol")
        with self.free_name(vmid, kind, suffix) as (renamed, path):
            old.rename(path)
        remove_if_empty(old.parent)
        return renamed

    def make_base(self, volume: VolumeId) -> VolumeId:
        """Turn an image into a template's read-only base disk; a directory keeps its name (PVE)."""
        path = self.path(volume)
        if path.suffix != ".raw":
            return volume
        base = self.base_name(volume)
        path.rename(self.path(base))
        self.path(base).chmod(0o400)
        run(["chattr", "+i", self.path(base)], check=False)  # not every file system can
        return base

    def clone(
        self, volume: VolumeId, vmid: int, *, snapshot: str | None = None, announce: Announce = forget
    ) -> VolumeId:
        """There are no linked clones here; PVE's words."""
        del vmid, snapshot, announce
        raise ApiFault(f"Linked clone feature for '{volume}' is not available")

    def has_snapshots(self) -> bool:
        """They cannot."""
        return False

    def snapshot(self, volume: VolumeId, name: str) -> None:
        """There are no snapshots here."""
        del volume, name
        raise ApiFault(_NO_SNAPSHOTS)

    rollback = snapshot
    delete_snapshot = snapshot

    def snapshot_path(self, volume: VolumeId, name: str) -> Path:
        """There are no snapshots here."""
        del volume, name
        raise ApiFault(_NO_SNAPSHOTS)

    def make_tree(self, name: str, *, root: tuple[int, int] = (0, 0)) -> Path:
        """Trees are for storages that copy on write."""
        del root
        raise ApiFault(f"storage '{self.id}' keeps no unpacked templates ('{name}')")

    def seal_tree(self, name: str) -> Path:
        """Trees are for storages that copy on write."""
        return self.make_tree(name)

    def find_tree(self, name: str) -> Path | None:
        """There are none."""
        del name
        return None

    def drop_tree(self, name: str) -> None:
        """There are none."""

    def list_trees(self) -> list[str]:
        """There are none."""
        return []
