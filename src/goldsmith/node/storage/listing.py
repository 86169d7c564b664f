"""What lies on a storage, as `GET .../content` shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from goldsmith.node.faults import ApiFault
from goldsmith.node.storage.backups import list_backups, parse_backup
from goldsmith.node.storage.driver import Storage, VolumeId

TEMPLATE_FORMATS = {".tar.gz": "tgz", ".tar.xz": "txz", ".tar.zst": "tzst", ".tar.bz2": "tbz2"}
_IMPORT_FORMATS = {".qcow2": "qcow2", ".raw": "raw", ".vmdk": "vmdk", ".ova": "ova"}
SUFFIXES: dict[str, tuple[str, ...]] = {
    "vztmpl": tuple(TEMPLATE_FORMATS), "iso": (".iso", ".img"), "import": tuple(_IMPORT_FORMATS),
}  # fmt: skip
"""What a file of a content type that can be uploaded is called (PVE 8.4)."""


def parse_volume(volid: str, storage: str = "") -> VolumeId:
    """Parse `local:backup/x`, or `backup/x` where the storage is known otherwise.

    :raises ApiFault: it is neither, or names another storage; PVE's words.
    """
    name, colon, rest = volid.partition(":")
    if not colon and storage:
        return VolumeId(storage, volid)
    if not rest or "/" in name:
        raise ApiFault(f"unable to parse volume ID '{volid}'")
    if storage and name != storage:
        raise ApiFault(f"storage ID mismatch ({name} != {storage})")
    return VolumeId(name, rest)


def get_content(volume: VolumeId) -> str:
    """Return a volume's kind of content."""
    kind = volume.name.partition("/")[0]
    return "rootdir" if kind.isdigit() else kind


def find_owner(storage: Storage, volume: VolumeId) -> int | None:
    """Return the vmid of the guest that a disk or backup belongs to."""
    kind = volume.name.partition("/")[0]
    if kind.isdigit():
        return int(kind)
    backup = parse_backup(storage.path(volume)) if kind == "backup" else None
    return backup.vmid if backup else None


def list_content(storage: Storage, content: str | None = None, vmid: int | None = None) -> list[dict[str, Any]]:
    """Return the volumes on a storage, of one kind and one guest where asked for."""
    kinds = [kind for kind in sorted(storage.content) if content in (None, kind) and kind != "images"]
    items = [item for kind in kinds for item in _LISTERS[kind](storage)]
    return [item for item in items if vmid is None or item.get("vmid") == vmid]


def _list_disks(storage: Storage) -> list[dict[str, Any]]:
    items = []
    for disk in storage.list_disks():
        try:
            path = storage.path(disk)
            items.append({
                "volid": str(disk), "content": "rootdir", "format": path.suffix[1:], "size": storage.size(disk),
                "used": storage.used(disk), "vmid": int(disk.name.partition("/")[0]), "parent": None,
                "ctime": int(path.stat().st_ctime),
            })  # fmt: skip
        except (OSError, ApiFault):
            continue  # deleted at this moment
    return items


def _list_backups(storage: Storage) -> list[dict[str, Any]]:
    items = []
    for backup in list_backups(storage.folder("backup")):
        item: dict[str, Any] = {
            "volid": f"{storage.id}:backup/{backup.path.name}", "content": "backup", "subtype": backup.kind,
            "format": backup.format, "ctime": backup.ctime, "vmid": backup.vmid, "size": _size_of(backup.path),
        }  # fmt: skip
        item |= {"notes": backup.notes} if backup.notes else {}
        item |= {"protected": 1} if backup.is_protected else {}
        items.append(item)
    return items


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _list_files(storage: Storage, content: str, formats: dict[str, str]) -> list[dict[str, Any]]:
    """Return the files whose names end in one of the keys; an empty key takes all."""
    folder, items = storage.folder(content), []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        form = next((form for suffix, form in formats.items() if path.name.endswith(suffix)), None)
        if form is not None and path.is_file() and not path.name.startswith("."):
            items.append({
                "volid": f"{storage.id}:{content}/{path.name}", "content": content, "format": form,
                "size": path.stat().st_size, "ctime": int(path.stat().st_ctime),
            })  # fmt: skip
    return items


_LISTERS: dict[str, Callable[[Storage], list[dict[str, Any]]]] = {
    "rootdir": _list_disks,
    "backup": _list_backups,
    "vztmpl": lambda storage: _list_files(storage, "vztmpl", {**TEMPLATE_FORMATS, ".tar": "tar"}),
    "iso": lambda storage: _list_files(storage, "iso", {".iso": "iso", ".img": "iso"}),
    "import": lambda storage: _list_files(storage, "import", _IMPORT_FORMATS),
    "snippets": lambda storage: _list_files(storage, "snippets", {"": "snippet"}),
}
