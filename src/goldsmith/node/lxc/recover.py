"""Bringing guests' things in order when the node starts: after a kill -9, a power cut, a reboot of the machine.

Running guests are left alone. What a dead worker left half done is undone, by its `lock`: a guest being made goes
with its disks, every other mark is removed and what it stood for cleaned up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from contextlib import suppress

from goldsmith.base.errors import GoldsmithError
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.guestconf import find_kind, is_busy
from goldsmith.node.lxc.archive import Log
from goldsmith.node.lxc.backup import SNAPSHOT
from goldsmith.node.lxc.config import GuestConfig, config_path, list_vmids, open_config, save_config
from goldsmith.node.lxc.disks import close_sources
from goldsmith.node.lxc.idmap import ensure_subordinate_ids
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.snapshots import delete_quietly, drop_unfinished
from goldsmith.node.newdisks import free_new_disks


def recover(node: Node, busy: Collection[int] = (), log: Log = lambda _: None) -> None:
    """Bring the node's guests in order.

    :param busy: guests that a living worker is at; they are passed over.
    """
    ensure_subordinate_ids()
    for vmid in list_vmids(node):
        if vmid not in busy and not is_busy(node, vmid):
            try:
                _recover_guest(node, vmid, log)
            except (ApiFault, GoldsmithError, OSError) as error:
                log(f"CT {vmid} could not be put in order: {error}")
    _clean_gone(node, busy)
    for path in node.run.glob("vzdump-*"):
        if not is_busy(node, int(path.name.partition("-")[2] or 0)):
            shutil.rmtree(path, ignore_errors=True)


def _clean_gone(node: Node, busy: Collection[int]) -> None:
    """Remove what is left of guests whose removal was killed right before its end: their configuration has gone."""
    for path in node.run.iterdir():
        if path.name.isdigit() and not find_kind(node, vmid := int(path.name)):
            runtime = Runtime(node, vmid)
            if vmid not in busy and not is_busy(node, vmid) and not runtime.is_running():
                free_new_disks(node, vmid)
                runtime.forget()


def _recover_guest(node: Node, vmid: int, log: Log) -> None:
    with open_config(node, vmid, timeout=1) as config:
        runtime = Runtime(node, vmid)
        if lock := config.lock:
            log(f"CT {vmid}: removing lock '{lock}' of a worker that is gone")
            _UNDO.get(lock, _forget_lock)(node, vmid, config)
        if runtime.is_running():
            # A worker killed while it held the guest still would leave it frozen for ever.
            runtime.thaw()
        elif config_path(node, vmid).exists():
            runtime.clean()
            with suppress(ApiFault):
                close_sources(node, config.current)


def _forget_lock(node: Node, vmid: int, config: GuestConfig) -> None:
    del config.current.values["lock"]
    save_config(node, vmid, config)


def _undo_create(node: Node, vmid: int, config: GuestConfig) -> None:
    """Remove a half-made guest with the disks made for it; a whole one that was to be replaced just loses the mark."""
    if set(config.current.values) == {"lock"}:
        free_new_disks(node, vmid)
        config_path(node, vmid).unlink(missing_ok=True)
    else:
        _forget_lock(node, vmid, config)


def _undo_backup(node: Node, vmid: int, config: GuestConfig) -> None:
    delete_quietly(node, config.current, SNAPSHOT)
    for storage in node.storages():
        if "backup" in storage.content:
            for path in storage.folder("backup").glob(f"vzdump-lxc-{vmid}-*.tar.dat"):
                path.unlink(missing_ok=True)
    _forget_lock(node, vmid, config)


def _undo_snapshot(node: Node, vmid: int, config: GuestConfig) -> None:
    drop_unfinished(node, config)
    _forget_lock(node, vmid, config)


_UNDO: dict[str, Callable[[Node, int, GuestConfig], None]] = {
    "create": _undo_create,
    "backup": _undo_backup,
    "snapshot": _undo_snapshot,
    "snapshot-delete": _undo_snapshot,
}
