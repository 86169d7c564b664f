"""An OCI image layout in a directory: blobs named by their digest, one index; whole or not there, wherever cut off."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import BinaryIO

from goldsmith.artifacts import partial
from goldsmith.artifacts.manifest import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    list_children,
    parse_descriptor,
    parse_json,
    render_descriptor,
)
from goldsmith.artifacts.store import REF_NAME, SUBJECT, BlobReader, BlobSource
from goldsmith.base.digest import Digest, JsonValue, digest_bytes, render_canonical_json
from goldsmith.base.errors import LockTaken, RepositoryDamaged, RepositoryError
from goldsmith.base.events import OnBytes
from goldsmith.base.files import open_lock, sync_directory, write_atomic

PIECE = 1 << 20
LAYOUT_FILE = render_canonical_json({"imageLayoutVersion": "1.0.0"})
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DOCKER = "application/vnd.docker.distribution.manifest"
_WITH_CHILDREN = frozenset((MANIFEST_TYPE, INDEX_TYPE, f"{_DOCKER}.v2+json", f"{_DOCKER}.list.v2+json"))
"""Manifests, other tools' too, whose blobs must not be removed."""
WAIT = 60.0
"""Seconds to wait for another process that changes the index; it takes milliseconds."""
PRUNE_WAIT = 5.0
"""Seconds to wait for those that read or write before their blobs are left for the next writer to remove."""


