"""A multipart/form-data body that is never in memory as a whole: an upload of gigabytes streams through one buffer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from goldsmith.base.errors import PveError

PIECE = 1 << 20
Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class MultipartBody:
    """The body of one upload: small fields first, in the given order, then one file part called `filename`.

    Iterated once by the HTTP client. Field order is a rule of the node (PVE 8.4): `content` and `checksum-algorithm`
    before `checksum`, all of them before the file.
    """

    def __init__(
        self, fields: Mapping[str, str], filename: str, source: BinaryIO, size: int, progress: Progress | None = None
    ) -> None:
        self.boundary = f"goldsmith-{secrets.token_hex(16)}"
        self._source, self._size, self._progress = source, size, progress
        head = [self._part(f'name="{name}"') + value.encode() + b"\r\n" for name, value in fields.items()]
        quoted = filename.replace("\\", "\\\\").replace('"', '\\"')
        file_part = self._part(f'name="filename"; filename="{quoted}"', "Content-Type: application/octet-stream\r\n")
        self._head = b"".join(head) + file_part
        self._tail = f"\r\n--{self.boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """The header's value."""
        return f"multipart/form-data; boundary={self.boundary}"

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        done = 0
        while piece := self._source.read(min(PIECE, self._size - done)):
            yield piece
            done += len(piece)
            if self._progress is not None:
                self._progress(done, self._size)
        if done != self._size:
            raise PveError(f"the upload's source ended after {done} of {self._size} bytes")
        yield self._tail

    def _part(self, disposition: str, more: str = "") -> bytes:
        return f"--{self.boundary}\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n".encode()
