"""Directories and files for our user alone: they may hold secrets. Both are gone, or closed, after the block."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from goldsmith.base.files import has_lock_holder, open_lock

LOCK = "lock"


@contextmanager
def open_private_directory(prefix: str, *, before_removal: Callable[[Path], object] = lambda _: None) -> Iterator[Path]:
    """Make a directory in TMPDIR (mode 0700); it is gone after the block.

    Directories of the same prefix whose process was killed go too: they hold a lock that no living process has.

    :param before_removal: called with each of those first: what else is to go with it.
    """
    _remove_deserted(prefix, before_removal)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
        stack.enter_context(open_lock(root / "lock.new"))
        (root / "lock.new").rename(root / LOCK)  # so that it is held whenever it is seen
        yield root


def _remove_deserted(prefix: str, before_removal: Callable[[Path], object]) -> None:
    for root in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # just going
            if _is_ours(root) and (root / LOCK).is_file() and not has_lock_holder(root / LOCK):
                before_removal(root)
                shutil.rmtree(root, ignore_errors=True)


def _is_ours(root: Path) -> bool:
    """Tell whether a directory was made by us: in /tmp anybody may make one of that name, or a link."""
    status = root.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700


def write_private(path: Path, text: str) -> Path:
    """Write a file that only we can read (mode 0600 from the start), in place of one that is there already."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


@contextmanager
def open_private_log(log: Path) -> Iterator[IO[str]]:
    """Open a log for us alone; each line is there at once, for whoever watches it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)  # it may have been there with another mode
    with os.fdopen(fd, "w", encoding="utf-8", errors="replace", buffering=1) as file:
        yield file
