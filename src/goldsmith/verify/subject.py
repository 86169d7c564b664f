"""The guest under test, reached over SSH as root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from goldsmith.pve.shell import Shell
from goldsmith.pve.ssh import open_ssh_shell
from goldsmith.pve.target import Target


@contextmanager
def open_subject(subject: Target) -> Iterator[Shell]:
    """Use the guest's shell while the block runs, over one connection.

    :raises NodeUnreachable: nobody answers there.
    :raises ShellFailed: the host key is another, or our key is refused.
    """
    with open_ssh_shell(subject.access) as shell:
        yield shell
