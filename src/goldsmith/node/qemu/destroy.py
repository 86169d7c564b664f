"""Removing a virtual machine: its disks (never another guest's), its config."""

from __future__ import annotations

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.properties import get_owner
from goldsmith.node.qemu.config import FILES, GuestConfig
from goldsmith.node.qemu.disks import free_drive
from goldsmith.node.qemu.power import LOCK_SECONDS
from goldsmith.node.qemu.runtime import Runtime
from goldsmith.node.routing import Task


def check_destroy(node: Node, vmid: int, config: GuestConfig) -> None:
    """Raise unless the machine may be destroyed; PVE's words."""
    config.check_protection(f"can't remove VM {vmid}")
    if Runtime(node, vmid).is_running():
        raise ApiFault(f"VM {vmid} is running - destroy failed")


def run_destroy(task: Task, node: Node, vmid: int, purge: bool, unreferenced: bool) -> None:
    """Worker `qmdestroy`."""
    with FILES.open(node, vmid, timeout=LOCK_SECONDS) as config:
        check_destroy(node, vmid, config)
        config.check_lock()
        config.current.values["lock"] = "destroyed"
        FILES.save(node, vmid, config)
        free_all(task, node, vmid, config)
        for storage in node.storages() if unreferenced else []:
            for disk in [disk for disk in storage.list_disks() if get_owner(disk) == vmid]:
                task.log(f"destroying unreferenced disk '{disk}'")
                storage.free(disk)
        if purge:
            task.log(f"purging VM {vmid} from related configurations..")
        FILES.path(node, vmid).unlink(missing_ok=True)
        node.access.forget_guest(vmid)
        Runtime(node, vmid).forget()


def free_all(task: Task, node: Node, vmid: int, config: GuestConfig) -> None:
    """Free every disk of the machine's own that it names, now or after its next start."""
    drives = [*config.current.disks(unused=True), *config.merged().disks(unused=True)]
    for volume, drive in {drive.file: drive for drive in drives}.items():
        try:
            free_drive(node, vmid, drive)
        except ApiFault as error:
            task.log(f"Could not remove disk '{volume}', check manually: {error}")
