"""The API tree, one file per subtree: each method stands with its path, privileges and code, as in Proxmox itself."""

from __future__ import annotations

from importlib import import_module

_NAMES = (
    "access", "aplinfo", "cluster", "lxc", "lxc_config", "lxc_console", "lxc_disks", "lxc_status", "nodes", "pools",
    "qemu", "qemu_agent", "qemu_config", "qemu_status", "storage", "tasks", "users", "vzdump",
)  # fmt: skip


def import_methods() -> None:
    """Import every file of the tree, which is what declares its methods (`routing.METHODS`)."""
    for name in _NAMES:
        import_module(f"goldsmith.node.api.{name}")
