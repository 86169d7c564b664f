"""Changes of a virtual machine's options: at once where it does not run, at its next start otherwise."""

from __future__ import annotations

from contextlib import ExitStack

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.newdisks import keep_new_disks
from goldsmith.node.properties import UNUSED_KEY, get_owner, parse_volume
from goldsmith.node.qemu.config import FILES, GuestConfig
from goldsmith.node.qemu.disks import free_drive, make_drive
from goldsmith.node.qemu.options import FAST, check_boot, is_drive
from goldsmith.node.qemu.properties import Drive
from goldsmith.node.qemu.runtime import Runtime
from goldsmith.node.routing import Task


class Quiet:
    """The log of a change that has no task."""

    upid = ""

    def log(self, line: str) -> None:
        """Drop a line."""

    def warn(self, line: str) -> None:
        """Drop a warning."""

    def spawn(self, kind: str, name: str, work: object, *arguments: object) -> str:
        """Nothing is started from here."""
        raise NotImplementedError


def run_update(
    task: Task, node: Node, vmid: int, changes: dict[str, str], delete: list[str], revert: list[str], digest: str
) -> None:
    """Worker `qmconfig`, and `PUT config` itself: make new disks, write all down as pending, apply what can be."""
    with FILES.open(node, vmid) as config, ExitStack() as stack:
        config.check_lock()
        config.check_digest(digest)
        check_boot(config, changes)
        for key in [key for key in {*changes, *delete} if is_drive(key) or UNUSED_KEY.fullmatch(key)]:
            config.check_protection(f"can't remove drive '{key}'" if key in delete else f"can't update drive '{key}'")
        made = {key: _complete(task, node, vmid, key, value, stack) for key, value in changes.items()}
        _stage(config, made, delete, revert)
        FILES.save(node, vmid, config)
        stack.pop_all()
        keep_new_disks(node, vmid)
        if Runtime(node, vmid).is_running():
            _apply_fast(config)
            FILES.save(node, vmid, config)
        else:
            apply_pending(task, node, vmid, config)


def _complete(task: Task, node: Node, vmid: int, key: str, value: str, stack: ExitStack) -> str:
    return make_drive(task, node, vmid, Drive.parse(key, value), stack).render() if is_drive(key) else value


def _stage(config: GuestConfig, changes: dict[str, str], delete: list[str], revert: list[str]) -> None:
    for key in revert:
        config.pending.pop(key, None)
    config.pending_delete = [key for key in config.pending_delete if key not in {*revert, *changes}]
    for key in delete:
        config.pending.pop(key, None)
        if key in config.current.values and key not in config.pending_delete:
            config.pending_delete.append(key)
    config.pending.update(changes)


def _apply_fast(config: GuestConfig) -> None:
    """Apply to a running machine what is only a note, and forget changes that change nothing."""
    values = config.current.values
    for key in FAST & config.pending.keys():
        values[key] = config.pending.pop(key)
    for key in FAST.intersection(config.pending_delete):
        values.pop(key, None)
        config.pending_delete.remove(key)
    config.pending = {key: value for key, value in config.pending.items() if values.get(key) != value}


def apply_pending(task: Task, node: Node, vmid: int, config: GuestConfig) -> None:
    """Apply every pending change to a machine that does not run, and save its config."""
    for key in sorted(config.pending_delete):
        if (text := config.current.values.pop(key, None)) is not None:
            _let_go(task, node, vmid, config, Drive.parse(key, text) if _has_volume(key) else None)
    config.pending_delete = []
    for key in sorted(config.pending):
        before, after = config.current.values.get(key), config.pending.pop(key)
        config.current.values[key] = after
        if before and is_drive(key) and Drive.parse(key, before).file != Drive.parse(key, after).file:
            _let_go(task, node, vmid, config, Drive.parse(key, before))
        if is_drive(key):
            _forget_unused(config, Drive.parse(key, after))
    FILES.save(node, vmid, config)


def _has_volume(key: str) -> bool:
    return is_drive(key) or UNUSED_KEY.fullmatch(key) is not None


def _let_go(task: Task, node: Node, vmid: int, config: GuestConfig, drive: Drive | None) -> None:
    """Keep a disk that is taken away as an unused one; free one that was unused already."""
    if drive is None or not drive.has_disk:
        return
    if UNUSED_KEY.fullmatch(drive.key):
        try:
            free_drive(node, vmid, drive)
        except ApiFault as fault:
            task.warn(f"could not remove disk '{drive.file}', check manually: {fault}")
    elif get_owner(parse_volume(drive.file)) == vmid:
        config.current.values[config.current.free_key("unused")] = drive.file


def _forget_unused(config: GuestConfig, drive: Drive) -> None:
    for key, value in list(config.current.values.items()):
        if UNUSED_KEY.fullmatch(key) and value == drive.file:
            del config.current.values[key]
