"""Btrfs from the kernel itself: subvolumes, snapshots, quota groups. No program is started.

Structures and numbers: Linux uapi, linux/btrfs.h and linux/btrfs_tree.h. All need root. Errors are `OSError`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_LIBC = ctypes.CDLL(None, use_errno=True)
_HERE = -100
_EXCHANGE = 2
_MAGIC = 0x94
_WRITE, _READ = 1, 2
_NAME_LIMIT = 255
_READ_ONLY = 1 << 1
_QUOTA_ENABLE, _QUOTA_ENABLE_SIMPLE = 1, 4
_QUOTA_TREE = 8
_INFO_ITEM, _LIMIT_ITEM = 242, 244
_LIMIT_REFERENCED, _NOTE_BASE, _NOTE_SIZE = 1 << 0, 1 << 2, 1 << 3
"""Of a quota group's limits the kernel keeps two that it never looks at (BTRFS_QGROUP_LIMIT_RSV_RFER, _RSV_EXCL): there
we note what a subvolume began with, and the size that was asked for."""
_LEAST_LIMIT = 1 << 20
"""Bytes that a subvolume may write whose size is less than what it began with: its guest at least starts."""
SUBVOLUME_INODE = 256
"""The inode number of every subvolume's top directory, and of nothing else (BTRFS_FIRST_FREE_OBJECTID)."""


def _number(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | _MAGIC << 8 | number


_SUBVOL_CREATE = _number(_WRITE, 14, 4096)
_SNAP_DESTROY = _number(_WRITE, 15, 4096)
_TREE_SEARCH = _number(_WRITE | _READ, 17, 4096)
_INO_LOOKUP = _number(_WRITE | _READ, 18, 4096)
_SNAP_CREATE = _number(_WRITE, 23, 4096)
_GET_FLAGS = _number(_READ, 25, 8)
_SET_FLAGS = _number(_WRITE, 26, 8)
_FS_INFO = _number(_READ, 31, 1024)
_QUOTA_CTL = _number(_WRITE | _READ, 40, 16)
_QGROUP_REMOVE = _number(_WRITE, 42, 16)
_QGROUP_LIMIT = _number(_READ, 43, 48)
_QUOTA_RESCAN = _number(_WRITE, 44, 64)
_QUOTA_RESCAN_WAIT = _number(0, 46, 0)


def _call(fd: int, number: int, argument: bytes) -> None:
    """Make a call with an argument that is only read. Python passes at most 1,024 bytes that it may not change."""
    fcntl.ioctl(fd, number, bytearray(argument), True)


@contextmanager
def _open_directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _encode_name(path: Path) -> bytes:
    name = os.fsencode(path.name)
    if not 0 < len(name) <= _NAME_LIMIT:
        raise ValueError(f"no name for a subvolume: {path.name!r}")
    return name


def create_subvolume(path: Path) -> None:
    """Make an empty subvolume."""
    with _open_directory(path.parent) as parent:
        _call(parent, _SUBVOL_CREATE, struct.pack("=q4088s", 0, _encode_name(path)))


def create_snapshot(source: Path, path: Path, *, read_only: bool = False) -> None:
    """Make a copy on write of a subvolume. Its present content is written out first, so it survives a power cut.

    Where only a subvolume's own writes are counted, what it begins with is noted down, to be counted with them.
    """
    with _open_directory(source) as origin, _open_directory(path.parent) as parent:
        flags = _READ_ONLY if read_only else 0
        _call(parent, _SNAP_CREATE, struct.pack("=qQQ32x4040s", origin, 0, flags, _encode_name(path)))
        if _counts_simply(_quota_state(parent)):
            _set_limit(path, size=0, base=get_quota(source).referenced)


def destroy_subvolume(path: Path) -> None:
    """Delete a subvolume and its quota group; the kernel gives the space back in the background.

    :raises OSError: ENOTEMPTY, when another subvolume is below it.
    """
    identifier = get_subvolume_id(path)
    with _open_directory(path.parent) as parent:
        _call(parent, _SNAP_DESTROY, struct.pack("=q4088s", 0, _encode_name(path)))
        with suppress(OSError):  # recent kernels refuse, and do it themselves once the subvolume is taken down
            _call(parent, _QGROUP_REMOVE, struct.pack("=QQ", 0, identifier))


def is_subvolume(path: Path) -> bool:
    """Tell whether a directory is the top of a subvolume."""
    return path.is_dir() and path.lstat().st_ino == SUBVOLUME_INODE


def is_read_only(path: Path) -> bool:
    """Tell whether a subvolume is read-only."""
    with _open_directory(path) as fd:
        flags = bytearray(8)
        fcntl.ioctl(fd, _GET_FLAGS, flags, True)
    return bool(struct.unpack("=Q", flags)[0] & _READ_ONLY)


def set_read_only(path: Path, *, read_only: bool) -> None:
    """Make a subvolume read-only or writable."""
    with _open_directory(path) as fd:
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=Q", _READ_ONLY if read_only else 0))


def get_subvolume_id(path: Path) -> int:
    """Return the number of a subvolume, which is also its quota group's."""
    with _open_directory(path) as fd:
        lookup = bytearray(struct.pack("=QQ4080x", 0, SUBVOLUME_INODE))
        fcntl.ioctl(fd, _INO_LOOKUP, lookup, True)
    return int(struct.unpack_from("=Q", lookup)[0])


def write_out(path: Path) -> None:
    """Write everything of the file system that a directory is on to its disk: syncfs(2)."""
    with _open_directory(path) as fd:
        if _LIBC.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))


