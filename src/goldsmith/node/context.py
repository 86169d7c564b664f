"""The node as its own code sees it: settings, places on disk, storages. Cheap to make; every worker makes its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from goldsmith.node.settings import NodeSettings


@dataclass(frozen=True)
class Node:
    """One node's settings and where its things lie (all below `settings.state`, which only root may enter)."""

    settings: NodeSettings

    @property
    def name(self) -> str:
        """The node's name in the API."""
        return self.settings.name

    @cached_property
    def configs(self) -> Path:
        """`lxc/<vmid>.conf`: one file per container, in Proxmox's own format (pct.conf(5))."""
        return self.settings.state / "lxc"

    @cached_property
    def locks(self) -> Path:
        """`lock/`: flock files, `pve-config-<vmid>.lock`, `vzdump.lock` and one per storage."""
        return self.settings.state / "lock"

    @cached_property
    def tasks(self) -> Path:
        """`tasks/`: `active`, `index` and one log per UPID, as below /var/log/pve/tasks."""
        return self.settings.state / "tasks"

    @cached_property
    def run(self) -> Path:
        """`run/`: generated lxc configs, mounts and pid files; worth nothing after a reboot."""
        return self.settings.state / "run"
