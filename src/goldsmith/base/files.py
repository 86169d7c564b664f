"""Files that are whole or not there: atomic writes, locks that die with their process, a digest of a tree."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from goldsmith.base.digest import Digest, JsonValue, digest_file, digest_json
from goldsmith.base.errors import LockTaken


def sync_directory(directory: Path) -> None:
    """Make a rename or creation inside a directory survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Replace a file by new content in one step: readers see the old or the new, a crash leaves one of them.

    The temporary file is made beside the target, with `mode` from the start (a secret is never readable in between).
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _try_flock(fd: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


@contextmanager
def open_lock(path: Path, *, timeout: float = 0.0, shared: bool = False, what: str = "") -> Iterator[None]:
    """Hold a lock while the block runs. The kernel drops it when the process ends, however it ends.

    :param timeout: seconds to wait for another holder; 0 fails at once.
    :param what: names the locked thing in the error.
    :raises LockTaken: another process kept it for the whole time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + timeout
        while not _try_flock(fd, shared=shared):
            if time.monotonic() >= deadline:
                raise LockTaken(
                    f"{what or path} is in use by another process",
                    hint="wait until it has finished, then run the command again",
                )
            time.sleep(0.02)
        yield
    finally:
        unlock(fd)


def unlock(fd: int) -> None:
    """Give up the lock on an open file, and close it.

    Closing would do only when nobody else has the file open: a program that another thread is just starting has it
    until it is that program (flock(2), execve(2)).
    """
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def has_lock_holder(path: Path) -> bool:
    """Tell whether some living process holds the lock; a missing lock file has no holder."""
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return not _try_flock(fd, shared=False)
        finally:
            unlock(fd)
    return False


def describe_entry(path: Path) -> JsonValue:
    """Everything about an entry that can change what a playbook does with it: kind, permission bits, content."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return ["link", str(path.readlink())]
    if stat.S_ISDIR(status.st_mode):
        return ["directory", stat.S_IMODE(status.st_mode)]
    if stat.S_ISREG(status.st_mode):
        return ["file", stat.S_IMODE(status.st_mode), digest_file(path)]
    return ["special", status.st_mode, status.st_rdev]


def digest_tree(root: Path, *, ignore: frozenset[str] = frozenset({".git", "__pycache__"})) -> Digest:
    """Return a digest of a file or folder: names, kinds, permission bits and contents, never times or owners."""
    entries: dict[str, JsonValue] = {"": describe_entry(root)}
    if root.is_dir():
        for directory, folders, files in os.walk(root):
            folders[:] = sorted(folder for folder in folders if folder not in ignore)
            for name in [*folders, *files]:
                path = Path(directory, name)
                if name not in ignore:
                    entries[str(path.relative_to(root))] = describe_entry(path)
    return digest_json(entries)
