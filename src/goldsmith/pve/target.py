"""A guest that runs and lets us in over SSH: what playbooks and tests are run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goldsmith.pve.ssh import SshAccess


@dataclass(frozen=True)
class Target:
    """A guest, and the files that open it."""

    host: str
    """Its name: in messages, and in a play, where tasks show it and `inventory_hostname` says it."""
    address: str
    private_key: Path
    known_hosts: Path
    """Holds the guest's host key; it is checked strictly."""
    port: int = 22
    user: str = "root"

    @property
    def access(self) -> SshAccess:
        """How its shell is reached."""
        return SshAccess(self.address, self.user, self.port, key_file=self.private_key, known_hosts=self.known_hosts)
