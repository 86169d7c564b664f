"""Removing a guest: its disks (never another guest's), its snapshots, its config."""

from __future__ import annotations

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.config import GuestConfig, config_path, open_config, save_config
from goldsmith.node.lxc.disks import free_disk, volumes_of
from goldsmith.node.lxc.power import START_SECONDS, stop_guest
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.properties import get_owner
from goldsmith.node.routing import Task


def check_destroy(node: Node, vmid: int, config: GuestConfig, *, force: bool) -> None:
    """Raise unless the guest may be destroyed; PVE's words."""
    config.check_lock()
    config.check_protection(f"can't remove CT {vmid}")
    if not force and Runtime(node, vmid).is_running():
        raise ApiFault(f"unable to destroy CT {vmid} - container is running")


def run_destroy(task: Task, node: Node, vmid: int, force: bool, purge: bool, unreferenced: bool) -> None:
    """Worker `vzdestroy`."""
    with open_config(node, vmid, timeout=START_SECONDS) as config:
        check_destroy(node, vmid, config, force=force)
        if Runtime(node, vmid).is_running():
            task.log(f"forced to stop CT {vmid} before destroying!")
            stop_guest(node, vmid, config)
        config.current.values["lock"] = "destroyed"
        save_config(node, vmid, config)
        free_all(task, node, vmid, config, unreferenced=unreferenced)
        if purge:
            task.log(f"purging CT {vmid} from related configurations..")
        config_path(node, vmid).unlink(missing_ok=True)
        node.access.forget_guest(vmid)
        Runtime(node, vmid).forget()


def free_all(task: Task, node: Node, vmid: int, config: GuestConfig, *, unreferenced: bool = False) -> None:
    """Free every disk that the guest or one of its snapshots names; `unreferenced` ones of that vmid too."""
    points = volumes_of(config.current, unused=True)
    points += [point for options in config.snapshots.values() for point in volumes_of(options)]
    for volume, point in {point.volume: point for point in points}.items():
        try:
            if line := free_disk(node, vmid, point):
                task.log(line)
        except ApiFault as error:
            task.log(f"could not remove disk '{volume}', check manually: {error}")
    for storage in node.storages() if unreferenced else []:
        for disk in [disk for disk in storage.list_disks() if get_owner(disk) == vmid]:
            task.log(f"destroying unreferenced disk '{disk}'")
            storage.free(disk)
