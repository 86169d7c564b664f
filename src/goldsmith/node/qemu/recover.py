"""Bringing virtual machines' things in order when the node starts. Running machines are left alone."""

from __future__ import annotations

from collections.abc import Callable, Collection

from goldsmith.base.errors import GoldsmithError
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.guestconf import is_busy
from goldsmith.node.newdisks import free_new_disks
from goldsmith.node.qemu.config import FILES
from goldsmith.node.qemu.runtime import Runtime


def recover(node: Node, busy: Collection[int] = (), log: Callable[[str], None] = lambda _: None) -> None:
    """Undo what dead workers left: half-made machines with their disks, marks, places of machines that have ended.

    :param busy: guests that a living worker is at; they are passed over.
    """
    for vmid in FILES.list_vmids(node):
        if vmid not in busy and not is_busy(node, vmid):
            try:
                _recover_machine(node, vmid, log)
            except (ApiFault, GoldsmithError, OSError) as error:
                log(f"VM {vmid} could not be put in order: {error}")


def _recover_machine(node: Node, vmid: int, log: Callable[[str], None]) -> None:
    with FILES.open(node, vmid, timeout=1) as config:
        if config.lock:
            log(f"VM {vmid}: removing lock '{config.lock}' of a worker that is gone")
        named = {drive.file for options in (config.current, config.merged()) for drive in options.disks(unused=True)}
        free_new_disks(node, vmid, besides=named)
        if set(config.current.values) == {"lock"}:
            FILES.path(node, vmid).unlink(missing_ok=True)
        elif config.current.values.pop("lock", None):
            FILES.save(node, vmid, config)
        Runtime(node, vmid).clean()
