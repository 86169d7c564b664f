"""The store: downloaded files on this machine's disk, shared by all builds and processes of a user, and bounded."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from goldsmith.provision.downloads.rules import MAGIC, Url

PART = ".part"
TRAILER = 64
"""Bytes of a SHA-256 digest in hexadecimal."""
PIECE = 1 << 16
POLL = 0.02
SPARED = 1 << 30
"""Bytes that stay free on the disk: it is usually the one on which images are built."""
LONGEST_HEAD = 1 << 16


@dataclass(frozen=True)
class Head:
    """What is known of a file besides its content: where it is from, and what its server said about it."""

    url: str
    length: int
    max_age: int
    """Seconds for which it is current without its server being asked."""
    content_type: str = ""
    etag: str = ""
    last_modified: str = ""

    @property
    def has_validators(self) -> bool:
        """Tell whether its server can tell it from another file of its name and length."""
        return bool(self.etag or self.last_modified)

    def names_same(self, other: Head) -> bool:
        """Tell whether another answer of the server is about the same file."""
        mine = (self.length, self.etag, self.last_modified)
        return mine == (other.length, other.etag, other.last_modified)


class Kept:
    """A file of the store, open. It stays readable when it is replaced or removed meanwhile."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self.file = path, file
        self.head = _parse_head(file.readline(LONGEST_HEAD))
        self.begin = file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def is_whole(self) -> bool:
        """Read it, and tell whether it still is what was put in; leaves it at its content's beginning."""
        made = hashlib.sha256()
        left = self.head.length
        while left and (piece := self.file.read(min(left, PIECE))):
            made.update(piece)
            left -= len(piece)
        is_right = not left and self.file.read() == made.hexdigest().encode()
        self.file.seek(self.begin)
        return is_right

    def is_current(self, now: float) -> bool:
        """Tell whether its server need not be asked."""
        return now < os.fstat(self.file.fileno()).st_mtime + self.head.max_age

    def note_use(self) -> None:
        """Note that it was wanted just now."""
        os.utime(self.file.fileno(), (time.time(), os.fstat(self.file.fileno()).st_mtime))

    def note_current(self) -> None:
        """Note that its server has just said that it is current."""
        os.utime(self.file.fileno())

    def doubt(self) -> None:
        """Let its server be asked before it is used again; where that could not tell, it goes."""
        if self.head.has_validators:
            os.utime(self.file.fileno(), (time.time(), 0))
        else:
            self._path.unlink(missing_ok=True)


class Writer:
    """A file that is being downloaded. Only `finish` puts it into the store; without, it is dropped.

    A disk that takes no more is no failure of the download: the file is not kept, and that is all.
    """

    def __init__(self, url: Url, path: Path, file: IO[bytes]) -> None:
        self._url, self._path, self._file = url, path, file
        self._digest, self._left, self._start = hashlib.sha256(), -1, b""
        self._is_broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._file.closed:
            self._path.with_suffix(PART).unlink(missing_ok=True)
            self._file.close()

    def begin(self, head: Head) -> None:
        """Write what is known before the content."""
        self._left = head.length
        self._append(json.dumps(asdict(head)).encode() + b"\n")

    def write(self, piece: bytes) -> None:
        """Write more of the content; whoever follows sees it at once."""
        self._start = (self._start + piece)[: len(MAGIC)] if len(self._start) < len(MAGIC) else self._start
        self._digest.update(piece)
        self._left -= len(piece)
        self._append(piece)

    def _append(self, data: bytes) -> None:
        if not self._is_broken:
            try:
                self._is_broken = self._file.write(data) != len(data)
            except OSError:
                self._is_broken = True

    def finish(self) -> bool:
        """Put the file into the store; tell whether it is there: as long as its server said, and what its name says."""
        digest = self._digest.hexdigest()
        is_right = digest == self._url.digest if self._url.digest else self._start == MAGIC
        self._append(digest.encode())
        if self._left or self._is_broken or not is_right:
            return False
        self._path.with_suffix(PART).replace(self._path)
        self._file.close()
        return True


class Follower:
    """A file that somebody else is downloading, read as it grows."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._is_last = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read_head(self) -> Head | None:
        """Wait for what is known of the file; None where nothing comes of it."""
        line = b""
        while not line.endswith(b"\n"):
            has_ended = self._has_ended()
            more = self._file.readline()
            if not more and has_ended:
                return None
            line += more
            if not more:
                time.sleep(POLL)
        return _parse_head(line)

    def read_pieces(self, length: int) -> Iterator[bytes]:
        """Yield the content as it comes; less than `length` bytes where the download has failed."""
        while length:
            has_ended = self._has_ended()
            piece = self._file.read(min(length, PIECE))
            if piece:
                length -= len(piece)
                yield piece
            elif has_ended:
                return
            else:
                time.sleep(POLL)

    def _has_ended(self) -> bool:
        """Tell whether nobody writes any more; asked before reading, so that nothing is missed."""
        self._is_last = self._is_last or _try_lock(self._file)
        return self._is_last


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parse_head(line: bytes) -> Head:
    """Read a head.

    :raises ValueError: it is none.
    """
    try:
        return Head(**json.loads(line))
    except TypeError as error:
        raise ValueError("not a head of ours") from error


@dataclass(frozen=True)
class StoredFile:
    """A file of the store as its directory tells of it. `used` is seconds since 1970."""

    path: Path
    size: int
    used: float


class Store:
    """Files by the URL that they are from.

        DIRECTORY/                    mode 0700
          <sha256 of the URL>         a head (JSON, one line), the content, the content's SHA-256 digest in hexadecimal
          <sha256 of the URL>.part    the same, as it grows; locked (flock) by who downloads it

    A file's mtime is when its server last said that it is current, its atime when it was last wanted.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def _place(self, url: Url) -> Path:
        return self.directory / hashlib.sha256(str(url).encode()).hexdigest()

    def find(self, url: Url) -> Kept | None:
        """Return the file of a URL; one that is no longer what was put in is removed, and there is none."""
        path = self._place(url)
        try:
            file = path.open("rb")
        except OSError:
            return None
        with suppress(OSError, ValueError):
            kept = Kept(path, file)
            if kept.head.url == str(url) and kept.is_whole():
                return kept
        file.close()
        path.unlink(missing_ok=True)
        return None

    def begin(self, url: Url) -> Writer | Follower:
        """Begin a download, or follow the one that is going on, be it in another process.

        :raises OSError: nothing can be written there.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._place(url)
        part = path.with_suffix(PART)
        while True:
            file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
            if not _try_lock(file):
                return Follower(file)
            if _is_at(part, file):  # else it was finished, or dropped, since it was opened
                file.truncate()
                return Writer(url, path, file)
            file.close()

    def has_room(self, length: int) -> bool:
        """Tell whether the disk has room for a file without becoming full."""
        return shutil.disk_usage(self.directory).free > length + SPARED

    def list_files(self) -> list[StoredFile]:
        """Return all files, also those that are being downloaded."""
        try:
            entries = list(os.scandir(self.directory))
        except FileNotFoundError:
            return []
        found = []
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append(StoredFile(Path(entry.path), status.st_size, status.st_atime))
        return found

    def remove(self, file: StoredFile) -> bool:
        """Remove a file, and tell whether it went: one that is being downloaded stays."""
        if file.path.suffix == PART:
            with suppress(FileNotFoundError), file.path.open("r+b") as opened:
                if not _try_lock(opened):
                    return False
                file.path.unlink(missing_ok=True)
            return True
        file.path.unlink(missing_ok=True)
        return True


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
