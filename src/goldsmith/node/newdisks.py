"""Disks of a guest that is not whole yet: written down before they are made, freed when the making fails or dies."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path

from goldsmith.node.context import Node
from goldsmith.node.properties import parse_volume
from goldsmith.node.storage.driver import Announce, Storage, VolumeId


def _new_disks_file(node: Node, vmid: int) -> Path:
    return node.run / str(vmid) / "new-disks"


def note_new_disks(node: Node, vmid: int, stack: ExitStack) -> Announce:
    """Return what has new disks freed on failure: by the stack, or by `free_new_disks` after a kill -9."""
    path = _new_disks_file(node, vmid)

    def note(volume: VolumeId) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{volume}\n")
        stack.callback(free_quietly, node.storage(volume.storage), volume)

    return note


def keep_new_disks(node: Node, vmid: int) -> None:
    """Say that a guest is whole: its new disks are its own from now on."""
    _new_disks_file(node, vmid).unlink(missing_ok=True)


def free_new_disks(node: Node, vmid: int, *, besides: Collection[str] = ()) -> None:
    """Free the disks that a dead worker made for a guest, but those that the guest has by now."""
    path = _new_disks_file(node, vmid)
    for line in path.read_text().splitlines() if path.exists() else []:
        if line not in besides:
            volume = parse_volume(line)
            free_quietly(node.storage(volume.storage), volume)
    path.unlink(missing_ok=True)


def free_quietly(storage: Storage, volume: VolumeId) -> None:
    """Free a disk on the way out of a failure that must not be hidden by another."""
    with suppress(Exception):
        storage.unmount(volume)
    with suppress(Exception):
        storage.free(volume)
