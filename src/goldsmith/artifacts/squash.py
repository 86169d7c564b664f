"""Layers of a container image laid one upon another; what comes out is one tar, as a container template is.

A whiteout takes away what layers below it have, never what its own layer brings, wherever it stands in that. Paths lead
through symbolic links of lower layers, as they do in a mounted file system, and never out of the root.

Sources: OCI image-spec 1.1, layer.md, "Applying Changesets" and "Whiteouts"; where that is silent, what containerd's
`archive.Apply` and umoci do. What libraries there are wants a container engine, or writes another image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from goldsmith.artifacts.archive import normalise_name
from goldsmith.artifacts.compression import Packed, pack
from goldsmith.artifacts.tarheaders import (
    BLOCK,
    FILE,
    FOLDER,
    LINK,
    SYMLINK,
    WITHOUT_DATA,
    HeaderReader,
    TarEntry,
    render_header,
)
from goldsmith.base.errors import RepositoryError
from goldsmith.base.events import OnBytes

PIECE = 1 << 20
WHITEOUT, OPAQUE, AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
"""Names that take away: one entry; all that a folder had. With the third begin names of aufs, which mean nothing."""
DEVICES = b"dev"
"""Nothing is taken of this folder: a guest gets its own, and may make no devices. Proxmox leaves out `./dev/*` itself,
but names in an image need not begin so (PVE 8.4, PVE::LXC::Create)."""
_MOST_LINKS = 40
"""Symbolic links on one path, as Linux has it (path_resolution(7))."""
_END = bytes(2 * BLOCK)


def _refuse(what: str) -> RepositoryError:
    return RepositoryError(f"the container image cannot be unpacked: {what}", hint="was it made by another tool?")


@dataclass(eq=False)
class _Inode:
    """A file with all its names: what its header says, and where its bytes are, if it has any."""

    entry: TarEntry
    layer: BinaryIO | None = None
    offset: int = 0


@dataclass(eq=False)
class _Node:
    """A place in the tree. `children` of a folder by name."""

    inode: _Inode
    children: dict[bytes, _Node] = field(default_factory=dict)

    @property
    def kind(self) -> int:
        return self.inode.entry.kind


def _make_folder(mtime: int = 0) -> _Node:
    """Return a folder that no layer speaks of, and yet something lies in it."""
    return _Node(_Inode(TarEntry(b"", FOLDER, 0o755, 0, 0, 0, mtime)))


class Tree:
    """What the layers are together. Each is added as an unpacked tar, which is read again when the tree is written."""

    def __init__(self) -> None:
        self._root = _make_folder()

    def add(self, layer: BinaryIO) -> None:
        """Lay a layer upon those that are there. An end marker it may have or not.

        :raises RepositoryError: it is damaged, or names something that is not there.
        """
        inodes = list(_read_inodes(layer))
        for inode in inodes:
            self._whiteout(inode.entry)
        for inode in inodes:
            if not inode.entry.name.rstrip(b"/").rpartition(b"/")[2].startswith(WHITEOUT):
                self._place(inode)

    def has_file(self, path: str) -> bool:
        """Tell whether a path leads to something that is no folder, over symbolic links as well."""
        try:
            found = self._find(_split(path.encode()), follow=True)
        except RepositoryError:
            return False
        return found is not None and found.kind != FOLDER

    def write(self, target: BinaryIO, on_bytes: OnBytes | None = None) -> Packed:
        """Write the tree as a tar, packed with zstd. The same layers give the same bytes.

        :param on_bytes: called with the bytes done so far, unpacked.
        """
        entries = list(self._list_entries())
        size = sum(len(render_header(entry)) + _pad(entry.size) for entry, _ in entries) + len(_END)
        return pack(_watch(_render(entries), on_bytes), target, size=size, threads=2)

    def _whiteout(self, entry: TarEntry) -> None:
        *above, name = _split(entry.name) or [b""]
        if not name.startswith(WHITEOUT):
            return
        folder = self._find(above, follow=True)
        if folder is None or folder.kind != FOLDER:
            return
        if name == OPAQUE:
            folder.children.clear()
        elif not name.startswith(AUFS):
            folder.children.pop(name.removeprefix(WHITEOUT), None)

    def _place(self, inode: _Inode) -> None:
        entry, parts = inode.entry, _split(inode.entry.name)
        if not parts:
            self._root.inode = inode
            return
        folder = self._reach(parts[:-1], entry.mtime)
        before = folder.children.get(parts[-1])
        if entry.kind == LINK:
            target = self._find(_split(entry.linkname), follow=False)
            if target is None or target.kind == FOLDER:
                raise _refuse(f"{_show(entry.name)} is another name of {_show(entry.linkname)}, which is no file there")
            inode = target.inode
        if before is not None and before.kind == FOLDER and entry.kind == FOLDER:
            before.inode = inode
        else:
            folder.children[parts[-1]] = _Node(inode)

    def _find(self, parts: list[bytes], *, follow: bool) -> _Node | None:
        """Find what a path leads to; `follow`: also where the last part is a symbolic link."""
        return self._walk(parts, lambda folder, name: folder.children.get(name), follow=follow)

    def _reach(self, parts: list[bytes], mtime: int) -> _Node:
        """Return the folder that a path leads to; what of it is missing is made."""

        def enter(folder: _Node, name: bytes) -> _Node:
            found = folder.children.setdefault(name, _make_folder(mtime))
            if found.kind not in (SYMLINK, FOLDER):
                raise _refuse(f"something lies below {_show(name)}, which is no folder")
            return found

        found = self._walk(parts, enter, follow=True)
        if found is None:
            raise _refuse(f"too many symbolic links on the way to {_show(b'/'.join(parts))}")
        return found

    def _walk(
        self, parts: list[bytes], enter: Callable[[_Node, bytes], _Node | None], *, follow: bool
    ) -> _Node | None:  # fmt: skip
        """Go where a path leads, through symbolic links; None: there is nothing, or no end of links.

        :param enter: gives what a folder has under a name.
        """
        trail = [self._root]
        waiting, links = list(reversed(parts)), 0
        while waiting:
            name = waiting.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                trail = trail[:-1] or trail
                continue
            found = enter(trail[-1], name)
            if found is None:
                return None
            if found.kind == SYMLINK and (waiting or follow):
                links += 1
                if links > _MOST_LINKS:
                    return None
                trail = [self._root] if found.inode.entry.linkname.startswith(b"/") else trail
                waiting += reversed(found.inode.entry.linkname.split(b"/"))
                continue
            trail.append(found)
        return trail[-1]

    def _list_entries(self) -> Iterator[tuple[TarEntry, _Inode]]:
        """List what is written, folders before what is in them; a file's other names after the first."""
        first: dict[int, bytes] = {}
        waiting = [(b"", self._root)]
        while waiting:
            path, node = waiting.pop()
            yield _name(node.inode, path, first), node.inode
            below = sorted(node.children.items(), reverse=True) if path != DEVICES else []
            waiting += [(path + b"/" + name if path else name, child) for name, child in below]