class Layout:
    """A directory as OCI's image layout has it; other tools read it as it is.

        oci-layout              {"imageLayoutVersion":"1.0.0"}
        index.json              all images; replaced in one step, under index.lock
        blobs/sha256/<hex>      immutable; appears under its name only when it is complete and on the disk
        .goldsmith/
          index.lock            held by whoever changes index.json
          writers.lock          held shared by every writer, exclusive by whoever removes what writers have left behind
          readers.lock          held shared by whoever reads blobs, exclusive by whoever removes pruned ones
          incoming/<writer>/    a writer's blobs: half-written ones by a random name; complete ones once more (a hard
                                link) by their hex, until the index names them
          partial/              blobs that are being fetched from a registry; see partial.py
          pruned/<hex>          empty; names a blob to remove, unless the index names it, once nobody reads or writes

    The kernel drops a dead process's locks, so that whatever lies in `incoming` while nobody holds `writers.lock` is
    left over; the next writer removes it, and with it complete blobs that the index does not name. Blobs that other
    tools have put there are never removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._own = path / ".goldsmith"
        self._incoming = self._own / "incoming"
        self._pruned = self._own / "pruned"
        self.stopping = Event()

    @property
    def location(self) -> str:
        """Its path."""
        return str(self.path)

    def has_index(self) -> bool:
        """Tell whether there is a layout yet."""
        return (self.path / "index.json").is_file()

    def create(self) -> None:
        """Make an empty layout where there is none."""
        with explain_write_errors(self.path):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(parents=True, exist_ok=True)
        with explain_write_errors(self.path), self._index_lock():
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

    @contextmanager
    def open_reading(self) -> Iterator[None]:
        """Keep blobs from being pruned while the block runs, where we may lock; where not, one that goes is missed."""
        with ExitStack() as stack:
            if self._own.is_dir():
                with suppress(PermissionError, OSError):
                    lock = open_lock(self._own / "readers.lock", shared=True, timeout=WAIT, what=self.location)
                    stack.enter_context(lock)
            yield

    def list_images(self) -> list[str]:
        """Return the names of all images that the index names."""
        return sorted({image for image, _ in self._read_names()})

    def list_tags(self, image: str) -> list[str]:
        """Return an image's tags."""
        return [tag for name, tag in self._read_names() if name == image]

    def read_tags(self, image: str, tags: Sequence[str]) -> dict[str, Descriptor]:
        """Return the manifests that some tags of an image name; tags that are not there are left out."""
        names = self._read_names()
        return {tag: names[image, tag] for tag in tags if (image, tag) in names}

    def find_digest(self, image: str, digest: Digest) -> Descriptor | None:
        """Return an image's manifest by its digest."""
        named = self._read_names().items()
        return next((entry for (name, _), entry in named if (name, entry.digest) == (image, digest)), None)

    def _read_names(self) -> dict[tuple[str, str], Descriptor]:
        return list_names(self.read_index())

    def prefetch(self, manifests: Sequence[Descriptor]) -> None:
        """Do nothing: what is here is read quickly."""

    def list_referrers(self, subject: Descriptor, kind: str = "") -> list[Descriptor]:
        """Return manifests that belong to another one, those of one artifact type or all, in the order they came."""
        entries = [entry for entry in self.read_index() if entry.annotations.get(SUBJECT) == subject.digest]
        return [entry for entry in entries if kind in ("", entry.artifact_type)]

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
        with self.open_reading(), self._open_blob(descriptor) as blob:
            yield blob

    @contextmanager
    def _open_blob(self, descriptor: Descriptor) -> Iterator[BlobReader]:
        with self.open_file(descriptor) as file:
            yield BlobReader(file, descriptor)

    def open_file(self, descriptor: Descriptor) -> BinaryIO:
        """Open a blob's file; whoever reads it keeps it from being pruned, and compares it with its name.

        :raises RepositoryDamaged: it is missing.
        """
        try:
            return self.blob_path(descriptor.digest).open("rb")
        except FileNotFoundError as error:
            raise RepositoryDamaged(f"blob {descriptor.digest} is missing in {self.path}") from error

    @contextmanager
    def open_rest(self, descriptor: Descriptor, start: int) -> Iterator[BinaryIO]:
        """Read a blob's bytes from an offset on; whoever does so compares the whole with its name."""
        with self.open_reading(), self.open_file(descriptor) as file:
            file.seek(start)
            yield file

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a small blob's bytes."""
        with self.open_blob(descriptor) as blob:
            return blob.read()

    @contextmanager
    def open_writer(self) -> Iterator[Writer]:
        """Add blobs while the block runs. Those that the index does not name when it ends are removed again."""
        self.create()
        self._remove_left_over()
        folder = self._incoming / f"{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with ExitStack() as stack:
                writers = self._own / "writers.lock"
                stack.enter_context(open_lock(writers, shared=True, timeout=WAIT, what=f"the repository {self.path}"))
                yield Writer(self, folder, self._own / "partial", stack)
        finally:
            self._remove_left_over()

    def list_references(self, on_damage: Callable[[RepositoryDamaged], None] | None = None) -> Iterator[Descriptor]:
        """Yield every blob that the index leads to: manifests, their configs and layers.

        :raises RepositoryDamaged: a manifest cannot be read; or `on_damage` is told and the walk goes on.
        """
        yield from self._list_reachable(self.read_index(), on_damage)

    def _list_reachable(
        self, pending: list[Descriptor], on_damage: Callable[[RepositoryDamaged], None] | None
    ) -> Iterator[Descriptor]:
        seen = set[Digest]()
        while pending:
            descriptor = pending.pop()
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            yield descriptor
            if descriptor.media_type in _WITH_CHILDREN:
                try:
                    with self._open_blob(descriptor) as blob:  # whoever removes has locked all readers out already
                        pending += list_children(blob.read())
                except RepositoryDamaged as error:
                    if on_damage is None:
                        raise
                    on_damage(error)

    def prune(self, names: Sequence[tuple[str, str]], *, wait: float = PRUNE_WAIT) -> tuple[list[tuple[str, str]], int]:
        """Forget tags, what belongs to their manifests, and every blob that nothing refers to any more.

        A tag stays while another one that is not forgotten names the same manifest. Blobs go when nobody reads or
        writes; when somebody does so for longer than `wait` seconds, the next writer removes them. Killed anywhere, it
        leaves a whole repository.

        :returns: the tags that are gone, and how many bytes are free by now.
        """
        self.create()
        with self.open_index() as entries:
            index = LayoutNames(entries)
            gone = index.choose_unshared(names)
            going = index.list_going(gone)
            self._mark_pruned({blob.digest for blob in self._walk(going)})
            index.drop(going)
        return gone, self._remove_left_over(wait)

    def _mark_pruned(self, digests: set[Digest]) -> None:
        with explain_write_errors(self.path):
            self._pruned.mkdir(exist_ok=True)
            for digest in digests:
                (self._pruned / self.blob_path(digest).name).touch()

    def _walk(self, entries: Sequence[Descriptor]) -> Iterator[Descriptor]:
        return self._list_reachable(list(entries), lambda _damage: None)

    def verify(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Read everything that the index leads to; return what is wrong, nothing if all is well."""
        with self.open_reading():
            return self._verify(on_bytes)

    def _verify(self, on_bytes: OnBytes | None) -> list[str]:
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

    def _remove_left_over(self, wait: float = 0.0) -> int:
        """Remove what writers have left behind that are gone, and what was pruned; nothing while one is at work.

        :returns: the bytes of pruned blobs.
        """
        with suppress(LockTaken), open_lock(self._own / "writers.lock", timeout=wait):
            left_over = sorted(self._incoming.glob("*/*"))
            with suppress(RepositoryDamaged):
                self._remove_unnamed([path.name for path in left_over])
            for path in left_over:
                path.unlink(missing_ok=True)
            for folder in self._incoming.iterdir():
                folder.rmdir()
            partial.remove_old(self._own / "partial")
            return self._remove_pruned(wait)
        return 0

    def _remove_pruned(self, wait: float) -> int:
        marks = sorted(self._pruned.iterdir()) if self._pruned.is_dir() else []
        if not marks:
            return 0
        with suppress(LockTaken, RepositoryDamaged), open_lock(self._own / "readers.lock", timeout=wait):
            freed = self._remove_unnamed([mark.name for mark in marks])
            for mark in marks:
                mark.unlink(missing_ok=True)
            return freed
        return 0

    def _remove_unnamed(self, names: list[str]) -> int:
        """Remove those of some blobs that the index does not lead to, and return their bytes.

        :raises RepositoryDamaged: a manifest cannot be read, so that it is not known what it leads to; none is removed.
        """
        hexes = [name for name in names if DIGEST.fullmatch(f"sha256:{name}")]
        named = {descriptor.digest for descriptor in self.list_references()} if hexes else set()
        freed = 0
        for path in [self._blobs / name for name in hexes if Digest(f"sha256:{name}") not in named]:
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                freed += size
        return freed


def list_names(entries: Sequence[Descriptor]) -> dict[tuple[str, str], Descriptor]:
    """Return what an index's entries are named, as image and tag; only image manifests."""
    found = {}
    for entry in entries:
        image, _, tag = entry.annotations.get(REF_NAME, "").partition(":")
        if tag and entry.media_type == MANIFEST_TYPE:
            found[image, tag] = entry
    return found


class LayoutNames:
    """Tags and referrers as entries of an index that is being changed; entries of other tools stay as they are."""

    def __init__(self, entries: list[JsonValue]) -> None:
        self._entries = entries

    def _parsed(self) -> list[Descriptor]:
        return [parse_descriptor(entry) for entry in self._entries]

    def list_tags(self, image: str) -> list[str]:
        """Return an image's tags."""
        return [tag for name, tag in list_names(self._parsed()) if name == image]

    def find(self, image: str, tag: str) -> Descriptor | None:
        """Return the manifest that a tag names."""
        return list_names(self._parsed()).get((image, tag))

    def set(self, image: str, tag: str, manifest: Descriptor) -> None:
        """Let a tag name a manifest, whatever it named before."""
        annotations = {**manifest.annotations, REF_NAME: f"{image}:{tag}"}
        entry = Descriptor(
            MANIFEST_TYPE, manifest.digest, manifest.size, annotations, manifest.artifact_type, manifest.platform
        )
        self.remove(image, tag)
        self._entries.append(render_descriptor(entry))

    def remove(self, image: str, tag: str) -> None:
        """Forget a tag."""
        gone = f"{image}:{tag}"
        kept = [
            entry for entry, parsed in zip(self._entries, self._parsed(), strict=True)
            if parsed.media_type != MANIFEST_TYPE or parsed.annotations.get(REF_NAME) != gone
        ]  # fmt: skip
        self._entries[:] = kept

    def attach(self, image: str, subject: Descriptor, referrer: Descriptor) -> None:  # noqa: ARG002 - a registry needs the image
        """Let one manifest belong to another one."""
        annotations = {**referrer.annotations, SUBJECT: subject.digest}
        entry = Descriptor(MANIFEST_TYPE, referrer.digest, referrer.size, annotations, referrer.artifact_type)
        self._entries.append(render_descriptor(entry))

    def choose_unshared(self, names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of some tags whose manifest no other tag names."""
        named = list_names(self._parsed())
        staying = {entry.digest for name, entry in named.items() if name not in names}
        return [name for name in names if name in named and named[name].digest not in staying]

    def list_going(self, names: Sequence[tuple[str, str]]) -> list[Descriptor]:
        """Return the entries that go with some tags: theirs, and what belongs to their manifests."""
        named = list_names(self._parsed())
        orphans = {named[name].digest for name in names}
        return [
            entry
            for entry in self._parsed()
            if entry in (named[name] for name in names) or entry.annotations.get(SUBJECT) in orphans
        ]

    def drop(self, going: Sequence[Descriptor]) -> None:
        """Remove entries."""
        self._entries[:] = [
            entry for entry, parsed in zip(self._entries, self._parsed(), strict=True) if parsed not in going
        ]


class Writer:
    """Adds blobs to a layout, each complete and on the disk before it appears under its name."""

    def __init__(self, layout: Layout, folder: Path, partial: Path, stack: ExitStack) -> None:
        self._layout, self._folder = layout, folder
        self._partial, self._stack = partial, stack
        self._fetched: list[tuple[Descriptor, Path]] = []

    def add_bytes(self, media_type: str, data: bytes) -> Descriptor:
        """Add a small blob, also in place of a damaged one."""
        added = Descriptor(media_type, digest_bytes(data), len(data))
        with self.open_blob() as blob:
            blob.file.write(data)
            blob.keep_as(added.digest, replace=not self.has_blob("", added))
        return added

    def has_blob(self, image: str, blob: Descriptor) -> bool:  # noqa: ARG002 - a registry needs the image
        """Tell whether a blob is there and sound: it is read."""
        try:
            with self._layout.open_blob(blob) as reader:
                while reader.read(PIECE):
                    pass
        except RepositoryDamaged:
            return False
        return True

    def copy_blob(
        self,
        image: str,  # noqa: ARG002 - a registry needs the image
        blob: Descriptor,
        source: BlobSource,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Add a blob out of another store, also in place of a damaged one; from several threads at once."""
        path = self._partial / blob.digest.removeprefix("sha256:")
        if source.open_rest is not None and blob.size > PIECE and partial.lock(path, self._stack):
            with explain_write_errors(self._layout.path):
                partial.fetch(path, blob, source, on_bytes or _ignore)
            self._fetched.append((blob, path))
            return
        with self.open_blob() as new, source.open() as reader:
            while piece := reader.read(PIECE):
                new.file.write(piece)
                if on_bytes is not None:
                    on_bytes(new.file.tell())
            new.keep_as(blob.digest, replace=True)

    @contextmanager
    def open_names(self) -> Iterator[LayoutNames]:
        """Change tags and referrers; the change is made in one step when the block ends well."""
        self._place_fetched()
        with self._layout.open_index() as entries:
            yield LayoutNames(entries)

    def _place_fetched(self) -> None:
        """Give blobs their names that have come from far away; only now, so that a broken transfer keeps them."""
        while self._fetched:
            blob, path = self._fetched.pop()
            self._folder.mkdir(exist_ok=True)
            moved = self._folder / secrets.token_hex(8)
            path.replace(moved)
            with moved.open("rb") as file:
                NewBlob(self._layout, moved, file).keep_as(blob.digest, replace=True)

    @contextmanager
    def open_blob(self) -> Iterator[NewBlob]:
        """Write a blob whose digest is known at its end only; without `keep_as` it is gone when the block ends."""
        temporary = self._folder / secrets.token_hex(8)
        with explain_write_errors(self._layout.path):
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

    def keep_as(self, digest: Digest, *, replace: bool = False) -> None:
        """Give the blob its name. One that is there already stays as it is, unless it is to be replaced."""
        self.file.flush()
        os.fsync(self.file.fileno())
        final = self._layout.blob_path(digest)
        marked = self._path.with_name(final.name)
        if not replace and final.exists() and final.stat().st_size == self._path.stat().st_size:
            return
        with suppress(OSError):  # without hard links a blob that no index names is not found again, and stays
            marked.hardlink_to(self._path)
        self._path.replace(final)
        sync_directory(final.parent)


def _ignore(_done: int) -> None:
    return None


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
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
