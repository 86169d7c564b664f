"""The repository: versions named `NAME:YYYYMMDD.N`, immutable, each with the record of what it was made of.

A version is an OCI image under its name, so that `skopeo inspect oci:DIR:NAME:TAG` finds it; its record is a manifest
of its own that has the image for its `subject` (OCI 1.1, referrers). A channel is one more tag of the same image, which
may be moved: `NAME:stable`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from goldsmith.artifacts.archive import Times
from goldsmith.artifacts.layers import DUMP_TRACES, Layer, write_layers
from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.manifest import (
    CONFIG_TYPE,
    EMPTY,
    EMPTY_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    ImageConfig,
    Manifest,
    parse_config,
    parse_manifest,
    render_config,
    render_manifest,
)
from goldsmith.artifacts.record import MEDIA_TYPE as RECORD_TYPE
from goldsmith.artifacts.record import BuildRecord, parse_record, parse_time, render_record, render_time
from goldsmith.artifacts.store import CREATED, SCHEME, BlobReader, Names, Store, StoreWriter
from goldsmith.base.digest import Digest
from goldsmith.base.errors import (
    FilesElsewhere,
    RepositoryDamaged,
    RepositoryError,
    UsageError,
    VersionExists,
    VersionNotFound,
)
from goldsmith.base.events import OnBytes

if TYPE_CHECKING:
    from goldsmith.artifacts.http import RegistryOptions

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
VERSION = "org.opencontainers.image.version"
BACKUP, BACKUP_SIZE = "vnd.goldsmith.backup.volume", "vnd.goldsmith.backup.size"
NAME = re.compile(r"[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*")
_ATTEMPTS = 4
"""Numbers that are tried for a version in a registry."""
_REFERENCE = re.compile(rf"(?:image:)?(?P<name>{NAME.pattern}):[A-Za-z0-9_.-]+")
TAG = re.compile(r"(?P<day>\d{8})\.(?P<number>[1-9]\d*)")


@dataclass(frozen=True)
class Version:
    """One built image. `size` is that of its packed layers, or of the backup that it is, in bytes; `created` in UTC."""

    name: str
    tag: str
    digest: Digest
    created: datetime
    size: int
    layers: tuple[Descriptor, ...]
    config: Descriptor
    base_digest: str = ""
    """Of what it was built on; that of a version's manifest where it was built on one."""
    base_name: str = ""
    """What it was built on: the name of a version, of a file, of a volume."""
    backup: str = ""
    """The volume on its node that it is, where none of its files are in the repository."""

    @property
    def day(self) -> str:
        """The day in its tag: `20261123`."""
        return self.tag.partition(".")[0]

    @property
    def number(self) -> int:
        """Its number among the versions of its day."""
        return _tag_key(self.tag)[1]

    @property
    def reference(self) -> str:
        """Its whole name: `debian-12-docker:20261123.1`."""
        return f"{self.name}:{self.tag}"

    def __str__(self) -> str:
        return self.reference


@dataclass(frozen=True)
class Attached:
    """Something that belongs to a version: a manifest of its own, of which `digest` is the name."""

    digest: Digest
    annotations: Mapping[str, str]
    parts: tuple[Descriptor, ...]

    def get_part(self, media_type: str) -> Descriptor:
        """Return its first part of a media type.

        :raises RepositoryDamaged: there is none.
        """
        for part in self.parts:
            if part.media_type == media_type:
                return part
        raise RepositoryDamaged(f"{self.digest} has no part '{media_type}'")


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """What a version is made from. `layers` have been added with the same writer; `day` names it."""

    name: str
    layers: tuple[Layer, ...]
    record: BuildRecord
    architecture: str = "amd64"
    title: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    day: date | None = None
    """The day in its name; that of `record.finished` in UTC by default."""
    backup: str = ""
    """The volume on its node that it is, where it has no layers."""
    backup_size: int = 0
    """Of that volume, in bytes."""


def check_has_files(version: Version) -> None:
    """Refuse a version whose files nobody can read.

    :raises FilesElsewhere: it is a backup on its node.
    """
    if version.backup:
        raise FilesElsewhere(
            f"{version} is the backup {version.backup} on its node: its files are not in the repository",
            hint="guests are made from it there; to have its files, build it with without_shell: upload, or by a shell",
        )


