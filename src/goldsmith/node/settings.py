"""What one embedded node is made of: name, directory, port, bridge and addresses. Written once, at its first start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from goldsmith.base.files import write_atomic
from goldsmith.node.version import VERSION

DEFAULT_STATE = Path("/var/lib/goldsmith/node")


@dataclass(frozen=True)
class NodeSettings:
    """The settings of one node. Two nodes on one machine differ in `state`, `port`, `host_bridge` and `network`."""

    state: Path = DEFAULT_STATE
    name: str = "pve"
    port: int = 8006
    bridge: str = "vmbr0"
    """The bridge's name in the API."""
    host_bridge: str = "gsmbr0"
    """The Linux interface behind it (15 characters at most); not `bridge`: the host may be a Proxmox."""
    network: str = "10.86.0.1/16"
    """Address of the bridge and the guests' gateway, in CIDR form."""
    disk_size: int = 0
    """Bytes of the file system that holds the guests' disks (a sparse file: space is taken as it is used); 0: three
    quarters of what is free where the state directory is, when the node starts for the first time."""
    version: str = ""
    """Which Proxmox VE it plays: one from 9.1 on pulls container images. Empty: the one that it speaks like best."""
    told_every: float = 0.0
    """Seconds for which names and states of guests in the cluster's list may be old: a Proxmox's nodes tell them every
    10 (pvestatd). 0: they are those of now, as clients expect; no Proxmox makes guests as fast as this one does."""
    accel: str = "auto"
    """How virtual machines run: `kvm`, `tcg` (emulated, several times slower), or `auto`: whichever is sure to work."""
    with_guests: bool = True
    """False: only the API, without network and copy on write. It needs no root and starts no guest; for tests."""

    @property
    def gateway(self) -> IPv4Address:
        """The guests' gateway and name server."""
        return IPv4Interface(self.network).ip

    @property
    def pve_version(self) -> str:
        """The version of Proxmox VE that it plays."""
        return self.version or VERSION

    def save(self) -> None:
        """Write the settings into the state directory."""
        write_atomic(self.state / "settings.json", json.dumps({**asdict(self), "state": str(self.state)}, indent=2))

    @classmethod
    def load(cls, state: Path) -> NodeSettings:
        """Read the settings of an existing node.

        :raises FileNotFoundError: there was never a node in that directory.
        """
        values = json.loads((state / "settings.json").read_text())
        return cls(**{**values, "state": state})
