"""Workers of storages: filing away uploads, deleting volumes, pruning backups."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.routing import Task
from goldsmith.node.storage.backups import list_backups, plan_prune
from goldsmith.node.storage.driver import Storage, VolumeId
from goldsmith.node.storage.folders import remove_backup
from goldsmith.node.storage.listing import get_content


@dataclass(frozen=True)
class Upload:
    """A received file, and where it is to go."""

    temporary: Path
    target: Path
    algorithm: str = ""
    checksum: str = ""


def run_import(task: Task, node: Node, upload: Upload) -> None:
    """Worker `imgcopy`: check a received file's sum and put it in its place; one of that name is replaced."""
    task.log(f"starting file import from: {upload.temporary}")
    task.log(f"target node: {node.name}")
    task.log(f"target file: {upload.target}")
    task.log(f"file size is: {upload.temporary.stat().st_size}")
    try:
        if upload.algorithm:
            _check_sum(task, upload)
        upload.temporary.chmod(0o644)
        with upload.temporary.open("rb") as file:
            os.fsync(file.fileno())
        task.log(f"command: mv -- {upload.temporary} {upload.target}")
        upload.temporary.replace(upload.target)
    finally:
        upload.temporary.unlink(missing_ok=True)
    task.log("finished file import successfully")


def _check_sum(task: Task, upload: Upload) -> None:
    task.log("calculating checksum...")
    with upload.temporary.open("rb") as file:
        found = hashlib.file_digest(file, upload.algorithm).hexdigest()
    if found.lower() != upload.checksum.lower():
        raise ApiFault(f"checksum mismatch: got '{found}' != expect '{upload.checksum}'")
    task.log("OK, checksum verified")


def run_delete(task: Task, node: Node, volume: VolumeId) -> None:
    """Worker `imgdel`: delete a volume. One that is not there is only told of (PVE)."""
    storage = node.storage(volume.storage)
    path = storage.path(volume)
    if not path.exists():
        task.log(f"disk image '{path}' does not exist")
        return
    if get_content(volume) == "rootdir":
        storage.unmount(volume)
        storage.free(volume)
    elif get_content(volume) == "backup":
        if path.with_name(path.name + ".protected").exists():
            raise ApiFault(f"cannot remove protected volume '{volume.name}' on '{storage.id}'")
        remove_backup(path)
    else:
        path.unlink()
    task.log(f"Removed volume '{volume}'")


def check_protected(storage: Storage, vmid: int, most: int | None) -> None:
    """Raise when a guest has as many protected backups in a storage as there may be; None: there may be any number."""
    if most is not None and sum(one.is_protected for one in list_backups(storage.folder("backup"), vmid)) >= most:
        raise ApiFault(f"The number of protected backups per guest is limited to {most} on storage '{storage.id}'")


def list_prune_marks(storage: Storage, vmid: int | None, retention: str) -> list[tuple[Path, int, int, str]]:
    """Return path, vmid, ctime and mark (`keep`, `remove`, `protected`) of backups, guest by guest."""
    backups = list_backups(storage.folder("backup"), vmid)
    marked = []
    for owner in sorted({backup.vmid for backup in backups}):
        group = [backup for backup in backups if backup.vmid == owner]
        marks = plan_prune(group, retention)
        marked += [(backup.path, owner, backup.ctime, marks[backup.path]) for backup in group]
    return marked


def run_prune(task: Task, node: Node, storage: str, vmid: int | None, retention: str) -> None:
    """Worker `prunebackups`: delete the backups that a retention does not keep."""
    for path, _, _, mark in list_prune_marks(node.storage(storage), vmid, retention):
        task.log(f"{mark} {storage}:backup/{path.name}")
        if mark == "remove":
            remove_backup(path)
