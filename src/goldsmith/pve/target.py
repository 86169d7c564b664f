"""A guest that runs, and how it is entered: over SSH, directly through its node, or through its console in the API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goldsmith.pve.attach import AttachShell
from goldsmith.pve.console.shell import ConsoleShell
from goldsmith.pve.shell import Shell
from goldsmith.pve.ssh import SshAccess


@dataclass(frozen=True)
class Target:
    """A guest that lets us in over SSH, and the files that open it."""

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


@dataclass(frozen=True)
class DirectTarget:
    """A container that is entered through its node; whether it has a network and sshd does not matter."""

    host: str
    """Its name, in messages."""
    address: str
    """The address that it was given; nothing of ours connects to it."""
    vmid: int
    node: Shell
    """Root's shell on its node."""
    lxc_path: str = "/var/lib/lxc"
    """LXC's own directory of running containers there."""

    @property
    def shell(self) -> AttachShell:
        """Root's shell in it."""
        return AttachShell(self.host, self.node, self.lxc_path, self.vmid)


@dataclass(frozen=True)
class ConsoleTarget:
    """A guest that is entered through the API: a container by its console, a virtual machine by its guest agent."""

    host: str
    """Its name: in messages, and in a play."""
    address: str
    """The address that it was given, if any; nothing of ours connects to it."""
    shell: ConsoleShell
    """Root's shell in it."""


Enterable = Target | DirectTarget | ConsoleTarget
