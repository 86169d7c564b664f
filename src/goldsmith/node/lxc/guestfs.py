"""Files inside a guest's root, as the guest's own root user would see them. A link in the guest never leads outside.

Every path is resolved by the kernel below the root (openat2, RESOLVE_IN_ROOT), so a template that holds
`/etc -> /../../etc` or a planted `/etc/hostname -> /etc/shadow` changes nothing but itself. Reads are bounded, and
only ordinary files are read: a guest may put a FIFO or an endless file where we look.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from goldsmith.node.lxc import syscalls
from goldsmith.node.lxc.idmap import IdMap

READ_LIMIT = 4 << 20


class GuestRoot:
    """A guest's root directory, opened. Paths are absolute and the guest's; new files belong to the guest's root."""

    def __init__(self, root: Path | str, idmap: IdMap) -> None:
        self._fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._idmap = idmap

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    @contextmanager
    def _open(self, path: str, flags: int) -> Iterator[int]:
        fd = syscalls.open_in_root(self._fd, path, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _open_folder(self, path: str) -> Iterator[tuple[int, str]]:
        folder, _, name = path.rpartition("/")
        with self._open(folder or "/", os.O_PATH | os.O_DIRECTORY) as fd:
            yield fd, name

    def _status(self, path: str) -> os.stat_result | None:
        with suppress(OSError), self._open(path, os.O_PATH) as fd:
            return os.fstat(fd)
        return None

    def has(self, path: str) -> bool:
        """Tell whether there is something, links followed."""
        return self._status(path) is not None

    def has_folder(self, path: str) -> bool:
        """Tell whether there is a directory, links followed."""
        status = self._status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def has_file(self, path: str) -> bool:
        """Tell whether there is an ordinary file, links followed."""
        status = self._status(path)
        return status is not None and stat.S_ISREG(status.st_mode)

    def has_link(self, path: str) -> bool:
        """Tell whether there is a symbolic link, wherever it leads."""
        with suppress(OSError), self._open_folder(path) as (folder, name):
            return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        return False

    def read_bytes(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """Return the first `limit` bytes of an ordinary file; nothing when there is none."""
        if not self.has_file(path):
            return b""
        with suppress(OSError), self._open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as fd:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return _read(fd, limit)
        return b""

    def read(self, path: str) -> str:
        """Return the text of an ordinary file; nothing when there is none."""
        return self.read_bytes(path).decode(errors="surrogateescape")

    def list_names(self, path: str) -> list[str]:
        """Return the names in a directory; none when there is none."""
        with suppress(OSError), self._open(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            return sorted(os.listdir(fd))  # noqa: PTH208 - Path cannot list an open directory
        return []

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> None:
        """Write a file, its folders too where missing.

        A link to an existing file is followed (inside the root), any other is replaced. Old owner and mode stay.
        """
        data = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
        path = self._settle(path)
        self.make_folder(path.rpartition("/")[0])
        with self._open_folder(path) as (folder, name):
            owner = self._idmap.owner
            with suppress(FileNotFoundError):
                old = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(old.st_mode):
                    mode, owner = stat.S_IMODE(old.st_mode), (old.st_uid, old.st_gid)
            temporary = f".{name}.goldsmith"
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            _create(folder, temporary, data, mode, owner)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _settle(self, path: str) -> str:
        """Follow a link at the end of a path to the existing file that it names, if there is one."""
        for _ in range(8):
            if not (self.has_link(path) and self.has_file(path)):
                return path
            with self._open_folder(path) as (folder, name):
                target = os.readlink(name, dir_fd=folder)
            path = target if target.startswith("/") else os.path.normpath(f"{path.rpartition('/')[0]}/{target}")
        return path

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those above it, where missing."""
        if not path.strip("/") or self.has_folder(path):
            return
        self.make_folder(path.rpartition("/")[0])
        with self._open_folder(path) as (folder, name):
            os.mkdir(name, mode, dir_fd=folder)
            os.chown(name, *self._idmap.owner, dir_fd=folder, follow_symlinks=False)

    def link(self, path: str, target: str) -> None:
        """Make or replace a symbolic link."""
        self.make_folder(path.rpartition("/")[0])
        self.remove(path)
        with self._open_folder(path) as (folder, name):
            os.symlink(target, name, dir_fd=folder)
            os.chown(name, *self._idmap.owner, dir_fd=folder, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a file or link; a directory, or nothing, is left as it is."""
        try:
            with self._open_folder(path) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EPERM, errno.ELOOP):
                raise


def _create(folder: int, name: str, data: bytes, mode: int, owner: tuple[int, int]) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        os.fchown(fd, *owner)
        os.fchmod(fd, mode)


def _read(fd: int, limit: int) -> bytes:
    pieces = []
    while limit > 0 and (piece := os.read(fd, min(limit, 1 << 20))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)
