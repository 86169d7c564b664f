"""The repository: versions named `NAME:YYYYMMDD.N`, immutable, each with the record of what it was made of.

A version is an OCI image in the layout's index under its name, so that `skopeo inspect oci:DIR:NAME:TAG` finds it; its
record is a manifest of its own that has the image for its `subject` (OCI 1.1, referrers).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

from goldsmith.artifacts.layers import DUMP_TRACES, Layer, OnBytes, write_layer
from goldsmith.artifacts.layout import BlobReader, Layout, Writer
from goldsmith.artifacts.manifest import (
    CONFIG_TYPE,
    EMPTY,
    EMPTY_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    ImageConfig,
    Manifest,
    describe_layer,
    parse_config,
    parse_manifest,
    render_config,
    render_descriptor,
    render_manifest,
)
from goldsmith.artifacts.record import MEDIA_TYPE as RECORD_TYPE
from goldsmith.artifacts.record import BuildRecord, parse_record, parse_time, render_record, render_time
from goldsmith.base.digest import Digest
from goldsmith.base.errors import UsageError, VersionNotFound

REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"
SUBJECT = "vnd.goldsmith.subject"
"""On a record's entry in the index: digest of the image it belongs to."""
NAME = re.compile(r"[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*")
TAG = re.compile(r"(?P<day>\d{8})\.(?P<number>[1-9]\d*)")


@dataclass(frozen=True)
class Version:
    """One built image. `size` is that of its packed layers in bytes, `created` in UTC."""

    name: str
    tag: str
    digest: Digest
    created: datetime
    size: int
    layers: tuple[Descriptor, ...]
    config: Descriptor

    @property
    def reference(self) -> str:
        """Its whole name: `debian-12-docker:20261123.1`."""
        return f"{self.name}:{self.tag}"

    def __str__(self) -> str:
        return self.reference


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

    def __init__(self, layout: Layout, writer: Writer) -> None:
        self._layout, self._writer = layout, writer

    def add_layer(
        self, source: BinaryIO, *, drop: Iterable[str] = DUMP_TRACES, on_bytes: OnBytes | None = None
    ) -> Layer:
        """Add a layer from a container archive; see `layers.write_layer`."""
        with self._writer.open_blob() as blob:
            layer = write_layer(source, blob.file, drop=drop, on_bytes=on_bytes)
            blob.keep_as(layer.digest)
        return layer

    def put(self, new: NewVersion) -> Version:
        """Store a version under the next free number of its day. Image and record appear in one step."""
        name = check_name(new.name)
        day = (new.day or new.record.finished.astimezone(UTC).date()).strftime("%Y%m%d")
        config = self._writer.add_bytes(CONFIG_TYPE, render_config(_make_config(new)))
        record = self._writer.add_bytes(RECORD_TYPE, render_record(new.record))
        with self._layout.open_index() as entries:
            tag = f"{day}.{_next_number(self._layout, name, day)}"
            image = self._add_image(new, tag, config)
            entries.append(render_descriptor(_named(image, f"{name}:{tag}", new)))
            entries.append(render_descriptor(_add_referrer(self._writer, RECORD_TYPE, (record,), {}, image)))
        return _read_version(self._layout, name, tag, image)

    def _add_image(self, new: NewVersion, tag: str, config: Descriptor) -> Descriptor:
        record = new.record
        annotations = {
            CREATED: render_time(record.finished),
            "org.opencontainers.image.title": new.title or new.name,
            "org.opencontainers.image.version": tag,
            "org.opencontainers.image.base.name": record.base_name,
            "org.opencontainers.image.base.digest": record.base_digest,
            "org.opencontainers.image.revision": record.git.commit if record.git else "",
        }
        given = {key: text for key, text in annotations.items() if text}
        manifest = Manifest(config, tuple(describe_layer(layer) for layer in new.layers), given)
        return self._writer.add_bytes(MANIFEST_TYPE, render_manifest(manifest))


