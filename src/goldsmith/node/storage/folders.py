"""What both kinds of storage share: Proxmox's folders, the names of volumes, who owns which disk.

<root>/template/cache/   vztmpl      debian-12-standard_12.12-1_amd64.tar.zst
       template/iso/     iso
       dump/             backup      vzdump-lxc-100-2026_11_23-17_16_36.tar.zst, .log, .notes, .protected
       import/  snippets/
       images/<vmid>/    rootdir     subvol-100-disk-0.subvol, vm-100-disk-0.raw, base-100-disk-0.raw
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from goldsmith.base.files import open_lock
from goldsmith.node.faults import ApiFault
from goldsmith.node.storage.backups import select_prunable
from goldsmith.node.storage.driver import Announce, Space, VolumeId, forget

FOLDERS = {
    "vztmpl": "template/cache", "iso": "template/iso", "backup": "dump", "import": "import", "snippets": "snippets",
    "images": "images", "rootdir": "images",
}  # fmt: skip
PRIVATE = frozenset(("images", "rootdir", "backup"))
_DISK = re.compile(r"(?:vm|base|subvol|basevol)-[1-9]\d+-[^/\s@]+?\.(?:raw|qcow2|subvol)")
_NUMBER = re.compile(r"(?:vm|base|subvol|basevol)-\d+-disk-(\d+)\.\w+")
_FILE = re.compile(r"(vztmpl|iso|backup|import|snippets)/([^/\s][^/]*)")
_ALLOCATE_SECONDS = 30.0


class FolderStorage:
    """The folders and names of a storage below one directory. Drivers add how disks are made."""

    type = "dir"

    def __init__(self, name: str, root: Path, content: frozenset[str]) -> None:
        self.id = name
        self.root = root
        self.content = content

    def ensure_folders(self) -> None:
        """Make the folders for what the storage may hold.

        Guests' files are root's alone: a user of the machine could run a guest's setuid program as root, or read its
        shadow file from a dump.
        """
        for content in self.content:
            folder = self.folder(content)
            folder.mkdir(parents=True, exist_ok=True)
            if content in PRIVATE:
                folder.chmod(0o700)

    def clear_leftovers(self) -> None:
        """Remove what killed work left half done. Nobody may be at work."""
        for path in (*self.root.glob(".upload/pveupload-*"), *self.folder("vztmpl").glob(".*.part.tar.zst")):
            path.unlink(missing_ok=True)
        for notes in self.folder("backup").glob("vzdump-*.notes"):  # the archive goes first: its notes say whose it is
            if not notes.with_suffix("").exists():
                notes.unlink(missing_ok=True)

    def folder(self, content: str) -> Path:
        """Return the directory of a kind of content."""
        return self.root / FOLDERS[content]

    def path(self, volume: VolumeId) -> Path:
        """Return a volume's file or directory, whether it exists or not.

        :raises ApiFault: the name is none of a volume; PVE's words.
        """
        if (match := _FILE.fullmatch(volume.name)) and match[2] not in (".", ".."):
            return self.folder(match[1]) / match[2]
        vmid, _, name = volume.name.partition("/")
        if not vmid.isdigit() or _DISK.fullmatch(name) is None:
            raise ApiFault(f"unable to parse directory volume name '{volume.name}'")
        return self.folder("images") / vmid / name

    def allocate_image(
        self, vmid: int, form: str, fill: Callable[[Path], None], *, announce: Announce = forget
    ) -> VolumeId:
        """Make a virtual machine's disk in the format `raw` or `qcow2`; `fill` makes the file."""
        with self.free_name(vmid, "vm", form, announce=announce) as (volume, path):
            try:
                fill(path)
                path.chmod(0o600)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return volume

    def list_disks(self) -> list[VolumeId]:
        """Return all disks on this storage."""
        found = self.folder("images").glob("[1-9]*/*") if self.folder("images").is_dir() else []
        return sorted(
            (VolumeId(self.id, f"{path.parent.name}/{path.name}") for path in found if _DISK.fullmatch(path.name)),
            key=str,
        )

    def space(self) -> Space:
        """Return total, used and available bytes of the file system."""
        status = os.statvfs(self.root)
        total, free = status.f_blocks * status.f_frsize, status.f_bfree * status.f_frsize
        return Space(total, total - free, status.f_bavail * status.f_frsize)

    def prune(self, vmid: int, retention: str, *, log: Callable[[str], None]) -> int:
        """Delete a guest's backups beyond a retention; protected ones stay. Return how many."""
        doomed = select_prunable(self.folder("backup"), vmid, retention)
        for path in doomed:
            log(f"removing backup '{self.id}:backup/{path.name}'")
            remove_backup(path)
        return len(doomed)

    @contextmanager
    def free_name(
        self, vmid: int, kind: str, suffix: str, name: str = "", announce: Announce = forget
    ) -> Iterator[tuple[VolumeId, Path]]:
        """Hand out the first disk name that is free for a guest, or `name`; nobody else gets one meanwhile.

        :raises ApiFault: that name is taken, or its ending is none that the storage makes; PVE's words.
        """
        folder = self.folder("images") / str(vmid)
        with open_lock(self.folder("images") / ".lock", timeout=_ALLOCATE_SECONDS, what=f"storage {self.id}"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken = {int(match[1]) for path in folder.iterdir() if (match := _NUMBER.fullmatch(path.name))}
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            name = name or f"{kind}-{vmid}-disk-{number}.{suffix}"
            if not name.endswith(f".{suffix}"):
                raise ApiFault(f"unsupported format '{name.rpartition('.')[2]}'")
            if (folder / name).exists():
                raise ApiFault(f"disk image '{folder / name}' already exists")
            try:
                announce(VolumeId(self.id, f"{vmid}/{name}"))
                yield VolumeId(self.id, f"{vmid}/{name}"), folder / name
            finally:
                remove_if_empty(folder)

    def base_name(self, volume: VolumeId) -> VolumeId:
        """Return a disk's name as a template's base disk."""
        folder, _, name = volume.name.partition("/")
        return VolumeId(volume.storage, f"{folder}/{re.sub('^(vm|subvol|base)-', 'base-', name)}")


def read_image_size(path: Path) -> int:
    """Return the bytes that a guest sees of a disk image; of qcow2 as its header says (bytes 24 to 31)."""
    if path.suffix != ".qcow2":
        return path.stat().st_size
    with path.open("rb") as file:
        return int.from_bytes(file.read(32)[24:], "big")


def remove_if_empty(folder: Path) -> None:
    """Remove a guest's folder once its last disk has gone."""
    with suppress(OSError):
        folder.rmdir()


def remove_backup(path: Path) -> None:
    """Delete a backup with its log and notes."""
    stem = re.sub(r"\.(tar|vma)(\.(gz|zst|lzo|bz2|xz))?$", "", path.name)
    path.unlink(missing_ok=True)
    for name in (f"{path.name}.notes", f"{stem}.log"):
        path.with_name(name).unlink(missing_ok=True)
