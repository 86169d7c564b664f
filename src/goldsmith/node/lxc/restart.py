"""Started by a guest's post-stop hook when the guest reboots from inside: `python -m ... STATE VMID`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from goldsmith.node.lxc import syscalls


def leave_namespace() -> None:
    """Go back to the machine's own mount namespace, where disks that are mounted now belong.

    Where that is not allowed (a first process with more capabilities than we have), this namespace does: it is a
    slave of the machine's, and `assemble` lets go of what it still holds.
    """
    with suppress(OSError):
        fd = os.open("/proc/1/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        syscalls.enter_namespace(fd, syscalls.CLONE_NEWNS)


if __name__ == "__main__":
    leave_namespace()
    from goldsmith.node.lxc.power import restart_guest  # once more threads may exist, it is too late to leave

    restart_guest(Path(sys.argv[1]), int(sys.argv[2]))
