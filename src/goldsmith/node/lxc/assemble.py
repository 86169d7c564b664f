"""Run a program with a guest's file system put together before it, in a mount namespace that dies with it.

`python -m goldsmith.node.lxc.assemble SPEC -- PROGRAM ARGUMENTS...`; SPEC is the JSON of `Assembly`. The guest's
disks appear below `/run/goldsmith/guest` and nowhere else on the machine: nothing to unmount afterwards, however the
program ends; and the guest's root user, who must be able to reach them, need not enter any other directory of ours.

    /run/goldsmith/guest/root the root disk, mount points and bind mounts inside it
    /run/goldsmith/guest/conf another directory for the program's use (`vzdump`: etc/vzdump/pct.conf)

The namespace is a slave of the machine's: what is unmounted there does not stay busy here. Standard library only,
because it must start in a few milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from goldsmith.node.lxc import syscalls

PLACE = "/run/goldsmith/guest"
ROOT = f"{PLACE}/root"
CONF = f"{PLACE}/conf"


@dataclass(frozen=True)
class Mount:
    """A directory shown inside the guest's root at `target`; `options` are keys of `syscalls.MOUNT_ATTR`."""

    source: str
    target: str
    options: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Assembly:
    """What is put together. `owner` is the guest's root user, who owns directories made for mount points."""

    root: str
    mounts: list[Mount] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    conf: str = ""
    owner: int = 0

    def render(self) -> str:
        """Render the SPEC argument."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Assembly:
        """Parse the SPEC argument."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "mounts": [Mount(**mount) for mount in values["mounts"]]})


def open_target(root: int, target: str, owner: int) -> int:
    """Open the directory of a mount point inside a guest's root, making what is missing. No link leads outside."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    made = ""
    for part in [part for part in target.split("/") if part not in ("", ".")]:
        made += "/" + part
        try:
            step = syscalls.open_in_root(root, made, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=here)
            os.chown(part, owner, owner, dir_fd=here, follow_symlinks=False)
            step = syscalls.open_in_root(root, made, os.O_PATH | os.O_DIRECTORY)
        os.close(here)
        here = step
    return here


def _attach(source: int, target: int, options: list[str]) -> None:
    if options:
        syscalls.set_mount_attributes(source, options)
    syscalls.move_mount(source, target)


def _forget_inherited() -> None:
    """Let go of the guest's last run: after a reboot from inside we start in its namespace."""
    if os.path.ismount(PLACE):
        syscalls.unmount(PLACE)


def assemble(spec: Assembly) -> None:
    """Enter a new mount namespace and put the guest's file system together in it."""
    os.makedirs(PLACE, mode=0o755, exist_ok=True)  # noqa: PTH103 - pathlib costs start-up time here
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    trees = [(syscalls.open_tree(mount.source), mount) for mount in spec.mounts]
    root = syscalls.open_tree(spec.root)
    conf = syscalls.open_tree(spec.conf) if spec.conf else -1
    _forget_inherited()
    syscalls.mount("tmpfs", PLACE, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755,size=64k")
    for path, tree, options in ((ROOT, root, spec.options), (CONF, conf, ["ro"])):
        if tree >= 0:
            os.mkdir(path, 0o755)  # noqa: PTH102
            _attach(tree, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), options)
    inside = os.open(ROOT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for tree, mount in trees:
        _attach(tree, open_target(inside, mount.target, spec.owner), mount.options)


def main(arguments: list[str]) -> None:
    """Put everything together, then become the program."""
    spec, marker, *program = arguments
    assert marker == "--"
    assemble(Assembly.parse(spec))
    os.chdir(ROOT)
    os.execvp(program[0], program)  # noqa: S606 - this is what the program is for


if __name__ == "__main__":
    main(sys.argv[1:])
