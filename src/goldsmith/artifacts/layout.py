"""An OCI image layout in a directory: blobs named by their digest, one index; whole or not there, wherever cut off."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from goldsmith.artifacts.manifest import INDEX_TYPE, MANIFEST_TYPE, Descriptor, parse_descriptor, parse_json
from goldsmith.base.digest import Digest, JsonValue, digest_bytes, render_canonical_json
from goldsmith.base.errors import LockTaken, RepositoryDamaged, RepositoryError
from goldsmith.base.files import open_lock, sync_directory, write_atomic

PIECE = 1 << 20
LAYOUT_FILE = render_canonical_json({"imageLayoutVersion": "1.0.0"})
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
WAIT = 60.0
"""Seconds to wait for another process that changes the index; it takes milliseconds."""


class BlobReader:
    """A blob's bytes, compared with its name and length while they are read: the last `read` raises if they differ."""

    def __init__(self, file: BinaryIO, descriptor: Descriptor) -> None:
        self._file, self._descriptor = file, descriptor
        self._hash = hashlib.sha256()
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes.

        :raises RepositoryDamaged: at the end, when the content is not what was promised.
        """
        data = self._file.read(size)
        self._hash.update(data)
        self._done += len(data)
        if not data or size < 0 or self._done >= self._descriptor.size:
            self._check()
        return data

    def _check(self) -> None:
        found = "sha256:" + self._hash.hexdigest()
        if self._done != self._descriptor.size or found != self._descriptor.digest:
            raise RepositoryDamaged(
                f"blob {self._descriptor.digest} is damaged: it holds {self._done} bytes with {found}",
                hint="restore the repository from a backup, or build the version again",
            )


class Layout:
    """A directory as OCI's image layout has it; other tools read it as it is.

        oci-layout              {"imageLayoutVersion":"1.0.0"}
        index.json              all images; replaced in one step, under index.lock
        blobs/sha256/<hex>      immutable; appears under its name only when it is complete and on the disk
        .goldsmith/
          index.lock            held by whoever changes index.json
          writers.lock          held shared by every writer, exclusive by whoever removes what writers have left behind
          incoming/<writer>/    a writer's blobs: half-written ones by a random name; complete ones once more (a hard
                                link) by their hex, until the index names them

    The kernel drops a dead writer's locks, so that whatever lies in `incoming` while nobody holds `writers.lock` is
    left over; the next writer removes it, and with it complete blobs that the index does not name. Blobs that other
    tools have put there are never removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._own = path / ".goldsmith"
        self._incoming = self._own / "incoming"

    def has_index(self) -> bool:
        """Tell whether there is a layout yet."""
        return (self.path / "index.json").is_file()

    def create(self) -> None:
        """Make an empty layout where there is none."""
        with _explained(self.path):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(parents=True, exist_ok=True)
        with _explained(self.path), self._index_lock():
            if not (self.path / "oci-layout").exists():
                write_atomic(self.path / "oci-layout", LAYOUT_FILE)
            if not self.has_index():
                self._write_index([])

    def read_index(self) -> list[Descriptor]:
        """Return what the index lists, in its order; an absent layout lists nothing."""
        return [parse_descriptor(entry) for entry in self._read_entries()]

    @contextmanager
    def open_index(self) -> Iterator[list[JsonValue]]:
        """Hand over the index's entries to be changed; the change is made in one step when the block ends well."""
        with self._index_lock():
            entries = self._read_entries()
            yield entries
            self._write_index(entries)

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob is there; its content is compared when it is read."""
        return self.blob_path(digest).is_file()

    def blob_path(self, digest: Digest) -> Path:
        """Return where a blob lies.

        :raises RepositoryDamaged: the digest is none; it may come out of a file that somebody else wrote.
        """
        if not DIGEST.fullmatch(digest):
            raise RepositoryDamaged(f"'{digest}' is no digest that goldsmith knows")
        return self._blobs / digest.removeprefix("sha256:")

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BlobReader]:
        """Read a blob; what is read is compared with its name.

        :raises RepositoryDamaged: it is missing, or not what its name promises.
        """
        try:
            file = self.blob_path(descriptor.digest).open("rb")
        except FileNotFoundError as error:
            raise RepositoryDamaged(f"blob {descriptor.digest} is missing in {self.path}") from error
        with file:
            yield BlobReader(file, descriptor)

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a small blob's bytes."""
        with self.open_blob(descriptor) as blob:
            return blob.read()

    @contextmanager
    def open_writer(self) -> Iterator[Writer]:
        """Add blobs while the block runs. Those that the index does not name when it ends are removed again."""
        self.create()
        self._remove_left_over()
        writer = Writer(self, self._incoming / f"{os.getpid()}-{secrets.token_hex(4)}")
        try:
            with open_lock(self._own / "writers.lock", shared=True, timeout=WAIT, what=f"the repository {self.path}"):
                yield writer
        finally:
            self._remove_left_over()

    def list_references(self, on_damage: Callable[[RepositoryDamaged], None] | None = None) -> Iterator[Descriptor]:
        """Yield every blob that the index leads to: manifests, their configs and layers.

        :raises RepositoryDamaged: a manifest cannot be read; or `on_damage` is told and the walk goes on.
        """
        pending, seen = self.read_index(), set[Digest]()
        while pending:
            descriptor = pending.pop()
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            yield descriptor
            if descriptor.media_type in (MANIFEST_TYPE, INDEX_TYPE):
                try:
                    pending += _list_children(self.read_blob(descriptor))
                except RepositoryDamaged as error:
                    if on_damage is None:
                        raise
                    on_damage(error)

    def verify(self, on_bytes: Callable[[int], None] | None = None) -> list[str]:
        """Read everything that the index leads to; return what is wrong, nothing if all is well."""
        problems: set[str] = set()
        done = 0
        for descriptor in self.list_references(lambda damage: problems.add(damage.message)):
            try:
                with self.open_blob(descriptor) as blob:
                    while piece := blob.read(PIECE):
                        done += len(piece)
                        if on_bytes is not None:
                            on_bytes(done)
            except RepositoryDamaged as damage:
                problems.add(damage.message)
        return sorted(problems)

    def _index_lock(self) -> AbstractContextManager[None]:
        return open_lock(self._own / "index.lock", timeout=WAIT, what=f"the index of {self.path}")

    def _read_entries(self) -> list[JsonValue]:
        try:
            data = (self.path / "index.json").read_bytes()
        except FileNotFoundError:
            return []
        entries = parse_json(data, str(self.path / "index.json")).get("manifests")
        return list(entries) if isinstance(entries, list) else []

    def _write_index(self, entries: list[JsonValue]) -> None:
        index: JsonValue = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
        write_atomic(self.path / "index.json", render_canonical_json(index))

    def _remove_left_over(self) -> None:
        """Remove what writers have left behind that are gone; nothing while one is at work."""
        with suppress(LockTaken), open_lock(self._own / "writers.lock"):
            left_over = sorted(self._incoming.glob("*/*"))
            self._remove_unnamed([path.name for path in left_over if DIGEST.fullmatch(f"sha256:{path.name}")])
            for path in left_over:
                path.unlink(missing_ok=True)
            for folder in self._incoming.iterdir():
                folder.rmdir()

    def _remove_unnamed(self, hexes: list[str]) -> None:
        """Remove those of some blobs that the index does not lead to; none when a damaged manifest is in the way."""
        with suppress(RepositoryDamaged):
            named = {descriptor.digest for descriptor in self.list_references()} if hexes else set()
            for name in hexes:
                if Digest(f"sha256:{name}") not in named:
                    (self._blobs / name).unlink(missing_ok=True)


