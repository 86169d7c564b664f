"""Attach a directory of the machine inside a running guest: `python -m ... PID SOURCE TARGET OWNER OPTIONS`.

The mount is copied here, carried as a file descriptor into the mount namespace of the guest's first process, and
attached there. The target is resolved by the guest's own root, so no link inside leads anywhere else. A program of
its own because a thread may not enter a mount namespace (setns(2)). Standard library only, for a quick start.
"""

from __future__ import annotations

import os
import sys

from goldsmith.node.lxc import syscalls
from goldsmith.node.lxc.assemble import open_target


def attach(pid: int, source: str, target: str, owner: int, options: list[str]) -> None:
    """Enter the guest's mount namespace and attach the directory; this process stays there."""
    tree = syscalls.open_tree(source)
    if options:
        syscalls.set_mount_attributes(tree, options)
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.enter_namespace(namespace, syscalls.CLONE_NEWNS)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.move_mount(tree, open_target(root, target, owner))


if __name__ == "__main__":
    number, where, path, uid, names = sys.argv[1:]
    attach(int(number), where, path, int(uid), [name for name in names.split(",") if name])
