"""Disks of virtual machines: making them empty or from an image, finding their files, freeing them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from goldsmith.base.errors import ProgramFailed, ProgramMissing
from goldsmith.base.process import Argument, run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.newdisks import note_new_disks
from goldsmith.node.properties import get_owner, parse_volume
from goldsmith.node.qemu.config import Options
from goldsmith.node.qemu.properties import Drive
from goldsmith.node.routing import Task

_COPY_SECONDS = 3600.0
_IMPORTED = frozenset(("images", "import"))


def run_qemu_img(*arguments: Argument) -> str:
    """Run qemu-img and return what it said.

    :raises ApiFault: it is not installed, or fails.
    """
    try:
        return run(["qemu-img", *arguments], timeout=_COPY_SECONDS).stdout
    except ProgramMissing as error:
        raise ApiFault("qemu-img is not installed: apt-get install qemu-utils") from error
    except ProgramFailed as error:
        raise ApiFault(error.output.strip().rpartition("\n")[2] or str(error)) from error


def find_import(node: Node, source: str) -> tuple[Path, str]:
    """Return the file of a disk's source, and its format.

    The format is what its name says; only that of a plain path is looked up. A raw image whose guest has written
    a qcow2 header into it would else be read as one, with any file of the machine behind it.

    :raises ApiFault: it is none that can be imported.
    """
    if source.startswith("/"):
        path = Path(source)
        if not path.is_file():
            raise ApiFault(f"could not get file size of {source}")
        return path, _probe(path)
    volume = parse_volume(source)
    path = node.storage(volume.storage).path(volume)
    if not path.is_file():
        raise ApiFault(f"volume '{source}' does not exist")
    form = path.suffix[1:]
    if form not in ("raw", "qcow2", "vmdk"):
        raise ApiFault(f"cannot import from '{source}' - format '{form}' is not supported by the embedded node")
    _probe(path, form)
    return path, form


def _probe(path: Path, form: str = "") -> str:
    """Return an image's format. One that is built upon another file is refused, as Proxmox refuses it."""
    about = json.loads(run_qemu_img("info", "--output=json", *(["-f", form] if form else []), path))
    if about.get("backing-filename") or about.get("format-specific", {}).get("data", {}).get("data-file"):
        raise ApiFault(f"{path}: images that need another file are not allowed")
    return str(about["format"])


def make_drive(task: Task, node: Node, vmid: int, drive: Drive, stack: ExitStack, *, storage: str = "") -> Drive:
    """Return a drive as it is stored: its disk made where it asks for one, else its size looked up.

    :param storage: where disks are made that name none.
    """
    if drive.file == "none":
        return drive
    wanted = drive.request(storage)
    if wanted is None:
        volume = parse_volume(drive.file)
        path = node.storage(volume.storage).path(volume)
        if not path.is_file():
            raise ApiFault(f"volume {drive.file} does not exist")
        return drive.with_volume(volume, node.storage(volume.storage).size(volume) if drive.has_disk else _size(path))
    made = _make_disk(node, vmid, drive, wanted, stack)
    task.log(f"{drive.key}: successfully created disk '{made.render()}'")
    return made


def _size(path: Path) -> int:
    return path.stat().st_size


def _make_disk(node: Node, vmid: int, drive: Drive, wanted: tuple[str, int], stack: ExitStack) -> Drive:
    storage = node.storage(wanted[0])
    form, announce = drive.get("format") or "raw", note_new_disks(node, vmid, stack)
    source = find_import(node, drive.get("import-from")) if "import-from" in drive.values else None

    def fill(path: Path) -> None:
        if source is None:
            run_qemu_img("create", "-q", "-f", form, path, wanted[1])
        else:
            run_qemu_img("convert", "-f", source[1], "-O", form, source[0], path)

    volume = storage.allocate_image(vmid, form, fill, announce=announce)
    return drive.with_volume(volume, storage.size(volume))


def find_images(node: Node, options: Options) -> dict[str, Path]:
    """Return the files of a machine's drives by their keys; an empty CD drive has none.

    :raises ApiFault: one is not there.
    """
    found = {}
    for drive in options.drives():
        if drive.file != "none":
            volume = parse_volume(drive.file)
            found[drive.key] = node.storage(volume.storage).path(volume)
            if not found[drive.key].is_file():
                raise ApiFault(f"volume '{drive.file}' does not exist")
    return found


def free_drive(node: Node, vmid: int, drive: Drive) -> None:
    """Free a machine's disk; one that belongs to another guest stays."""
    volume = parse_volume(drive.file)
    if get_owner(volume) == vmid:
        node.storage(volume.storage).free(volume)
