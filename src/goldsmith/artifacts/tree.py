"""The files of a version, read from its layers without unpacking them anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, cast

from goldsmith.artifacts.archive import Source
from goldsmith.artifacts.compression import Readable, open_archive
from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.repository import Repository, Version, check_has_files
from goldsmith.artifacts.tarheaders import BLOCK, HeaderReader, TarEntry
from goldsmith.base.digest import Digest
from goldsmith.base.events import OnBytes

PIECE = 1 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
"""Names by which a layer takes files of the layers below it away (OCI image-spec, layer.md); goldsmith writes none."""


class FileKind(StrEnum):
    """What stands in a place."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    DEVICE = "device"
    PIPE = "pipe"


_KINDS = {
    0x30: FileKind.FILE, 0x31: FileKind.FILE, 0x32: FileKind.SYMLINK, 0x33: FileKind.DEVICE, 0x34: FileKind.DEVICE,
    0x35: FileKind.FOLDER, 0x36: FileKind.PIPE,
}  # fmt: skip


@dataclass(frozen=True)
class FileEntry:
    """One file, folder, link or device of a version. Two are equal though their times differ."""

    kind: FileKind
    mode: int
    uid: int
    gid: int
    size: int = 0
    """In bytes, with its holes; 0 of everything that is no file."""
    content: Digest | None = None
    """Of a file's bytes (holes left out, where they are)."""
    target: str = ""
    """Where a symbolic link leads; a hard link names the file that it is one with; a device its numbers."""
    attributes: tuple[tuple[bytes, bytes], ...] = ()
    """Extended attributes, capabilities, ACLs."""
    time: str = field(default="0", compare=False)
    """When it was written: seconds since 1970, in decimal."""


Tree = dict[str, FileEntry]
"""By path without a slash at either end: `etc/hosts`; the root is `.`. Bytes that are no UTF-8 are surrogates."""


def read_tree(repository: Repository, version: Version, on_bytes: OnBytes | None = None) -> Tree:
    """Read what is in a version.

    :raises RepositoryDamaged: a layer is not what its digest promises; nothing of it is given out.
    :raises FilesElsewhere: it is a backup on its node.
    """
    (tree,) = read_trees(repository, [version], on_bytes)
    return tree


def read_trees(repository: Repository, versions: Iterable[Version], on_bytes: OnBytes | None = None) -> list[Tree]:
    """Read what is in some versions; a layer that several have is read once.

    :param on_bytes: called with the packed bytes read so far.
    :raises FilesElsewhere: one is a backup on its node.
    """
    layers: dict[Digest, Tree] = {}
    done = 0
    trees = []
    for version in versions:
        check_has_files(version)
        for layer in version.layers:
            if layer.digest not in layers:
                layers[layer.digest] = _read_layer(repository, layer)
                done += layer.size
                if on_bytes is not None:
                    on_bytes(done)
        trees.append(_stack(layers[layer.digest] for layer in version.layers))
    return trees


def find_file(repository: Repository, version: Version, path: str) -> bytes | None:
    """Return the bytes of one small file of a version; None when there is no such file (a link is none).

    :raises RepositoryDamaged: a layer is not what its digest promises.
    """
    for layer in reversed(version.layers):
        found: list[bytes] = []
        _read_layer(repository, layer, (path, found.append))
        if found:
            return b"".join(found)
    return None


def _stack(layers: Iterable[Tree]) -> Tree:
    """Lay layers one upon another."""
    tree: Tree = {}
    for layer in layers:
        for path in layer:
            folder, _, name = path.rpartition("/")
            if name == _OPAQUE:
                _remove_below(tree, folder)
            elif name.startswith(_WHITEOUT):
                gone = f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
                tree.pop(gone, None)
                _remove_below(tree, gone)
        tree |= {path: entry for path, entry in layer.items() if not path.rpartition("/")[2].startswith(_WHITEOUT)}
    return tree


def _remove_below(tree: Tree, folder: str) -> None:
    for path in [path for path in tree if path.startswith(f"{folder}/")]:
        del tree[path]


_Wanted = tuple[str, Callable[[bytes], object]]
"""A file's path, and what takes its bytes."""


def _read_layer(repository: Repository, layer: Descriptor, wanted: _Wanted | None = None) -> Tree:
    tree: Tree = {}
    with repository.open_blob(layer) as blob:
        source = Source(_Ended(open_archive(cast(BinaryIO, blob))))
        reader = HeaderReader(source.take)
        while (entry := reader.read()) is not None:
            path = _render_path(entry.name)
            copy = wanted[1] if wanted is not None and wanted[0] == path else None
            tree[path] = _describe(entry, source, copy)
        source.drain()
        while blob.read(PIECE):  # to its end, where it is compared with its digest
            pass
    return tree


def _render_path(name: bytes) -> str:
    return (name.strip(b"/").removeprefix(b"./") or b".").decode(errors="surrogateescape")


def _describe(entry: TarEntry, source: Source, copy: Callable[[bytes], object] | None) -> FileEntry:
    kind = _KINDS[entry.kind]
    content = _digest_data(entry, source, copy) if entry.kind == 0x30 else None
    target = entry.linkname.decode(errors="surrogateescape")
    if kind is FileKind.DEVICE:
        target = "{}{}:{}".format("c" if entry.kind == 0x33 else "b", *entry.device)
    size = (entry.size if entry.real_size is None else entry.real_size) if kind is FileKind.FILE else 0
    attributes = tuple(sorted(entry.records.items()))
    time = (entry.exact_mtime or b"%d" % entry.mtime).decode()
    return FileEntry(kind, entry.mode, entry.uid, entry.gid, size, content, target, attributes, time)


def _digest_data(entry: TarEntry, source: Source, copy: Callable[[bytes], object] | None) -> Digest:
    found = hashlib.sha256()

    def take(piece: memoryview) -> None:
        found.update(piece)
        if copy is not None:
            copy(bytes(piece))

    source.pass_on(entry.size, take)
    source.take(-entry.size % BLOCK)
    return Digest("sha256:" + found.hexdigest())


class _Ended:
    """A layer's tar, with the end marker that it has not."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._end = bytes(BLOCK)

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._stream.read(size)
        if not data:
            data, self._end = self._end, b""
        return data
