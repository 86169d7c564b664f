"""The node as its own code sees it: settings, places on disk, storages. Cheap to make; every worker makes its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from goldsmith.node.access.store import AccessStore
from goldsmith.node.faults import ApiFault
from goldsmith.node.settings import NodeSettings
from goldsmith.node.storage import make_storages
from goldsmith.node.storage.driver import Storage


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
    def machine_configs(self) -> Path:
        """`qemu-server/<vmid>.conf`: one file per virtual machine, in Proxmox's own format (qm.conf(5))."""
        return self.settings.state / "qemu-server"

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

    @cached_property
    def access(self) -> AccessStore:
        """Users, tokens, ACL and pools."""
        return AccessStore(self.settings.state / "access.json", self.settings.pve_version)

    @cached_property
    def _storages(self) -> dict[str, Storage]:
        return {storage.id: storage for storage in make_storages(self.settings)}

    def storages(self) -> list[Storage]:
        """Return every storage."""
        return list(self._storages.values())

    def storage(self, name: str) -> Storage:
        """Return a storage by its name.

        :raises ApiFault: there is none of that name; PVE's words.
        """
        if name not in self._storages:
            raise ApiFault(f"storage '{name}' does not exist")
        return self._storages[name]

    def pool_members(self, pool: str) -> frozenset[int]:
        """Return the vmids of a pool's guests.

        :raises ApiFault: there is no such pool; PVE's words.
        """
        return self.access.load().get_pool(pool).members
