"""Blobs out of a directory one after another into one file, as fast as the kernel copies; compared there afterwards.

What is compared with the digests is what was written, read back from the page cache: all processors do so while the
file is on its way to the disk. So the bytes pass through this program once, and nobody waits for their digests last.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import FileIO
from pathlib import Path

from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.store import BlobReader, explain_damage
from goldsmith.base.events import OnBytes

PIECE = 1 << 20
COPIED = 8 << 20
"""Bytes that the kernel copies between two words on progress."""
_CANNOT = (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What copy_file_range(2) says where two file systems do not go together."""


def copy_layers(
    store: Layout, layers: Sequence[Descriptor], end: bytes, target: Path, on_bytes: OnBytes | None = None
) -> None:
    """Write layers, and an end, into a new file; it is on the disk when this returns.

    :param on_bytes: told of the bytes that are copied.
    :raises RepositoryDamaged: a layer is missing, or not what its digest promises; a torn file is left.
    """
    with ExitStack() as stack:
        stack.enter_context(store.open_reading())
        file = stack.enter_context(target.open("x+b", buffering=0))
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        stack.callback(pool.shutdown, cancel_futures=True)
        starts: list[int] = []
        for layer in layers:
            starts.append(file.tell())
            _copy(store, layer, file, on_bytes)
        file.write(end)
        checks = [pool.submit(_check, file, start, layer) for start, layer in zip(starts, layers, strict=True)]
        os.fsync(file.fileno())
        for check in checks:
            check.result()


def _copy(store: Layout, blob: Descriptor, target: FileIO, on_bytes: OnBytes | None) -> None:
    with store.open_file(blob) as source:
        left = os.fstat(source.fileno()).st_size
        if left != blob.size:
            raise explain_damage(blob, f"it holds {left} bytes, not {blob.size}")
        while left and (done := _copy_piece(source.fileno(), target.fileno(), min(COPIED, left))):
            left -= done
            if on_bytes is not None:
                on_bytes(target.tell())
        if left:
            raise explain_damage(blob, f"{left} bytes of it have just been cut off")


def _copy_piece(source: int, target: int, size: int) -> int:
    try:
        return os.copy_file_range(source, target, size)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    return os.sendfile(target, source, None, size)


class _Range:
    """Bytes of a file from an offset on, read by a thread among others."""

    def __init__(self, file: FileIO, start: int, size: int) -> None:
        self._file, self._at, self._end = file, start, start + size

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        data = os.pread(self._file.fileno(), min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


def _check(file: FileIO, start: int, blob: Descriptor) -> None:
    reader = BlobReader(_Range(file, start, blob.size), blob)
    while reader.read(PIECE):
        pass