def _name(inode: _Inode, path: bytes, first: dict[int, bytes]) -> TarEntry:
    """Return an inode's entry under one of its names."""
    if inode.entry.kind == FOLDER:
        return replace(inode.entry, name=path + b"/" if path else b"./")
    known = first.setdefault(id(inode), path)
    if known == path:
        return replace(inode.entry, name=path)
    other = replace(inode.entry, name=path, kind=LINK, linkname=known, size=0, records={}, device=(0, 0))
    return replace(other, real_size=None, extents=None)


def _split(name: bytes) -> list[bytes]:
    """Return a path's parts, none for the root.

    :raises RepositoryError: it leads out of the root.
    """
    normalised = normalise_name(name, folder=False).strip(b"/")
    return [] if normalised in (b"", b".") else [part for part in normalised.split(b"/") if part not in (b"", b".")]


def _read_inodes(layer: BinaryIO) -> Iterator[_Inode]:
    def take(size: int) -> bytes:
        data = layer.read(size)
        if not data and size == BLOCK:
            return bytes(BLOCK)  # layers of ours have no end marker
        if len(data) != size:
            raise _refuse("a layer is cut off")
        return data

    end = layer.seek(0, 2)
    layer.seek(0)
    reader = HeaderReader(take)
    while (entry := reader.read()) is not None:
        if entry.kind in WITHOUT_DATA:
            entry.size = 0
        offset = layer.tell()
        if layer.seek(_pad(entry.size), 1) > end:
            raise _refuse("a layer is cut off")
        yield _Inode(entry, layer if entry.kind == FILE else None, offset)


def _render(entries: list[tuple[TarEntry, _Inode]]) -> Iterator[bytes]:
    for entry, inode in entries:
        yield render_header(entry)
        if entry.size and inode.layer is not None:
            yield from _read_data(inode.layer, inode.offset, _pad(entry.size))
    yield _END


def _read_data(layer: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    layer.seek(offset)
    while size:
        data = layer.read(min(PIECE, size))
        if not data:
            raise _refuse("a layer is cut off")
        size -= len(data)
        yield data


def _watch(pieces: Iterator[bytes], on_bytes: OnBytes | None) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if on_bytes is not None:
            on_bytes(done)


def _pad(size: int) -> int:
    return size + -size % BLOCK


def _show(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
