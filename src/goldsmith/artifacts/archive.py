"""A container archive as it arrives: cut into headers and data, each entry in the one form that goldsmith stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from goldsmith.artifacts.compression import Readable
from goldsmith.artifacts.tarheaders import FOLDER, LINK, WITHOUT_DATA, TarEntry, damaged
from goldsmith.base.events import OnBytes

READ_SIZE = 4 << 20
BYTECODE_HEAD = 16
"""Bytes of Python's bytecode before the code itself (PEP 552)."""


class Source:
    """An archive in large pieces, of which headers are cut and data is passed on uncopied."""

    def __init__(self, stream: Readable, on_bytes: OnBytes | None = None) -> None:
        self._stream, self._on_bytes = stream, on_bytes
        self._buffer = b""
        self._position = 0
        self.done = 0
        """Bytes read so far, unpacked."""

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
            raise damaged(f"it ends after {self.done} bytes, in the middle")
        self._buffer, self._position = data, 0
        self.done += len(data)
        if self._on_bytes is not None:
            self._on_bytes(self.done)


@dataclass(frozen=True)
class Dropped:
    """Paths from the root that do not belong into the image, with everything below them."""

    paths: Iterable[str]
    _names: frozenset[bytes] = field(init=False)
    _below: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = frozenset(path.strip("/").encode() for path in self.paths)
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_below", tuple(name + b"/" for name in names))

    def has(self, name: bytes) -> bool:
        """Tell whether a normalised name is one of them or below one of them."""
        return name.startswith(self._below) or name in self._names


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


def normalise(entry: TarEntry) -> None:
    """Bring an entry into the one form."""
    entry.name = normalise_name(entry.name, folder=entry.kind == FOLDER)
    if entry.kind in WITHOUT_DATA:
        entry.size = 0
    if entry.kind == LINK:  # a hard link names another entry; a symbolic one holds any text
        entry.linkname = normalise_name(entry.linkname, folder=False)


@dataclass(frozen=True)
class Times:
    """How files get times that do not depend on when an image was built. Whole seconds since 1970.

    What a package manager and Python note about a package when it is installed (dpkg's lists, bytecode) gets the time
    of the package's newest file. What was written at or after `since`, the start of a build, gets the time `becomes`,
    that of what it was made of. A fixed one would deceive: whoever compares time and size of a file (web servers,
    rsync) takes a new version's content for the old.
    """

    since: int | None = None
    becomes: int = 0
    beyond: int | None = None
    """What was written is never older than what was there before: caches that are older than their folder are made
    anew (systemd's ConditionNeedsUpdate at each first boot, icons, fonts). So where `becomes` does not come after the
    newest file that was not written, it is that file's time and so many seconds. None: it is `becomes` all the same.
    """

    def settle(self, newest: int) -> Times:
        """Decide what the time becomes, now that the newest file is known that was not written."""
        if self.beyond is None or self.becomes > newest:
            return self
        return replace(self, becomes=newest + self.beyond, beyond=None)

    def adjust_bytecode(self, head: bytes) -> bytes:
        """Let bytecode (its first bytes) name the time that its source gets here; else Python would not trust it.

        Source: PEP 552: magic number, flags, which are 0 where the time decides, time of the source, its size.
        """
        time = int.from_bytes(head[8:12], "little")
        if self.since is None or head[4:8] != bytes(4) or time < self.since:
            return head
        return head[:8] + (self.becomes & 0xFFFFFFFF).to_bytes(4, "little") + head[12:]