class Writer:
    """Adds blobs to a layout, each complete and on the disk before it appears under its name."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout, self._folder = layout, folder

    def add_bytes(self, media_type: str, data: bytes) -> Descriptor:
        """Add a small blob."""
        digest = digest_bytes(data)
        with self.open_blob() as blob:
            blob.file.write(data)
            blob.keep_as(digest)
        return Descriptor(media_type, digest, len(data))

    @contextmanager
    def open_blob(self) -> Iterator[NewBlob]:
        """Write a blob whose digest is known at its end only; without `keep_as` it is gone when the block ends."""
        temporary = self._folder / secrets.token_hex(8)
        with _explained(self._layout.path):
            self._folder.mkdir(exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    yield NewBlob(self._layout, temporary, file)
            finally:
                temporary.unlink(missing_ok=True)


class NewBlob:
    """A blob that is being written into `file`."""

    def __init__(self, layout: Layout, path: Path, file: BinaryIO) -> None:
        self.file = file
        self._layout, self._path = layout, path

    def keep_as(self, digest: Digest) -> None:
        """Give the blob its name. One that is there already stays as it is."""
        self.file.flush()
        os.fsync(self.file.fileno())
        final = self._layout.blob_path(digest)
        marked = self._path.with_name(final.name)
        if final.exists() and final.stat().st_size == self._path.stat().st_size:
            return
        with suppress(OSError):  # without hard links a blob that no index names is not found again, and stays
            marked.hardlink_to(self._path)
        self._path.replace(final)
        sync_directory(final.parent)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a full, read-only or forbidden file system answers into our error."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RepositoryError(
            f"cannot write into the repository {path}: {error.strerror}",
            hint="make room there; nothing of the version was stored" if full else "check its owner and permissions",
        ) from error


def _list_children(data: bytes) -> list[Descriptor]:
    document = parse_json(data, "a manifest")
    layers, manifests = document.get("layers"), document.get("manifests")
    children: list[JsonValue] = [
        *(layers if isinstance(layers, list) else []), *(manifests if isinstance(manifests, list) else [])
    ]  # fmt: skip
    if document.get("config") is not None:
        children.append(document["config"])
    return [parse_descriptor(child) for child in children]