class Repository:
    """Versions in a directory. Reading needs no lock: what the index names is complete and never changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._layout = Layout(path)

    @contextmanager
    def open_writer(self) -> Iterator[RepositoryWriter]:
        """Add versions while the block runs; layers that no version names when it ends are removed again."""
        with self._layout.open_writer() as writer:
            yield RepositoryWriter(self._layout, writer)

    def list_versions(self, name: str | None = None) -> list[Version]:
        """Return all versions, or those of one image, by name and age: the newest of a name comes last."""
        return sorted(_list_versions(self._layout, name), key=_order)

    def find_version(self, reference: str) -> Version | None:
        """Find a version by `NAME:TAG`, or the newest of `NAME`."""
        name, _, tag = reference.partition(":")
        found = [version for version in self.list_versions(name) if tag in ("", version.tag)]
        return found[-1] if found else None

    def get_version(self, reference: str) -> Version:
        """Return a version by `NAME:TAG`, or the newest of `NAME`.

        :raises VersionNotFound: there is none; the hint names what comes near.
        """
        version = self.find_version(reference)
        if version is None:
            known = [version.reference for version in self.list_versions()]
            near = difflib.get_close_matches(reference, [*known, *{name.partition(":")[0] for name in known}], n=3)
            hint = f"near it: {', '.join(near)}" if near else "`goldsmith images` lists what there is"
            raise VersionNotFound(f"{self.path} has no version '{reference}'", hint=hint)
        return version

    def read_record(self, version: Version) -> BuildRecord:
        """Return what a version was made of.

        :raises VersionNotFound: nobody has recorded it (the image was put there by another tool).
        """
        attached = self.list_attached(version, RECORD_TYPE)
        if not attached:
            raise VersionNotFound(f"{version} has no build record")
        _, parts = attached[0]
        return parse_record(self._layout.read_blob(parts[0]))

    def read_config(self, version: Version) -> ImageConfig:
        """Return a version's image config."""
        return parse_config(self._layout.read_blob(version.config))

    def attach(
        self, version: Version, kind: str, parts: Mapping[str, bytes], annotations: Mapping[str, str]
    ) -> tuple[Descriptor, ...]:
        """Add something that belongs to a version: a manifest that has it for its subject. It appears in one step.

        :param kind: its artifact type.
        :param parts: its small blobs, by media type.
        :raises VersionNotFound: the version has gone.
        """
        with self._layout.open_writer() as writer:
            layers = tuple(writer.add_bytes(media_type, data) for media_type, data in parts.items())
            with self._layout.open_index() as entries:
                image = self._find_entry(version)
                entries.append(render_descriptor(_add_referrer(writer, kind, layers, annotations, image)))
        return layers

    def _find_entry(self, version: Version) -> Descriptor:
        for entry in self._layout.read_index():
            if entry.digest == version.digest and _split_reference(entry) is not None:
                return Descriptor(entry.media_type, entry.digest, entry.size)
        raise VersionNotFound(f"{version} is no longer in {self.path}")

    def list_attached(self, version: Version, kind: str) -> list[tuple[dict[str, str], tuple[Descriptor, ...]]]:
        """Return annotations and parts of what of one kind belongs to a version; the newest comes last."""
        found = [
            parse_manifest(self._layout.read_blob(entry))
            for entry in self._layout.read_index()
            if entry.artifact_type == kind and entry.annotations.get(SUBJECT) == version.digest
        ]
        return [(dict(manifest.annotations), manifest.layers) for manifest in found]

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BlobReader]:
        """Read a layer's packed bytes; they are compared with their digest on the way."""
        with self._layout.open_blob(descriptor) as blob:
            yield blob

    def verify(self, on_bytes: Callable[[int], None] | None = None) -> list[str]:
        """Read everything back and compare it with its names; return what is wrong, nothing if all is well."""
        return self._layout.verify(on_bytes)


def open_repository(path: Path) -> Repository:
    """Return the repository in a directory; it is made with the first version."""
    return Repository(path)


def _add_referrer(
    writer: Writer, kind: str, parts: tuple[Descriptor, ...], annotations: Mapping[str, str], image: Descriptor
) -> Descriptor:
    """Add a manifest that has an image for its subject (OCI 1.1), and return its entry for the index."""
    empty = writer.add_bytes(EMPTY_TYPE, EMPTY)
    manifest = render_manifest(Manifest(empty, parts, annotations, kind, image))
    added = writer.add_bytes(MANIFEST_TYPE, manifest)
    return Descriptor(MANIFEST_TYPE, added.digest, added.size, {SUBJECT: image.digest}, kind)


def _make_config(new: NewVersion) -> ImageConfig:
    return ImageConfig(
        created=render_time(new.record.finished),
        architecture=new.architecture,
        diff_ids=tuple(layer.diff_id for layer in new.layers),
        history=tuple(f"goldsmith build {new.record.image}" for _ in new.layers),
        labels=new.labels,
    )


def _named(image: Descriptor, reference: str, new: NewVersion) -> Descriptor:
    annotations = {REF_NAME: reference, CREATED: render_time(new.record.finished)}
    platform = {"architecture": new.architecture, "os": "linux"}
    return Descriptor(MANIFEST_TYPE, image.digest, image.size, annotations, platform=platform)


def _split_reference(entry: Descriptor) -> tuple[str, str] | None:
    """Split the name of an index entry; None when it is not one of our versions."""
    name, _, tag = entry.annotations.get(REF_NAME, "").partition(":")
    ours = entry.media_type == MANIFEST_TYPE and NAME.fullmatch(name) and TAG.fullmatch(tag)
    return (name, tag) if ours else None


def _next_number(layout: Layout, name: str, day: str) -> int:
    references = [_split_reference(entry) for entry in layout.read_index()]
    keys = [_tag_key(reference[1]) for reference in references if reference is not None and reference[0] == name]
    return max((number for other, number in keys if other == day), default=0) + 1


def _list_versions(layout: Layout, name: str | None) -> Iterator[Version]:
    for entry in layout.read_index():
        reference = _split_reference(entry)
        if reference is not None and name in (None, reference[0]):
            yield _read_version(layout, *reference, entry)


def _read_version(layout: Layout, name: str, tag: str, entry: Descriptor) -> Version:
    manifest = parse_manifest(layout.read_blob(entry))
    return Version(
        name, tag, entry.digest, parse_time(manifest.annotations.get(CREATED, "")),
        sum(layer.size for layer in manifest.layers), manifest.layers, manifest.config,
    )  # fmt: skip
