"""Giving back what a node holds of the machine: some of it when it stops, all of it when it is removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from goldsmith.base.errors import NodeServiceError
from goldsmith.base.process import run
from goldsmith.node.context import Node
from goldsmith.node.lxc.config import list_vmids
from goldsmith.node.lxc.runtime import Runtime, release_node
from goldsmith.node.network import remove_network
from goldsmith.node.qemu.config import FILES
from goldsmith.node.qemu.runtime import Runtime as Machine
from goldsmith.node.settings import NodeSettings
from goldsmith.node.tasks import TaskStore

STOP_SECONDS = 30.0


def rest_node(settings: NodeSettings) -> None:
    """Take down bridge, rules and mounts of a node whose server has ended, unless guests or tasks still need them.

    The next start brings them up again.
    """
    node = Node(settings)
    if TaskStore(node.tasks).list_active() or _has_running(node):
        return
    for storage in node.storages():
        storage.close()
    remove_network(settings)


def _has_running(node: Node) -> bool:
    machines = (Machine(node, vmid).is_running() for vmid in FILES.list_vmids(node))
    return any(machines) or any(Runtime(node, vmid).is_running() for vmid in list_vmids(node))


def remove_node(settings: NodeSettings) -> None:
    """Remove everything of a node whose server has ended. As root.

    :raises NodeServiceError: a guest does not stop, or something is still mounted; then no file has been removed.
    """
    node = Node(settings)
    for vmid in list_vmids(node):
        _stop_guest(Runtime(node, vmid))
    for vmid in FILES.list_vmids(node):
        if not Machine(node, vmid).kill(STOP_SECONDS):
            raise NodeServiceError(f"VM {vmid} does not stop; nothing was removed")
    for storage in node.storages():
        storage.close()
    _check_unmounted(settings.state)
    remove_network(settings)
    release_node(settings)
    shutil.rmtree(settings.state)


def _stop_guest(runtime: Runtime) -> None:
    if runtime.is_running():
        run(runtime.command("lxc-stop", "-k"), check=False)
        if not runtime.wait_stopped(STOP_SECONDS):
            raise NodeServiceError(f"container {runtime.vmid} does not stop; nothing was removed")
    runtime.clean()


def _check_unmounted(state: Path) -> None:
    """Never remove files through a mount: they may be anybody's."""
    within = f"{state.resolve()}{os.sep}"
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    left = [mount for mount in mounts if mount.startswith(within)]
    if left:
        raise NodeServiceError(
            f"{', '.join(left)} is still mounted; nothing was removed",
            hint=f"unmount it, then try again: umount {left[0]}",
        )