def ensure_quota(path: Path, *, simple: bool = True) -> None:
    """Switch quota groups on for a file system, and have them counted anew where the kernel has lost count. Idempotent.

    Simple ones where the kernel has them (Linux 6.7): only what a subvolume itself has written is counted, and no block
    is ever traced to all that share it. Else, and where they are on already, the kernel gives up counting when a
    subvolume is removed while numbers are not what they should be; limits do not hold any more then. Switching on what
    is on already starts such a count, so it must not be done.
    """
    with _open_directory(path) as fd:
        state = _quota_state(fd)
        if not (state / "enabled").exists():
            _enable_quota(fd, simple=simple)
        elif has_lost_count(state):
            with suppress(OSError):  # one is going on already
                _call(fd, _QUOTA_RESCAN, bytes(64))
            fcntl.ioctl(fd, _QUOTA_RESCAN_WAIT)


def _enable_quota(fd: int, *, simple: bool) -> None:
    for command in (_QUOTA_ENABLE_SIMPLE, _QUOTA_ENABLE) if simple else (_QUOTA_ENABLE,):
        try:
            fcntl.ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", command, 0)), True)
        except OSError as error:
            if command == _QUOTA_ENABLE or error.errno != errno.EINVAL:
                raise
        else:
            return


def _counts_simply(state: Path) -> bool:
    """Tell whether a subvolume's group counts its own writes alone, not what it shares (Linux 6.7)."""
    with suppress(FileNotFoundError):
        return (state / "mode").read_text().strip() == "squota"
    return False


def _quota_state(fd: int) -> Path:
    """Return the directory where the kernel tells about a file system's quota groups (Linux 5.9)."""
    info = bytearray(1024)
    fcntl.ioctl(fd, _FS_INFO, info, True)
    return Path("/sys/fs/btrfs", str(UUID(bytes=bytes(info[16:32]))), "qgroups")


def has_lost_count(state: Path) -> bool:
    """Tell whether the kernel has given up counting; see `ensure_quota`."""
    with suppress(FileNotFoundError):
        return (state / "inconsistent").read_text().strip() == "1"
    return False


def limit_subvolume(path: Path, size: int) -> None:
    """Set how many bytes a subvolume may refer to; 0 takes the limit away. More is EDQUOT for whoever writes."""
    _set_limit(path, size=size, base=get_quota(path).base)


def _set_limit(path: Path, *, size: int, base: int) -> None:
    unlimited = (1 << 64) - 1  # the kernel's own sign for "clear" (CLEAR_VALUE)
    own = max(size - base, _LEAST_LIMIT) if size else unlimited
    flags = _LIMIT_REFERENCED | _NOTE_BASE | _NOTE_SIZE
    limit = struct.pack("=QQQQQQ", get_subvolume_id(path), flags, own, 0, base, size)
    with _open_directory(path.parent) as parent:  # a full subvolume has no room for a change, not even of its limit
        fcntl.ioctl(parent, _QGROUP_LIMIT, limit)


@dataclass(frozen=True)
class Quota:
    """A subvolume's quota group in bytes: what it refers to, and its limit (0: none).

    Where only its own writes are counted, `base` is what it began with, and `referenced` is at most too much: what it
    has replaced or deleted of that is still in it.
    """

    referenced: int
    limit: int
    base: int = 0


def get_quota(path: Path) -> Quota:
    """Return a subvolume's use and limit as of the last commit (every 30 s, and at each snapshot)."""
    identifier = get_subvolume_id(path)
    with _open_directory(path) as fd:
        info = _find_item(fd, _INFO_ITEM, identifier)
        limit = _find_item(fd, _LIMIT_ITEM, identifier)
    referenced = struct.unpack_from("<QQ", info)[1] if info else 0
    flags, maximum, _, base, size = struct.unpack_from("<QQQQQ", limit) if limit else (0, 0, 0, 0, 0)
    base = base if flags & _NOTE_BASE else 0
    if not flags & _NOTE_SIZE:
        size = maximum if flags & _LIMIT_REFERENCED else 0
    return Quota(base + referenced, size, base)


def _find_item(fd: int, kind: int, offset: int) -> bytes:
    """Return the item (0, kind, offset) of the quota tree; empty when there is none."""
    key = struct.pack("=7Q4I4Q", _QUOTA_TREE, 0, 0, offset, offset, 0, (1 << 64) - 1, kind, kind, 1, 0, 0, 0, 0, 0)
    found = bytearray(key.ljust(4096, b"\0"))
    fcntl.ioctl(fd, _TREE_SEARCH, found, True)
    if struct.unpack_from("=I", found, 64)[0] == 0:
        return b""
    size = struct.unpack_from("=QQQII", found, len(key))[4]
    begin = len(key) + 32
    return bytes(found[begin : begin + size])


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step: renameat2(2), RENAME_EXCHANGE."""
    if _LIBC.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
