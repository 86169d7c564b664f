"""A registry as a store: `oci://host/path` holds each image under `path/NAME`, its versions and channels as tags.

What differs from a directory: two processes that add to the same list of referrers at the same moment can lose one of
them (distribution-spec, "Referrers Tag Schema"; a registry with a referrers API keeps the list itself), and room is
freed by the registry's own garbage collection.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from goldsmith.artifacts.credentials import find_credentials
from goldsmith.artifacts.http import RegistryError, RegistryOptions
from goldsmith.artifacts.layout import explain_write_errors
from goldsmith.artifacts.manifest import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    list_children,
    parse_manifest,
    render_descriptor,
)
from goldsmith.artifacts.registry import Download, Registry, name_referrers_tag
from goldsmith.artifacts.store import SCHEME, BlobReader, BlobSource
from goldsmith.base.digest import Digest, digest_bytes, render_canonical_json
from goldsmith.base.errors import RepositoryDamaged, RepositoryError, UsageError, VersionExists
from goldsmith.base.events import OnBytes

PIECE = 1 << 20
_LOCATION = re.compile(
    r"(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::\d+)?)(?P<path>(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)/?"
)
_IMAGE = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
"""How registries name images (distribution-spec, "Pulling manifests")."""
_VERSION = re.compile(r"\d{8}\.\d+")
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}")
_PULLED = re.compile(r"\d{8}\.[1-9]\d*-[0-9a-f]{16}")
"""Tags by which nodes pull a version (`pulling.py`): they go with it."""
_MOST_MOUNTS = 4
"""Images that are asked for a blob before it is sent."""
_T = TypeVar("_T")
_R = TypeVar("_R")


def parse_location(location: str) -> tuple[str, str]:
    """Split `oci://host[:port]/path` into host and path.

    :raises UsageError: it is none.
    """
    found = _LOCATION.fullmatch(location.removeprefix(SCHEME))
    if not location.startswith(SCHEME) or found is None:
        hint = "oci://registry.example.org/path, the path in small letters"
        raise UsageError(f"'{location}' is no place in a registry", hint=hint)
    return found["host"], found["path"].strip("/")


class RegistryStore:
    """Versions in a registry. Manifests that have been read are remembered: their digests are their names."""

    def __init__(self, location: str, options: RegistryOptions) -> None:
        host, self._path = parse_location(location)
        self.registry = Registry(host, options)
        self._manifests: dict[Digest, bytes] = {}
        self.stopping = self.registry.http.stopping

    @property
    def location(self) -> str:
        """`oci://host/path`."""
        return f"{SCHEME}{self.registry.host}/{self._path}".rstrip("/")

    def get_path(self, image: str) -> str:
        """Return what the registry calls an image.

        :raises UsageError: a registry cannot have an image of that name.
        """
        if not _IMAGE.fullmatch(image):
            hint = "small letters and digits, with . _ - between them"
            raise UsageError(f"no registry takes an image named '{image}'", hint=hint)
        return f"{self._path}/{image}".lstrip("/")

    def open_reading(self) -> AbstractContextManager[None]:
        """Hold nothing: a registry has no locks."""
        return nullcontext()

    def close(self) -> None:
        """Close the connections."""
        self.registry.http.close()

    def spread(self, work: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Do something to each of many, several at a time, and return what came of it in the same order."""
        if len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(self.registry.options.parallel) as pool:
            return list(pool.map(work, items))

    # --- names

    def list_images(self) -> list[str]:
        """Return the names of all images below our path.

        :raises RegistryError: the registry does not tell.
        """
        try:
            known = self.registry.list_images()
        except RegistryError as error:
            if error.status not in (401, 403, 404, 405):
                raise
            said = f"{self.location} does not tell what it holds"
            raise RegistryError(said, status=error.status, hint="name the image") from error
        start = f"{self._path}/".lstrip("/")
        ours = [name.removeprefix(start) for name in known if name.startswith(start)]
        return sorted(name for name in ours if "/" not in name)

    def list_tags(self, image: str) -> list[str]:
        """Return an image's tags."""
        return self.registry.list_tags(self.get_path(image))

    def read_tags(self, image: str, tags: Sequence[str]) -> dict[str, Descriptor]:
        """Return the manifests that some tags of an image name; tags that are not there are left out."""
        found = self.spread(lambda tag: self.find_tag(image, tag), tags)
        return {tag: manifest for tag, manifest in zip(tags, found, strict=True) if manifest is not None}

    def find_tag(self, image: str, tag: str) -> Descriptor | None:
        """Return the manifest that a tag names."""
        found = self.registry.find_manifest(self.get_path(image), tag)
        return None if found is None else replace(found, home=image)

    def find_digest(self, image: str, digest: Digest) -> Descriptor | None:
        """Return an image's manifest by its digest."""
        return self.find_tag(image, digest) if _IMAGE.fullmatch(image) else None

    def list_referrers(self, subject: Descriptor, kind: str = "") -> list[Descriptor]:
        """Return manifests that belong to another one, those of one artifact type or all, in the order they came."""
        found = self.registry.list_referrers(self.get_path(_home(subject)), subject.digest)
        return [replace(entry, home=subject.home) for entry in found if kind in ("", entry.artifact_type)]

    # --- blobs

    def prefetch(self, manifests: Sequence[Descriptor]) -> None:
        """Read some manifests, several at a time, and remember them."""
        self.spread(self.read_blob, manifests)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BlobReader]:
        """Read a blob; what is read is compared with its name."""
        with self.open_rest(descriptor, 0) as download:
            yield BlobReader(download, descriptor)

    @contextmanager
    def open_rest(self, descriptor: Descriptor, start: int) -> Iterator[Download]:
        """Read a blob's bytes from an offset on; whoever does so compares the whole with its name."""
        download = self.registry.open_blob(self.get_path(_home(descriptor)), descriptor, start)
        try:
            yield download
        finally:
            download.close()

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a small blob's bytes, or a manifest's."""
        if descriptor.media_type not in (MANIFEST_TYPE, INDEX_TYPE):
            with self.open_blob(descriptor) as blob:
                return blob.read()
        if descriptor.digest not in self._manifests:
            path = self.get_path(_home(descriptor))
            self._manifests[descriptor.digest] = self.registry.read_manifest(path, descriptor.digest)
        return self._manifests[descriptor.digest]

    @contextmanager
    def open_writer(self) -> Iterator[RegistryWriter]:
        """Add to the registry while the block runs. What is not sent yet waits in a directory for temporary files."""
        with tempfile.TemporaryDirectory(prefix="goldsmith-") as folder:
            yield RegistryWriter(self, Path(folder))

    # --- the whole

    def prune(self, names: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], int]:
        """Forget tags and what belongs to their manifests. The registry's garbage collection frees the room.

        A tag stays while another one that is not forgotten names the same manifest.

        :returns: the tags that are gone, and 0 bytes.
        :raises RegistryError: the registry lets nothing be deleted.
        """
        gone: list[tuple[str, str]] = []
        for image in dict.fromkeys(image for image, _ in names):
            named = self.read_tags(image, self.list_tags(image))
            going = [tag for name, tag in names if name == image and tag in named]
            staying = {entry.digest for tag, entry in named.items() if tag not in going and not _PULLED.fullmatch(tag)}
            for tag in going:
                if named[tag].digest not in staying:
                    self._delete(image, named[tag])
                    gone.append((image, tag))
        return gone, 0

    def _delete(self, image: str, manifest: Descriptor) -> None:
        """Delete a manifest, then what belongs to it: a version must not be there without its revocation."""
        path = self.get_path(image)
        referrers = self.list_referrers(manifest)
        listed = self.registry.find_manifest(path, name_referrers_tag(manifest.digest))
        for entry in [manifest, *([listed] if listed is not None else []), *referrers]:
            self.registry.delete_manifest(path, entry.digest)
            self._manifests.pop(entry.digest, None)

    def verify(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Read everything that our images' tags lead to; return what is wrong, nothing if all is well."""
        problems: list[str] = []
        seen: set[Digest] = set()
        done = 0
        pending = [entry for image in self.list_images() for entry in self._list_roots(image, problems)]
        while pending:
            entry = pending.pop()
            if entry.digest in seen:
                continue
            seen.add(entry.digest)
            try:
                pending += self._check(entry)
            except (RepositoryDamaged, RegistryError) as error:
                problems.append(error.message)
            done += entry.size
            if on_bytes is not None:
                on_bytes(done)
        return sorted(problems)

    def _list_roots(self, image: str, problems: list[str]) -> list[Descriptor]:
        """Return what an image's tags name and what belongs to that; tags that lead nowhere are problems."""
        roots: list[Descriptor] = []
        for tag in [tag for tag in self.list_tags(image) if not _REFERRERS.fullmatch(tag)]:
            try:
                found = self.find_tag(image, tag)
                if found is None:
                    problems.append(f"{image}:{tag} names a manifest that is missing in {self.location}")
                else:
                    roots += [found, *self.list_referrers(found)]
            except (RepositoryDamaged, RegistryError) as error:
                problems.append(error.message)
        return roots

    def _check(self, entry: Descriptor) -> list[Descriptor]:
        """Read a blob or manifest, and return what it leads to."""
        if entry.media_type in (MANIFEST_TYPE, INDEX_TYPE):
            content = self.registry.read_manifest(self.get_path(_home(entry)), entry.digest)
            return [replace(child, home=entry.home) for child in list_children(content)]
        with self.open_blob(entry) as blob:
            while blob.read(PIECE):
                pass
        return []