def check_name(name: str) -> str:
    """Return an image's name.

    :raises UsageError: it cannot be the name of a version.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name for an image", hint="letters and digits, with single . - _ between them")
    return name


def _tag_key(tag: str) -> tuple[str, int]:
    found = TAG.fullmatch(tag)
    return (found["day"], int(found["number"])) if found else ("", 0)


def _order(version: Version) -> tuple[str, tuple[str, int]]:
    return version.name, _tag_key(version.tag)


class RepositoryWriter:
    """Adds one version: its layers first, then the version itself. Nothing of it can be seen before `put` is done."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer

    def add_layers(
        self, source: BinaryIO, *, drop: Iterable[str] = DUMP_TRACES, times: Times | None = None,
        on_bytes: OnBytes | None = None, known: Mapping[Digest, Descriptor] | None = None,
    ) -> tuple[Layer, ...]:  # fmt: skip
        """Add a container archive, divided into layers; see `layers.write_layers`.

        :param known: blobs of an earlier version by what they unpack to (`Repository.list_diff_ids`): what is among
            them, and sound, is not packed again.
        """

        def find_known(diff_id: Digest) -> Layer | None:
            blob = (known or {}).get(diff_id)
            if blob is None or not self._writer.has_blob("", blob):
                return None
            return Layer(blob.digest, blob.size, diff_id, 0, 0)

        return write_layers(
            source, self._writer.open_blob, drop=drop, times=times, on_bytes=on_bytes,
            find_known=find_known if known else None,
        )  # fmt: skip

    def put(self, new: NewVersion) -> Version:
        """Store a version under the next free number of its day. Image and record appear in one step.

        :raises VersionExists: others took each number that was tried; only a registry, which has no locks, can do that.
        """
        for _ in range(_ATTEMPTS - 1):
            with suppress(VersionExists):
                return self._put(new)
        return self._put(new)

    def _put(self, new: NewVersion) -> Version:
        name = check_name(new.name)
        day = (new.day or new.record.finished.astimezone(UTC).date()).strftime("%Y%m%d")
        config = self._writer.add_bytes(CONFIG_TYPE, render_config(_make_config(new)))
        record = self._writer.add_bytes(RECORD_TYPE, render_record(new.record))
        with self._writer.open_names() as names:
            tag = f"{day}.{_next_number(names, name, day)}"
            manifest = _make_manifest(new, tag, config)
            image = _describe_image(self._writer.add_bytes(MANIFEST_TYPE, render_manifest(manifest)), new)
            names.set(name, tag, image)
            names.attach(name, image, _add_referrer(self._writer, RECORD_TYPE, (record,), {}, image))
        return _make_version(name, tag, image.digest, manifest)


def _make_manifest(new: NewVersion, tag: str, config: Descriptor) -> Manifest:
    record = new.record
    annotations = {
        CREATED: render_time(record.finished),
        "org.opencontainers.image.title": new.title or new.name,
        VERSION: tag,
        BASE_NAME: record.base_name,
        BASE_DIGEST: record.base_digest,
        "org.opencontainers.image.revision": record.git.commit if record.git else "",
        BACKUP: new.backup,
        BACKUP_SIZE: str(new.backup_size) if new.backup else "",
    }
    given = {key: text for key, text in annotations.items() if text}
    return Manifest(config, tuple(layer.descriptor for layer in new.layers), given)


def _describe_image(added: Descriptor, new: NewVersion) -> Descriptor:
    annotations = {CREATED: render_time(new.record.finished)}
    platform = {"architecture": new.architecture, "os": "linux"}
    return replace(added, annotations=annotations, platform=platform)


