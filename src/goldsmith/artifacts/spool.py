"""An archive on the disk, so that its entries can be read in another order than they came."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from goldsmith.artifacts.archive import BYTECODE_HEAD, Source, Times, normalise
from goldsmith.artifacts.division import ROOT
from goldsmith.artifacts.tarheaders import (
    BLOCK,
    FILE,
    FOLDER,
    LINK,
    SYMLINK,
    HeaderReader,
    TarEntry,
    damaged,
    render_header,
    render_map,
)

PIECE = 1 << 20
DELAY = b"GNU.dumpdir"
"""A pax record of the root folder, with an empty list. GNU tar (1.34, src/extract.c, `delay_directory_restore_option`)
then sets times and modes of all folders at its end. Otherwise it sets those of a folder as soon as another one comes,
and files that come later change the time again. Other unpackers know no such record."""

Part = tuple[bytes, int, int]
"""Of a layer: a header that is made anew, or none; then from where to read in the file, and how much."""


class Spool:
    """The entries of an archive in a file: each its canonical header, its data, and zeros up to a whole block.

    What is in memory grows with the number of names only: the name itself and some 200 bytes. A name that comes twice
    means what it means last, as for who unpacks the archive; a hard link means the inode that its target was then.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parts: list[bytes | memoryview] = []
        self._gathered = self._end = 0
        self._offsets, self._sizes, self._heads = array("Q"), array("Q"), array("Q")
        self._times, self._set_times = array("q"), dict[int, int]()
        self.inodes: dict[bytes, int] = {}
        """Number of the inode, by name; folders have a slash at their end."""
        self.targets: dict[bytes, bytes] = {}
        """Where symbolic links lead to, by name."""
        self.shared: set[int] = set()
        """The inodes that may have several names."""
        self.read = 0
        """Bytes of the archive."""
        self._reading: int | None = None

    def fill(self, source: Source) -> None:
        """Take in an archive, to its end marker and what is behind it.

        :raises RepositoryError: it is damaged, or ends before its end marker.
        """
        reader = HeaderReader(source.take)
        while (entry := reader.read()) is not None:
            normalise(entry)
            if entry.name == ROOT:
                entry.records[DELAY] = b"\0"
            if entry.kind == LINK:
                self._link(entry)
            else:
                self._add(entry, source)
        source.drain()
        self.read = source.done
        self._flush()
        self._file.flush()
        self._reading = os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    def date(self, times: Times) -> None:
        """Give what a build has written the time that it is to have; to its bytecode, what that says of its source.

        The root counts as written: its time is that of when a node has unpacked the base image, maybe long ago.
        """
        if times.since is None:
            return
        written = {inode for inode, time in enumerate(self._times) if time >= times.since}
        written |= {self.inodes[ROOT]} if ROOT in self.inodes else set()
        settled = times.settle(max((time for inode, time in enumerate(self._times) if inode not in written), default=0))
        self._set_times |= dict.fromkeys(written, settled.becomes)
        for name, inode in self.inodes.items():
            if inode in written and name.endswith(b".pyc"):
                self._date_bytecode(inode, settled)

    def _date_bytecode(self, inode: int, times: Times) -> None:
        entry, start = self._read_header(inode), self._offsets[inode] + self._heads[inode]
        if entry.kind == FILE and entry.size >= BYTECODE_HEAD and entry.real_size is None:
            head = self._read(start, BYTECODE_HEAD)
            os.pwrite(self._file.fileno(), times.adjust_bytecode(head), start)

    def close(self) -> None:
        """End reading; the file remains its maker's."""
        if self._reading is not None:
            os.close(self._reading)
            self._reading = None

    def drop(self, names: Iterable[bytes]) -> None:
        """Forget some names."""
        for name in names:
            del self.inodes[name]

    def size_of(self, name: bytes) -> int:
        """Return how many bytes of tar an entry is."""
        return self._sizes[self.inodes[name]]

    def time_of(self, name: bytes) -> int:
        """Return an entry's time in whole seconds since 1970."""
        inode = self.inodes[name]
        return self._set_times.get(inode, self._times[inode])

    def set_time(self, name: bytes, time: int) -> None:
        """Let an entry have another time when it is read."""
        self._set_times[self.inodes[name]] = time

    def read_data(self, name: bytes) -> bytes:
        """Return what a file holds; for small files."""
        inode = self.inodes[name]
        head = self._heads[inode]
        data = self._read(self._offsets[inode], self._sizes[inode])
        return data[head : head + self._read_header(inode).size]

    def list_shared(self) -> list[list[bytes]]:
        """Return the sorted names of each inode that has several."""
        found: dict[int, list[bytes]] = {}
        for name, inode in self.inodes.items():
            if inode in self.shared:
                found.setdefault(inode, []).append(name)
        return [sorted(names) for names in found.values() if len(names) > 1]

    def list_parts(self, names: Iterable[bytes]) -> list[Part]:
        """Return what a layer of some entries is made of, in the order of their names given.

        The first of an inode's names has the data, the others are hard links to it.
        """
        parts: list[Part] = []
        first: dict[int, bytes] = {}
        for name in names:
            inode = self.inodes[name]
            start, size = self._offsets[inode], self._sizes[inode]
            if inode not in self.shared and inode not in self._set_times:
                parts.append((b"", start, size))
                continue
            entry, head = self._read_header(inode), self._heads[inode]
            if inode in first:
                parts.append((render_header(_make_link(entry, name, first[inode])), 0, 0))
            else:
                first[inode] = name
                parts.append((render_header(replace(entry, name=name)), start + head, size - head))
        return parts

    def read_parts(self, parts: Iterable[Part]) -> Iterator[bytes]:
        """Yield the bytes of parts, in pieces of 1 MiB or a little more."""
        pieces: list[bytes] = []
        gathered = 0
        for head, start, size in parts:
            pieces.append(head)
            gathered += len(head)
            for offset in range(start, start + size, PIECE):
                pieces.append(self._read(offset, min(PIECE, start + size - offset)))
                gathered += len(pieces[-1])
                if gathered >= PIECE:
                    yield b"".join(pieces)
                    pieces, gathered = [], 0
        if gathered:
            yield b"".join(pieces)

    def _read(self, offset: int, size: int) -> bytes:
        assert self._reading is not None
        return os.pread(self._reading, size, offset)

    def _read_header(self, inode: int) -> TarEntry:
        data = memoryview(self._read(self._offsets[inode], self._heads[inode]))
        position = 0

        def take(size: int) -> bytes:
            nonlocal position
            position += size
            return bytes(data[position - size : position])

        entry = HeaderReader(take).read()
        assert entry is not None
        if inode in self._set_times:
            entry.mtime, entry.exact_mtime = self._set_times[inode], b""
        return entry

    def _link(self, entry: TarEntry) -> None:
        inode = self.inodes.get(entry.linkname)
        if inode is None:
            raise damaged(f"{entry.name!r} is a hard link to {entry.linkname!r}, which is not in it")
        self.shared.add(inode)
        self.inodes[entry.name] = inode
        if entry.linkname in self.targets:
            self.targets[entry.name] = self.targets[entry.linkname]

    def _add(self, entry: TarEntry, source: Source) -> None:
        name = entry.name
        self.inodes.pop(name[:-1] if entry.kind == FOLDER else name + b"/", None)
        self.inodes[name] = len(self._offsets)
        if entry.kind == SYMLINK:
            self.targets[name] = entry.linkname
        head = render_header(entry)
        padded = entry.size + -entry.size % BLOCK
        self._offsets.append(self._end)
        self._times.append(entry.mtime)
        self._heads.append(len(head) - (0 if entry.extents is None else len(render_map(entry.extents))))
        self._sizes.append(len(head) + padded)
        self._put(head)
        source.pass_on(entry.size, self._put)
        if padded != entry.size:
            source.take(padded - entry.size)
            self._put(bytes(padded - entry.size))

    def _put(self, part: bytes | memoryview) -> None:
        self._parts.append(part)
        self._gathered += len(part)
        self._end += len(part)
        if self._gathered >= PIECE:
            self._flush()

    def _flush(self) -> None:
        self._file.write(b"".join(self._parts))
        self._parts, self._gathered = [], 0


def _make_link(entry: TarEntry, name: bytes, first: bytes) -> TarEntry:
    """Return a hard link with the owner, mode and time of its inode: some unpackers set them again."""
    return TarEntry(
        name, LINK, entry.mode, entry.uid, entry.gid, 0, entry.mtime, first, exact_mtime=entry.exact_mtime
    )  # fmt: skip