def open_registry(location: str, options: RegistryOptions | None = None) -> RegistryStore:
    """Return the store in a registry; without credentials these are looked for where logins are kept.

    :raises UsageError: it is no place in a registry.
    """
    host, path = parse_location(location)
    given = options or RegistryOptions()
    if given.credentials is None:
        given = replace(given, credentials=find_credentials(host, path, os.environ, Path.home()))
    return RegistryStore(location, given)


def _home(descriptor: Descriptor) -> str:
    if not descriptor.home:
        raise RepositoryError(f"{descriptor.digest} was not read from a registry; it is not known where it lies there")
    return descriptor.home


class RegistryWriter:
    """Adds to a registry. Blobs may be sent at any time; manifests and tags follow when names are set."""

    def __init__(self, store: RegistryStore, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._small: dict[Digest, bytes] = {}

    def add_bytes(self, media_type: str, data: bytes) -> Descriptor:
        """Add a small blob or a manifest."""
        digest = digest_bytes(data)
        self._small[digest] = data
        return Descriptor(media_type, digest, len(data))

    @contextmanager
    def open_blob(self) -> Iterator[SpooledBlob]:
        """Write a blob whose digest is known at its end only; without `keep_as` it is gone when the block ends."""
        path = self._folder / secrets.token_hex(8)
        try:
            with explain_write_errors(self._folder), path.open("x+b") as file:
                yield SpooledBlob(path, file)
        finally:
            path.unlink(missing_ok=True)

    def has_blob(self, image: str, blob: Descriptor) -> bool:
        """Tell whether a blob is there, in its full length."""
        return self._store.registry.has_blob(self._store.get_path(image), blob)

    def copy_blob(self, image: str, blob: Descriptor, source: BlobSource, on_bytes: OnBytes | None = None) -> None:
        """Send a blob out of another store; or nothing, where the registry has it with another image."""
        mount_from = self._find_neighbour(image, blob, source.images)
        self._store.registry.put_blob(self._store.get_path(image), blob, source.open, on_bytes, mount_from)

    def _find_neighbour(self, image: str, blob: Descriptor, images: Sequence[str]) -> str:
        others = [other for other in images if other != image and _IMAGE.fullmatch(other)]
        for other in others[:_MOST_MOUNTS]:
            path = self._store.get_path(other)
            if self._store.registry.has_blob(path, blob):
                return path
        return ""

    @contextmanager
    def open_names(self) -> Iterator[RegistryNames]:
        """Change tags and referrers; sent when the block ends well: blobs, images, what belongs to them, tags last."""
        names = RegistryNames(self._store)
        yield names
        self._check_free(names)
        for image, manifest in names.list_manifests():
            self._send_children(image, manifest)
        for image, manifest in names.list_manifests():
            self._send_manifest(image, manifest)
        for image, subject, referrer in names.attached:
            self._list_referrer(image, subject, referrer)
        self._check_free(names)  # once more: sending has taken its time
        for image, tag in names.removed:
            self._store.registry.delete_manifest(self._store.get_path(image), tag)
        for (image, tag), manifest in names.tags.items():
            content = self._get_content(image, manifest)
            self._store.registry.put_manifest(self._store.get_path(image), tag, manifest.media_type, content)

    def _check_free(self, names: RegistryNames) -> None:
        """See that no version's name is given to another image. A registry cannot lock: this is the best there is."""
        for (image, tag), manifest in names.tags.items():
            found = self._store.find_tag(image, tag) if _VERSION.fullmatch(tag) else None
            if found is not None and found.digest != manifest.digest:
                raise VersionExists(f"{self._store.location} has another {image}:{tag} already", hint="try again")

    def _get_content(self, image: str, manifest: Descriptor) -> bytes:
        if manifest.digest in self._small:
            return self._small[manifest.digest]
        return self._store.read_blob(replace(manifest, home=image))

    def _send_children(self, image: str, manifest: Descriptor) -> None:
        """Send those blobs of a manifest that wait here, as far as they are missing there."""
        if manifest.digest not in self._small:
            return
        children = {blob.digest: blob for blob in list_children(self._small[manifest.digest])}
        waiting = [blob for blob in children.values() if self._find_source(blob) is not None]
        self._store.spread(lambda blob: self._send(image, blob), waiting)

    def _send(self, image: str, blob: Descriptor) -> None:
        source = self._find_source(blob)
        if source is not None and not self.has_blob(image, blob):
            self.copy_blob(image, blob, source)

    def _find_source(self, blob: Descriptor) -> BlobSource | None:
        path = self._folder / blob.digest.removeprefix("sha256:")
        if blob.digest in self._small and not path.exists():
            path.write_bytes(self._small[blob.digest])
        return BlobSource(lambda: _open_file(path, blob)) if path.exists() else None

    def _send_manifest(self, image: str, manifest: Descriptor) -> None:
        if manifest.digest in self._small:
            path = self._store.get_path(image)
            content = self._small[manifest.digest]
            if self._store.registry.put_manifest(path, manifest.digest, manifest.media_type, content):
                self._keeps_referrers = True

    _keeps_referrers = False
    """Whether the registry said that it keeps lists of referrers itself."""

    def _list_referrer(self, image: str, subject: Descriptor, referrer: Descriptor) -> None:
        """Add to the list of referrers that clients keep, where the registry keeps none; once more if it was lost."""
        if self._keeps_referrers:
            return
        path = self._store.get_path(image)
        annotations = parse_manifest(self._get_content(image, referrer)).annotations
        entry = Descriptor(
            MANIFEST_TYPE, referrer.digest, referrer.size, annotations, artifact_type=referrer.artifact_type
        )  # fmt: skip
        for _ in range(3):
            listed = self._store.registry.read_referrers_tag(path, subject.digest)
            if entry.digest in {other.digest for other in listed}:
                return
            content = _render_index([*listed, entry])
            self._store.registry.put_manifest(path, name_referrers_tag(subject.digest), INDEX_TYPE, content)


@dataclass
class RegistryNames:
    """Tags and referrers to be set in a registry."""

    store: RegistryStore
    tags: dict[tuple[str, str], Descriptor] = field(default_factory=dict)
    removed: list[tuple[str, str]] = field(default_factory=list)
    attached: list[tuple[str, Descriptor, Descriptor]] = field(default_factory=list)

    def list_tags(self, image: str) -> list[str]:
        """Return an image's tags."""
        return self.store.list_tags(image)

    def find(self, image: str, tag: str) -> Descriptor | None:
        """Return the manifest that a tag names."""
        return self.store.find_tag(image, tag)

    def set(self, image: str, tag: str, manifest: Descriptor) -> None:
        """Let a tag name a manifest, whatever it named before."""
        self.tags[image, tag] = manifest

    def remove(self, image: str, tag: str) -> None:
        """Forget a tag; older registries cannot."""
        self.removed.append((image, tag))

    def attach(self, image: str, subject: Descriptor, referrer: Descriptor) -> None:
        """Let one manifest belong to another one."""
        self.attached.append((image, subject, referrer))

    def list_manifests(self) -> list[tuple[str, Descriptor]]:
        """Return the images that are named, then what belongs to some: a registry may ask for a subject first."""
        named = [(image, manifest) for (image, _), manifest in self.tags.items()]
        return named + [(image, referrer) for image, _, referrer in self.attached]


class SpooledBlob:
    """A blob that is being written into `file`, to be sent later."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.file = file
        self._path = path

    def keep_as(self, digest: Digest) -> None:
        """Give the blob its name."""
        self.file.flush()
        self._path.replace(self._path.with_name(digest.removeprefix("sha256:")))


@contextmanager
def _open_file(path: Path, blob: Descriptor) -> Iterator[BlobReader]:
    with path.open("rb") as file:
        yield BlobReader(file, blob)


def _render_index(entries: Sequence[Descriptor]) -> bytes:
    listed = [render_descriptor(entry) for entry in entries]
    return render_canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": listed})
