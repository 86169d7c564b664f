"""From a version to a container template that any Proxmox takes: the layers' packed bytes and one end marker.

Layers hold no end marker, and zstd frames can be written one after another, so that no byte is unpacked or packed again
(tried on PVE 8.4: such a template is uploaded, created from and started).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.store import BlobReader
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryDamaged, VersionExists
from goldsmith.base.files import sync_directory

END_MARKER = bytes.fromhex("28b52ffd6400034d00001000000100fb2b8005cdac85f0")
"""One zstd frame of 1,024 zero bytes, tar's end marker. Written out: another zstd might pack it otherwise, and the same
version would give another file."""
PIECE = 1 << 20
SUFFIX = ".tar.zst"


@dataclass(frozen=True)
class Template:
    """A template file that was written."""

    path: Path
    digest: Digest
    size: int


class TemplateStream:
    """A template's bytes, read piece by piece; each layer is compared with its digest when its end is reached."""

    def __init__(self, repository: Repository, version: Version, stack: ExitStack) -> None:
        self._repository, self._stack = repository, stack
        self._layers = iter(version.layers)
        self._blob: BlobReader | None = None
        self._end = END_MARKER
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1)
        stack.callback(self._pool.shutdown)
        self._done = 0
        self.size = version.size + len(END_MARKER)

    def read(self, size: int = PIECE, /) -> bytes:
        """Return up to `size` bytes (fewer at a layer's end), none at the end.

        :raises RepositoryDamaged: a layer is not what its digest promises.
        """
        data = self._read(self.size if size < 0 else size)
        self._add_to_hash(data)
        self._done += len(data)
        return data

    def _add_to_hash(self, data: bytes) -> None:
        """Hash large pieces beside what the caller does with them; each layer is hashed here already."""
        self._wait_for_hash()
        if len(data) < PIECE >> 4:
            self._hash.update(data)
        else:
            self._hashing = self._pool.submit(self._hash.update, data)

    def _wait_for_hash(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    @property
    def digest(self) -> Digest:
        """Digest of the whole; known once it has been read."""
        if self._done != self.size:
            raise RepositoryDamaged(f"only {self._done} of {self.size} bytes of the template were read")
        self._wait_for_hash()
        return Digest("sha256:" + self._hash.hexdigest())

    def _read(self, size: int) -> bytes:
        while True:
            if self._blob is not None and (data := self._blob.read(size)):
                return data
            layer = next(self._layers, None)
            if layer is None:
                data, self._end, self._blob = self._end[:size], self._end[size:], None
                return data
            self._blob = self._stack.enter_context(self._repository.open_blob(layer))


@contextmanager
def open_template(repository: Repository, version: Version) -> Iterator[TemplateStream]:
    """Read a version as a template while the block runs."""
    with ExitStack() as stack:
        yield TemplateStream(repository, version, stack)


def write_template(
    repository: Repository, version: Version, target: Path, *, on_bytes: Callable[[int], None] | None = None
) -> Template:
    """Write a version as a template file: complete or not there, never over another file.

    :raises VersionExists: there is a file of that name.
    :raises RepositoryDamaged: a layer is damaged; no file is left.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with ExitStack() as stack:
        stream = stack.enter_context(open_template(repository, version))
        file = stack.enter_context(temporary.open("xb"))
        stack.callback(temporary.unlink)
        while piece := stream.read(PIECE):
            file.write(piece)
            if on_bytes is not None:
                on_bytes(file.tell())
        file.flush()
        os.fsync(file.fileno())
        try:
            target.hardlink_to(temporary)
        except FileExistsError as error:
            raise VersionExists(f"{target} exists already; templates are never overwritten") from error
        sync_directory(target.parent)
        return Template(target, stream.digest, stream.size)


def choose_template_path(directory: Path, name: str, day: str) -> Path:
    """Return the first free of NAME-DAY.tar.zst, NAME-DAY.2.tar.zst, ...; `write_template` refuses a taken one."""
    number = 1
    while (path := directory / f"{name}-{day}{'' if number == 1 else f'.{number}'}{SUFFIX}").exists():
        number += 1
    return path
