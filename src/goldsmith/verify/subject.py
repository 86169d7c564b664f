"""The guest under test, entered as root: over SSH, directly through its node, or through its console."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from goldsmith.pve.shell import Shell
from goldsmith.pve.ssh import open_ssh_shell
from goldsmith.pve.target import Enterable, Target


@contextmanager
def open_subject(subject: Enterable) -> Iterator[Shell]:
    """Use the guest's shell while the block runs: over one connection, or entered anew for each program.

    :raises NodeUnreachable: nobody answers there.
    :raises ShellFailed: the host key is another, or our key is refused.
    """
    if not isinstance(subject, Target):
        yield subject.shell
        return
    with open_ssh_shell(subject.access) as shell:
        yield shell
