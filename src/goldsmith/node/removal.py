"""Taking a node away for good: its guests with all their data, its network, its directory."""

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
from goldsmith.node.settings import NodeSettings

STOP_SECONDS = 30.0


def remove_node(settings: NodeSettings) -> None:
    """Remove everything of a node whose server has ended. As root.

    :raises NodeServiceError: a guest does not stop, or something is still mounted; then no file has been removed.
    """
    node = Node(settings)
    for vmid in list_vmids(node):
        _stop_guest(Runtime(node, vmid))
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
