"""From a version to a container template that any Proxmox takes: the layers' packed bytes and one end marker.

Layers hold no end marker, and zstd frames can be written one after another, so that no byte is unpacked or packed again
(tried on PVE 8.4: such a template is uploaded, created from and started).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from goldsmith.artifacts.copying import copy_layers
from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.repository import Repository, Version, check_has_files
from goldsmith.artifacts.store import BlobReader
from goldsmith.base.digest import Digest
from goldsmith.base.errors import VersionExists
from goldsmith.base.events import OnBytes
from goldsmith.base.files import sync_directory

END_MARKER = bytes.fromhex("28b52ffd6400034d00001000000100fb2b8005cdac85f0")
"""One zstd frame of 1,024 zero bytes, tar's end marker. Written out: another zstd might pack it otherwise, and the same
version would give another file."""
PIECE = 1 << 20
SUFFIX = ".tar.zst"


@dataclass(frozen=True)
class Template:
    """A template file that was written. `size` in bytes."""

    path: Path
    size: int


class TemplateStream:
    """A template's bytes, read piece by piece; each layer is compared with its digest when its end is reached."""

    def __init__(self, repository: Repository, version: Version, stack: ExitStack) -> None:
        self._repository, self._stack = repository, stack
        self._layers = iter(version.layers)
        self._blob: BlobReader | None = None
        self._end = END_MARKER
        self.size = measure_template(version)

    def read(self, size: int = PIECE, /) -> bytes:
        """Return up to `size` bytes (fewer at a layer's end), none at the end.

        :raises RepositoryDamaged: a layer is not what its digest promises.
        """
        size = self.size if size < 0 else size
        while True:
            if self._blob is not None and (data := self._blob.read(size)):
                return data
            layer = next(self._layers, None)
            if layer is None:
                data, self._end, self._blob = self._end[:size], self._end[size:], None
                return data
            self._blob = self._stack.enter_context(self._repository.open_blob(layer))


def measure_template(version: Version) -> int:
    """Return how many bytes a version is as a template."""
    return version.size + len(END_MARKER)


@contextmanager
def open_template(repository: Repository, version: Version) -> Iterator[TemplateStream]:
    """Read a version as a template while the block runs.

    :raises FilesElsewhere: nobody can; it is a backup on its node.
    """
    check_has_files(version)
    with ExitStack() as stack:
        yield TemplateStream(repository, version, stack)


def digest_template(repository: Repository, version: Version) -> Digest:
    """Return the digest of the file that a version is as a template.

    :raises RepositoryDamaged: a layer is not what its digest promises.
    """
    digest = hashlib.sha256()
    with open_template(repository, version) as stream, ThreadPoolExecutor(1) as pool:
        while piece := stream.read(PIECE):
            pool.submit(digest.update, piece)  # beside the next layer's reading, which is digested, too
    return Digest("sha256:" + digest.hexdigest())


def write_template(
    repository: Repository, version: Version, target: Path, *, on_bytes: OnBytes | None = None
) -> Template:
    """Write a version as a template file: complete or not there, never over another file.

    :raises VersionExists: there is a file of that name.
    :raises RepositoryDamaged: a layer is damaged; no file is left.
    :raises FilesElsewhere: nobody can read it; it is a backup on its node.
    """
    check_has_files(version)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with ExitStack() as stack:
        stack.callback(temporary.unlink, missing_ok=True)
        if isinstance(repository.store, Layout):
            copy_layers(repository.store, version.layers, END_MARKER, temporary, on_bytes)
        else:
            _write_stream(repository, version, temporary, on_bytes)
        try:
            target.hardlink_to(temporary)
        except FileExistsError as error:
            raise VersionExists(f"{target} exists already; templates are never overwritten") from error
        sync_directory(target.parent)
        return Template(target, measure_template(version))


def _write_stream(repository: Repository, version: Version, target: Path, on_bytes: OnBytes | None) -> None:
    with open_template(repository, version) as stream, target.open("xb") as file:
        while piece := stream.read(PIECE):
            file.write(piece)
            if on_bytes is not None:
                on_bytes(file.tell())
        file.flush()
        os.fsync(file.fileno())


def choose_template_path(directory: Path, name: str, day: str) -> Path:
    """Return the first free of NAME-DAY.tar.zst, NAME-DAY.2.tar.zst, ...; `write_template` refuses a taken one."""
    number = 1
    while (path := directory / f"{name}-{day}{'' if number == 1 else f'.{number}'}{SUFFIX}").exists():
        number += 1
    return path
