"""Guests of either kind, for those who do not care which: pools, the cluster's list."""

from __future__ import annotations

from typing import Any

from goldsmith.node.context import Node
from goldsmith.node.guestconf import Options, find_kind
from goldsmith.node.lxc import status as containers
from goldsmith.node.lxc.config import load_config
from goldsmith.node.qemu import status as machines
from goldsmith.node.qemu.config import FILES

TYPES = {"CT": "lxc", "VM": "qemu"}
"""Types in lists, by the kinds of `guestconf`."""


def load_options(node: Node, vmid: int) -> Options:
    """Return a guest's present options.

    :raises ApiFault: there is none.
    """
    return FILES.load(node, vmid).current if FILES.has(node, vmid) else load_config(node, vmid).current


def describe_guest(node: Node, vmid: int) -> dict[str, Any]:
    """Return a guest's state as lists show it, its type with it.

    :raises ApiFault: there is none.
    """
    if find_kind(node, vmid) == "VM":
        return {**machines.describe_machine(node, vmid), "type": "qemu"}
    return containers.describe_guest(node, vmid)


def list_guests(node: Node) -> list[dict[str, Any]]:
    """Return all guests."""
    found = [{**machine, "type": "qemu"} for machine in machines.list_machines(node)]
    return sorted([*containers.list_guests(node), *found], key=lambda guest: int(guest["vmid"]))
