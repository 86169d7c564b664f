"""From a container archive, as vzdump writes it, to one layer: normalised, packed as one zstd frame, digests known.

A layer has no end marker (OCI asks for none), so that a template is layers one after another and one end marker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from goldsmith.artifacts.compression import LEVEL, PIECE, Packer, Readable, open_archive
from goldsmith.artifacts.tarheaders import BLOCK, WITHOUT_DATA, HeaderReader, TarEntry, damaged, render_header
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryError

DUMP_TRACES = ("etc/vzdump",)
"""The build guest's configuration. Proxmox drops it when it restores a backup, not when it makes a container of a
template (PVE 8.4), so that every guest would carry the build guest's address around."""
MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
READ_SIZE = 4 << 20

OnBytes = Callable[[int], None]
"""Called with the number of bytes read so far, unpacked."""


@dataclass(frozen=True)
class Layer:
    """A layer: `digest` and `size` of the blob, `diff_id` and `plain_size` of what it unpacks to, its `entries`."""

    digest: Digest
    size: int
    diff_id: Digest
    plain_size: int
    entries: int


class _Source:
    """The archive in large pieces, of which headers are cut and data is passed on uncopied."""

    def __init__(self, stream: Readable, on_bytes: OnBytes | None) -> None:
        self._stream, self._on_bytes = stream, on_bytes
        self._buffer = b""
        self._position = 0
        self._done = 0

    def take(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        end = self._position + size
        if end <= len(self._buffer):
            data = self._buffer[self._position : end]
            self._position = end
            return data
        parts = [self._buffer[self._position :]]
        missing = size - len(parts[0])
        self._position = len(self._buffer)
        while missing:
            self._fill()
            part = self._buffer[:missing]
            self._position = len(part)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def pass_on(self, size: int, put: Callable[[memoryview], None]) -> None:
        """Hand over exactly `size` bytes in as few pieces as there are."""
        while size:
            if self._position == len(self._buffer):
                self._fill()
            end = min(self._position + size, len(self._buffer))
            put(memoryview(self._buffer)[self._position : end])
            size -= end - self._position
            self._position = end

    def drain(self) -> None:
        """Read to the end, so that whoever writes the archive can end well."""
        self._position, self._buffer = 0, b""
        while self._stream.read(READ_SIZE):
            pass

    def _fill(self) -> None:
        data = self._stream.read(READ_SIZE)
        if not data:
            raise damaged(f"it ends after {self._done} bytes, in the middle")
        self._buffer, self._position = data, 0
        self._done += len(data)
        if self._on_bytes is not None:
            self._on_bytes(self._done)


class _Gatherer:
    """Gathers small pieces into large ones for the packer."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def put(self, piece: bytes | memoryview) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= PIECE:
            self.flush()

    def flush(self) -> None:
        """Hand over what has been gathered."""
        if self._pieces:
            self._packer.put(b"".join(self._pieces))
        self._pieces, self._size = [], 0


class _Dropped:
    """Which names do not belong into the image."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.strip("/").encode() for name in names)
        self._below = tuple(name + b"/" for name in self._names)

    def has(self, name: bytes) -> bool:
        """Tell whether a normalised name is one of them or below one of them."""
        return name.rstrip(b"/") in self._names or name.startswith(self._below)


def normalise_name(name: bytes, *, folder: bool) -> bytes:
    """Return a name as OCI layers have it: `etc/hosts`, folders with a slash at the end, the root as `./`.

    :raises RepositoryError: it leads out of the root.
    """
    while name.startswith((b"./", b"/")):
        name = name.lstrip(b"/") if name.startswith(b"/") else name[2:]
    if name in (b"", b"."):
        return b"./"
    if b".." in name and b".." in name.split(b"/"):
        raise damaged(f"the name {name!r} leads out of it")
    if folder:
        return name.rstrip(b"/") + b"/"
    return name


def _normalise(entry: TarEntry, dropped: _Dropped) -> bool:
    """Bring an entry into the one form; tells whether it belongs into the layer."""
    entry.name = normalise_name(entry.name, folder=entry.kind == 0x35)
    if entry.kind in WITHOUT_DATA:
        entry.size = 0
    if dropped.has(entry.name):
        return False
    if entry.kind == 0x31:  # a hard link names another entry; a symbolic one (0x32) holds any text
        entry.linkname = normalise_name(entry.linkname, folder=False)
        if dropped.has(entry.linkname):
            raise RepositoryError(
                f"{entry.name!r} is a hard link to {entry.linkname!r}, which is left out of the image"
            )
    return True


def write_layer(
    source: BinaryIO, target: BinaryIO, *, drop: Iterable[str] = DUMP_TRACES, level: int = LEVEL,
    threads: int | None = None, on_bytes: OnBytes | None = None,
) -> Layer:  # fmt: skip
    """Turn a container archive (plain, zstd or gzip) into a layer, in one pass.

    Kept: content, holes of sparse files, modes, numeric owners, times to the nanosecond, hard links, devices, extended
    attributes, ACLs, and names to the byte. Dropped: user and group names, other clocks, and everything in `drop`.

    :param drop: paths from the root, with everything below them.
    :param threads: of the packer; all processors by default. Their number does not change a byte.
    :raises RepositoryError: the archive is damaged or ends before its end marker.
    """
    stream = _Source(open_archive(source), on_bytes)
    packer = Packer(target, level, threads)
    try:
        entries = _copy(stream, _Gatherer(packer), _Dropped(drop))
        stream.drain()
        packer.finish()
    except BaseException:
        packer.abandon()
        raise
    return Layer(packer.digest, packer.size, packer.plain_digest, packer.plain_size, entries)


def _copy(stream: _Source, gatherer: _Gatherer, dropped: _Dropped) -> int:
    reader = HeaderReader(stream.take)
    entries = 0
    while (entry := reader.read()) is not None:
        wanted = _normalise(entry, dropped)
        padding = -entry.size % BLOCK
        if wanted:
            entries += 1
            gatherer.put(render_header(entry))
        stream.pass_on(entry.size, gatherer.put if wanted else _ignore)
        if padding:
            stream.take(padding)
            if wanted:
                gatherer.put(bytes(padding))
    gatherer.flush()
    return entries


def _ignore(_piece: memoryview) -> None:
    return None
