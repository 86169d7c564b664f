"""Files that are mounted as file systems, each through one loop device at a time: a second one would damage it."""

from __future__ import annotations

from pathlib import Path

from goldsmith.base.errors import ProgramFailed
from goldsmith.base.process import run


def find_device(path: Path) -> str:
    """Return the loop device that a file is attached to; nothing when it has none."""
    found = run(["losetup", "--noheadings", "--output", "NAME", "--associated", path]).stdout.split()
    return found[0] if found else ""


def mount_file(path: Path, place: Path, *, kind: str, options: str, shared: str = "") -> None:
    """Mount a file's file system; by the device that guests who still run hold, where there is one.

    :param options: mount(8)'s, for the file system.
    :param shared: those it needs more on a device that is held.
    :raises ProgramFailed: it cannot be mounted.
    """
    mount = ["mount", "-t", kind, "-o"]
    device = find_device(path)
    if device:
        try:
            run([*mount, f"{options}{shared and ','}{shared}", device, place])
            return
        except ProgramFailed:
            # Linux lets the device of an unmounted file go when nobody looks at it any more: it may be only now.
            if find_device(path) == device:
                raise
    run([*mount, f"{options},loop", path, place])
