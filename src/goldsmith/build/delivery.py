"""How what is built gets to a Proxmox on which there is no shell, and why that way: decided before anything is planned.

The API takes a template, but gives no dump back. So either the image is built on this machine, where its dump can be
read, and uploaded; or it is built on the Proxmox, and what guests are made from is the dump itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from goldsmith.definition.image import Image
from goldsmith.definition.values import DiskSize

LOCAL = "local"
"""The embedded node's storage for everything."""
NO_SHELL = "proxmox_shell is none"
NO_FILES = "the version in the repository has no files then, so no diff of files, no drift, and nothing to publish"


class Way(StrEnum):
    """The two ways."""

    UPLOAD = "upload"
    BACKUP = "backup"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The way that is taken, where it leads, and the reason."""

    way: Way
    node: str
    """Of the Proxmox."""
    storage: str
    """Of the template; a backup goes where dumps go."""
    reason: str


def choose_delivery(image: Image, node: str, lacking: Sequence[str]) -> Delivery | None:
    """Decide how an image gets to its node; None where a shell is there, or it is built where it stays.

    :param node: of the Proxmox, as it is called.
    :param lacking: what this machine lacks for the embedded node.
    """
    variables = image.variables
    if variables.proxmox_api_host is None or variables.proxmox_shell != "none":
        return None
    way = Way(variables.without_shell or (Way.BACKUP if lacking else Way.UPLOAD))
    reason = f"{NO_SHELL}; {_explain(way, variables.without_shell, lacking)}"
    return Delivery(way=way, node=node, storage=variables.proxmox_storage, reason=reason)


def _explain(way: Way, named: str | None, lacking: Sequence[str]) -> str:
    if way is Way.UPLOAD:
        why = "without_shell says so" if named else "this machine has what the embedded node needs"
        return f"built here, as {why}, and sent through the API"
    why = "without_shell says so" if named else f"this machine lacks what the embedded node needs: {lacking[0]}"
    return f"{why}; {NO_FILES}"


def make_local(image: Image) -> Image:
    """Return an image as it is built on the embedded node of this machine: what is about the Proxmox is left out.

    Its tests and servers are on the Proxmox all the same.
    """
    size = image.variables.temp_disk_size
    local = {
        "proxmox_api_host": None,
        "proxmox_node": None,
        "proxmox_pool": None,
        "proxmox_storage": LOCAL,
        "proxmox_vmids": None,
        "temp_vmid": None,
        "temp_disk_size": DiskSize(LOCAL, size.size) if size is not None else None,
        "temp_ip_address": None,
        "temp_gateway": None,
        "temp_ip6_address": None,
        "temp_gateway6": None,
        "temp_bridge": None,
        "temp_vlan": None,
        "temp_mtu": None,
        "temp_firewall": False,
    }
    return replace(image, variables=image.variables.model_copy(update=local))
