"""Where versions are kept, seen from above: a directory (`layout.Layout`) or a registry (`remote.RegistryStore`).

A store knows blobs, tags of images, and what belongs to a manifest (OCI's referrers); what these mean is the
repository's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import BinaryIO, Protocol

from goldsmith.artifacts.compression import Readable
from goldsmith.artifacts.manifest import Descriptor
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryDamaged
from goldsmith.base.events import OnBytes

SCHEME = "oci://"
"""What the location of a repository in a registry begins with."""
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"
SUBJECT = "vnd.goldsmith.subject"
"""On a referrer's entry in the index of a directory: digest of the manifest it belongs to."""


class BlobReader:
    """A blob's bytes, compared with its name and length while they are read: the last `read` raises if they differ."""

    def __init__(self, file: Readable, descriptor: Descriptor) -> None:
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
            raise explain_damage(self._descriptor, f"it holds {self._done} bytes with {found}")


def explain_damage(blob: Descriptor, what: str) -> RepositoryDamaged:
    """Return the error of a blob that is not what its name promises."""
    return RepositoryDamaged(
        f"blob {blob.digest} is damaged: {what}",
        hint="restore the repository from a backup, or build the version again",
    )


@dataclass(frozen=True)
class BlobSource:
    """Where a blob comes from. `images` are other images that have it too: a registry may have it with one of them."""

    open: Callable[[], AbstractContextManager[BlobReader]]
    images: tuple[str, ...] = ()
    open_rest: Callable[[int], AbstractContextManager[Readable]] | None = None
    """Reads from an offset on; where that is worth while: the source is far away."""


class NewBlob(Protocol):
    """A blob that is being written into `file`."""

    file: BinaryIO

    def keep_as(self, digest: Digest) -> None:
        """Give the blob its name. One that is there already stays as it is."""
        ...


class Names(Protocol):
    """Tags and referrers of a store, open to be changed."""

    def list_tags(self, image: str) -> list[str]:
        """Return an image's tags."""
        ...

    def find(self, image: str, tag: str) -> Descriptor | None:
        """Return the manifest that a tag names."""
        ...

    def set(self, image: str, tag: str, manifest: Descriptor) -> None:
        """Let a tag name a manifest, whatever it named before."""
        ...

    def remove(self, image: str, tag: str) -> None:
        """Forget a tag."""
        ...

    def attach(self, image: str, subject: Descriptor, referrer: Descriptor) -> None:
        """Let one manifest belong to another one."""
        ...


class StoreWriter(Protocol):
    """Adds to a store. Nothing of it can be seen before its names are set."""

    def add_bytes(self, media_type: str, data: bytes) -> Descriptor:
        """Add a small blob or a manifest."""
        ...

    def open_blob(self) -> AbstractContextManager[NewBlob]:
        """Write a blob whose digest is known at its end only; without `keep_as` it is gone when the block ends."""
        ...

    def has_blob(self, image: str, blob: Descriptor) -> bool:
        """Tell whether a blob is there and sound, as far as that can be known without sending it."""
        ...

    def copy_blob(self, image: str, blob: Descriptor, source: BlobSource, on_bytes: OnBytes | None = None) -> None:
        """Add a blob out of another store; from several threads at once.

        :param image: the image that it is for.
        :param on_bytes: called with the bytes of this blob that are done; fewer than before when it begins anew.
        :raises RepositoryDamaged: the source is not what its digest promises; nothing of it is kept.
        """
        ...

    def open_names(self) -> AbstractContextManager[Names]:
        """Change tags and referrers; the change is made when the block ends well."""
        ...


class Store(Protocol):
    """Blobs, tags, referrers. Reading needs no lock: what a tag leads to is complete and never changes."""

    @property
    def location(self) -> str:
        """What a person calls it: a path, or `oci://host/path`."""
        ...

    @property
    def stopping(self) -> Event:
        """While it is set nothing is tried again that failed: somebody wants to end soon."""
        ...

    def open_reading(self) -> AbstractContextManager[None]:
        """Keep what is named now from being removed while the block runs."""
        ...

    def list_images(self) -> list[str]:
        """Return the names of all images."""
        ...

    def list_tags(self, image: str) -> list[str]:
        """Return an image's tags."""
        ...

    def read_tags(self, image: str, tags: Sequence[str]) -> dict[str, Descriptor]:
        """Return the manifests that some tags of an image name; tags that are not there are left out."""
        ...

    def find_digest(self, image: str, digest: Digest) -> Descriptor | None:
        """Return an image's manifest by its digest."""
        ...

    def list_referrers(self, subject: Descriptor, kind: str = "") -> list[Descriptor]:
        """Return manifests that belong to another one, those of one artifact type or all, in the order they came."""
        ...

    def prefetch(self, manifests: Sequence[Descriptor]) -> None:
        """Prepare for some manifests being read one by one."""
        ...

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[BlobReader]:
        """Read a blob or manifest; what is read is compared with its name."""
        ...

    def open_rest(self, descriptor: Descriptor, start: int) -> AbstractContextManager[Readable]:
        """Read a blob's bytes from an offset on; whoever does so compares the whole with its name."""
        ...

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a small blob's bytes, or a manifest's."""
        ...

    def open_writer(self) -> AbstractContextManager[StoreWriter]:
        """Add to the store while the block runs."""
        ...

    def prune(self, names: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], int]:
        """Forget tags (image and tag), what belongs to their manifests, and blobs that nothing refers to any more.

        :returns: the tags that are gone, and how many bytes are free by now.
        """
        ...

    def verify(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Read everything that a tag leads to; return what is wrong, nothing if all is well."""
        ...
