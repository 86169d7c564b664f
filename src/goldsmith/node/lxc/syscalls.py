"""Linux calls that Python's `os` lacks: paths resolved inside a root, mounts as file descriptors, namespaces.

Standard library only: `assemble` runs with nothing else. The numbers of calls above 424 are the same on every
architecture that Debian has (linux/arch/*/kernel/syscalls/syscall.tbl; alpha excepted). Errors are `OSError`.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long

_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442

AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
MOUNT_ATTR = {"ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x10}
"""Mount attributes by the names that mount(8) and Proxmox's `mountoptions` use."""
MOUNT_ATTR_ATIME = 0x70
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE, MS_NOSUID, MS_NODEV = 0x1000, 0x4000, 1 << 19, 0x2, 0x4


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _call(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def open_in_root(root: int, path: str, flags: int, mode: int = 0, *, resolve: int = 0) -> int:
    """Open a path as a process whose root is the directory `root` would: no link in it leads outside.

    Source: openat2(2), RESOLVE_IN_ROOT, Linux 5.6. Links of /proc that are more than text are refused.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)
    encoded = os.fsencode(path) or b"."
    size = ctypes.sizeof(how)
    return _call(path, _LIBC.syscall(_OPENAT2, root, encoded, ctypes.byref(how), size))


def open_tree(path: str | Path) -> int:
    """Return a detached copy of a mount (with what is mounted below), to be attached by `move_mount`. Linux 5.2."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    return _call(str(path), _LIBC.syscall(_OPEN_TREE, -100, os.fsencode(path), flags))


def move_mount(tree: int, target: int) -> None:
    """Attach a detached mount on an opened directory, in the mount namespace that we are in. Linux 5.2."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _call("move_mount", _LIBC.syscall(_MOVE_MOUNT, tree, b"", target, b"", flags))


def set_mount_attributes(tree: int, names: list[str]) -> None:
    """Make an opened mount read-only, nosuid, ... (keys of `MOUNT_ATTR`). Linux 5.12."""
    value = sum(MOUNT_ATTR[name] for name in names)
    clear = MOUNT_ATTR_ATIME if "noatime" in names else 0
    attr = _MountAttr(value, clear, 0, 0)
    size = ctypes.sizeof(attr)
    result = _LIBC.syscall(_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, ctypes.byref(attr), size)
    _call("mount_setattr", result)


def mount(source: str, target: str | Path, kind: str, flags: int, data: str = "") -> None:
    """Attach a file system, or change a mount (the classic call)."""
    arguments = (source.encode(), os.fsencode(target), kind.encode(), flags, data.encode())
    _call(str(target), _LIBC.mount(*arguments))


def unmount(target: str | Path) -> None:
    """Take a mount, and all below it, out of this namespace at once; umount2(2), MNT_DETACH."""
    _call(str(target), _LIBC.umount2(os.fsencode(target), 2))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones of our own."""
    _call("unshare", _LIBC.unshare(flags))


def enter_namespace(fd: int, kind: int) -> None:
    """Enter another process's namespace: setns(2)."""
    _call("setns", _LIBC.setns(fd, kind))
