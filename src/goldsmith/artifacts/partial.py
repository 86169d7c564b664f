"""Blobs from far away, fetched into files that outlive whoever fetches: a broken transfer goes on where it was.

    partial/<hex>         what has come so far; complete ones stay here until the version is named
    partial/<hex>.lock    held by whoever fetches it

What came in an earlier attempt is read again and compared with the digest like everything else; when that does not
fit, the blob is fetched anew. Files that nobody has gone on with for a week are removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from goldsmith.artifacts.compression import Readable
from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.store import BlobReader, BlobSource
from goldsmith.base.errors import LockTaken, RepositoryDamaged
from goldsmith.base.events import OnBytes
from goldsmith.base.files import open_lock

PIECE = 1 << 20
KEPT = 7 * 24 * 3600.0
"""Seconds for which a part of a blob is kept that nobody goes on with."""
LOCK = ".lock"


class _Joined:
    """What has come already, then the rest; the rest is asked for when it is needed."""

    def __init__(self, file: Readable, size: int, open_rest: Callable[[], Readable]) -> None:
        self._file, self._left = file, size
        self._open_rest = open_rest
        self._rest: Readable | None = None

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, all of them old or all of them new."""
        if self._left:
            data = self._file.read(min(size, self._left))
            self._left -= len(data)
            return data
        if self._rest is None:
            self._rest = self._open_rest()
        return self._rest.read(size)


def fetch(path: Path, blob: Descriptor, source: BlobSource, on_bytes: OnBytes) -> None:
    """Fetch a blob, or the rest of it; whole, compared with its digest, and on the disk when this returns.

    :raises RepositoryDamaged: the source is not what its digest promises; nothing is left of it.
    """
    there = path.stat().st_size if path.exists() else 0
    try:
        if there:
            with suppress(RepositoryDamaged):
                _go_on(path, there, blob, source, on_bytes)
                return
            path.unlink()
        _go_on(path, 0, blob, source, on_bytes)
    except RepositoryDamaged:
        path.unlink(missing_ok=True)
        raise


def _go_on(path: Path, start: int, blob: Descriptor, source: BlobSource, on_bytes: OnBytes) -> None:
    assert source.open_rest is not None
    open_rest = source.open_rest
    with ExitStack() as stack:
        file = stack.enter_context(path.open("ab"))
        old = stack.enter_context(path.open("rb"))
        reader = BlobReader(_Joined(old, start, lambda: stack.enter_context(open_rest(start))), blob)
        done = 0
        while piece := reader.read(PIECE):
            done += len(piece)
            if done > start:
                file.write(piece)
            on_bytes(done)
        file.flush()
        os.fsync(file.fileno())


def lock(path: Path, stack: ExitStack) -> bool:
    """Take a blob for ourselves until the stack is closed; tells whether nobody else fetches it."""
    path.parent.mkdir(exist_ok=True)
    try:
        stack.enter_context(open_lock(path.with_name(path.name + LOCK)))
    except LockTaken:
        return False
    return True


def remove_old(folder: Path) -> None:
    """Remove what nobody has gone on with for a week."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        with suppress(FileNotFoundError, LockTaken):
            if path.stat().st_mtime < time.time() - KEPT:
                with open_lock(path if path.name.endswith(LOCK) else path.with_name(path.name + LOCK)):
                    path.unlink()
