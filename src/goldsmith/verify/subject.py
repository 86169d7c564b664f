"""The guest under test, reached over SSH as root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from goldsmith.pve.shell import Shell
from goldsmith.pve.ssh import SshAccess, open_ssh_shell


@dataclass(frozen=True)
class Subject:
    """A guest that runs and lets us in."""

    host: str
    """Its name, in messages."""
    address: str
    private_key: Path
    known_hosts: Path
    """Holds the guest's host key; it is checked strictly."""
    port: int = 22
    user: str = "root"


@contextmanager
def open_subject(subject: Subject) -> Iterator[Shell]:
    """Use the guest's shell while the block runs, over one connection.

    :raises NodeUnreachable: nobody answers there.
    :raises ShellFailed: the host key is another, or our key is refused.
    """
    access = SshAccess(
        subject.address, subject.user, subject.port, key_file=subject.private_key, known_hosts=subject.known_hosts
    )
    with open_ssh_shell(access) as shell:
        yield shell