class Repository:
    """Versions in a store. Reading needs no lock: what a name leads to is complete and never changes."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def location(self) -> str:
        """What a person calls it: a path, or `oci://host/path`."""
        return self.store.location

    @property
    def path(self) -> Path:
        """The directory it is in.

        :raises UsageError: it is a registry.
        """
        if isinstance(self.store, Layout):
            return self.store.path
        raise UsageError(f"{self.location} is no directory", hint="pull the version into a directory first")

    @property
    def is_local(self) -> bool:
        """Whether it is a directory."""
        return isinstance(self.store, Layout)

    @contextmanager
    def open_writer(self) -> Iterator[RepositoryWriter]:
        """Add versions while the block runs; layers that no version names when it ends are removed again."""
        with self.store.open_writer() as writer:
            yield RepositoryWriter(writer)

    def list_names(self) -> list[str]:
        """Return the names of all images that have versions here."""
        return [name for name in self.store.list_images() if NAME.fullmatch(name)]

    def list_versions(self, name: str | None = None) -> list[Version]:
        """Return all versions, or those of one image, by name and age: the newest of a name comes last."""
        with self.store.open_reading():
            found = [version for image in self._choose(name) for version in self._read_versions(image)]
        return sorted(found, key=_order)

    def _choose(self, name: str | None) -> list[str]:
        if name is None:
            return self.list_names()
        return [name] if NAME.fullmatch(name) else []

    def _read_versions(self, name: str) -> Iterator[Version]:
        tags = [tag for tag in self.store.list_tags(name) if TAG.fullmatch(tag)]
        images = self.store.read_tags(name, tags)
        self.store.prefetch(list(images.values()))
        for tag, image in images.items():
            yield self._read_version(name, tag, image)

    def find_version(self, reference: str) -> Version | None:
        """Find a version by `NAME:TAG`, by a channel as `NAME:stable`, or the newest of `NAME`."""
        name, _, tag = reference.partition(":")
        if not NAME.fullmatch(name):
            return None
        with self.store.open_reading():
            tag = tag or max(filter(TAG.fullmatch, self.store.list_tags(name)), key=_tag_key, default="")
            image = self.store.read_tags(name, [tag]).get(tag) if tag else None
            return None if image is None else self._read_version(name, tag, image)

    def get_version(self, reference: str) -> Version:
        """Return a version by `NAME:TAG`, by a channel as `NAME:stable`, or the newest of `NAME`.

        :raises VersionNotFound: there is none; the hint names what comes near.
        """
        version = self.find_version(reference)
        if version is None:
            known = self._list_known()
            near = difflib.get_close_matches(reference, [*known, *{name.partition(":")[0] for name in known}], n=3)
            hint = f"near it: {', '.join(near)}" if near else "`goldsmith images` lists what there is"
            raise VersionNotFound(f"{self.location} has no version '{reference}'", hint=hint)
        return version

    def _list_known(self) -> list[str]:
        """Return what could have been meant; nothing where a registry does not tell."""
        try:
            return [f"{name}:{tag}" for name in self.list_names() for tag in self.store.list_tags(name)]
        except RepositoryError:
            return []

    def find_base(self, version: Version) -> Version | None:
        """Return the version that a version is built on; None when it is none of this repository.

        What it is said to be built on tells where to look; what counts is the digest.
        """
        if not version.base_digest:
            return None
        named = _REFERENCE.fullmatch(version.base_name)
        names = [named["name"]] if named else self.list_names() if self.is_local else []
        with self.store.open_reading():
            found = [(name, self.store.find_digest(name, Digest(version.base_digest))) for name in names]
            return next((self._read_version(name, "", image) for name, image in found if image is not None), None)

    def _read_version(self, name: str, tag: str, image: Descriptor) -> Version:
        manifest = parse_manifest(self.store.read_blob(image))
        own = tag if TAG.fullmatch(tag) else manifest.annotations.get(VERSION, tag)
        return _make_version(name, own, image.digest, manifest)

    def read_record(self, version: Version) -> BuildRecord:
        """Return what a version was made of.

        :raises VersionNotFound: nobody has recorded it (the image was put there by another tool).
        """
        attached = self.list_attached(version, RECORD_TYPE)
        if not attached:
            raise VersionNotFound(f"{version} has no build record")
        return parse_record(self.store.read_blob(attached[0].parts[0]))

    def list_diff_ids(self, version: Version) -> dict[Digest, Descriptor]:
        """Return a version's layers by the digest of what they unpack to."""
        return dict(zip(self.read_config(version).diff_ids, version.layers, strict=True))

    def read_config(self, version: Version) -> ImageConfig:
        """Return a version's image config."""
        return parse_config(self.store.read_blob(version.config))

    def attach(
        self, version: Version, kind: str, parts: Mapping[str, bytes], annotations: Mapping[str, str]
    ) -> Attached:
        """Add something that belongs to a version: a manifest that has it for its subject. It appears in one step.

        :param kind: its artifact type.
        :param parts: its small blobs, by media type.
        :raises VersionNotFound: the version has gone.
        """
        with self.store.open_writer() as writer:
            layers = tuple(writer.add_bytes(media_type, data) for media_type, data in parts.items())
            with writer.open_names() as names:
                image = self.check_present(names, version)
                added = _add_referrer(writer, kind, layers, annotations, image)
                names.attach(version.name, image, added)
        return Attached(added.digest, dict(annotations), tuple(replace(layer, home=version.name) for layer in layers))

    def check_present(self, names: Names, version: Version) -> Descriptor:
        """Return a version's entry while names can be changed.

        :raises VersionNotFound: the version has gone.
        """
        entry = names.find(version.name, version.tag)
        if entry is None or entry.digest != version.digest:
            raise VersionNotFound(f"{version} is no longer in {self.location}")
        return Descriptor(entry.media_type, entry.digest, entry.size, home=entry.home)

    def list_attached(self, version: Version, kind: str) -> list[Attached]:
        """Return what of one kind belongs to a version; the newest comes last."""
        with self.store.open_reading():
            found = [self._read_attached(version, entry) for entry in self.list_referrers(version, kind)]
        return sorted(found, key=lambda attached: attached.annotations.get(CREATED, ""))

    def list_referrers(self, version: Version, kind: str = "") -> list[Descriptor]:
        """Return the manifests that belong to a version, of one kind or all, in the order they came."""
        return self.store.list_referrers(Descriptor(MANIFEST_TYPE, version.digest, 0, home=version.name), kind)

    def get_image(self, version: Version) -> Descriptor:
        """Return a version's manifest as the store names it.

        :raises VersionNotFound: the version has gone.
        """
        entry = self.store.read_tags(version.name, [version.tag]).get(version.tag)
        if entry is None or entry.digest != version.digest:
            raise VersionNotFound(f"{version} is no longer in {self.location}")
        return entry

    def _read_attached(self, version: Version, entry: Descriptor) -> Attached:
        manifest = parse_manifest(self.store.read_blob(entry)).at_home(version.name)
        return Attached(entry.digest, dict(manifest.annotations), manifest.layers)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BlobReader]:
        """Read a layer's packed bytes; they are compared with their digest on the way."""
        with self.store.open_blob(descriptor) as blob:
            yield blob

    def verify(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Read everything back and compare it with its names; return what is wrong, nothing if all is well."""
        return self.store.verify(on_bytes)


def open_repository(location: Path | str, options: RegistryOptions | None = None) -> Repository:
    """Return the repository in a directory, which is made with the first version; or in a registry.

    :param location: a directory, or `oci://host[:port]/path`.
    :param options: how a registry is talked to; without credentials these are looked for where logins are kept.
    :raises UsageError: it is no place in a registry.
    """
    if isinstance(location, str) and location.startswith(SCHEME):
        from goldsmith.artifacts.remote import open_registry  # HTTP takes a while to import

        return Repository(open_registry(location, options))
    return Repository(Layout(Path(location)))


def _add_referrer(
    writer: StoreWriter, kind: str, parts: tuple[Descriptor, ...], annotations: Mapping[str, str], image: Descriptor
) -> Descriptor:
    """Add a manifest that has an image for its subject (OCI 1.1), and return its descriptor."""
    empty = writer.add_bytes(EMPTY_TYPE, EMPTY)
    subject = Descriptor(image.media_type, image.digest, image.size)
    added = writer.add_bytes(MANIFEST_TYPE, render_manifest(Manifest(empty, parts, annotations, kind, subject)))
    return replace(added, artifact_type=kind)


def _make_config(new: NewVersion) -> ImageConfig:
    return ImageConfig(
        created=render_time(new.record.finished),
        architecture=new.architecture,
        diff_ids=tuple(layer.diff_id for layer in new.layers),
        history=tuple(f"goldsmith build {new.record.image}" for _ in new.layers),
        labels=new.labels,
    )


def _next_number(names: Names, name: str, day: str) -> int:
    keys = [_tag_key(tag) for tag in names.list_tags(name)]
    return max((number for other, number in keys if other == day), default=0) + 1


def _make_version(name: str, tag: str, digest: Digest, manifest: Manifest) -> Version:
    manifest = manifest.at_home(name)
    notes, size = manifest.annotations, sum(layer.size for layer in manifest.layers)
    return Version(
        name, tag, digest, parse_time(notes.get(CREATED, "")), size + int(notes.get(BACKUP_SIZE, "0")), manifest.layers,
        manifest.config, notes.get(BASE_DIGEST, ""), notes.get(BASE_NAME, ""), notes.get(BACKUP, ""),
    )  # fmt: skip
