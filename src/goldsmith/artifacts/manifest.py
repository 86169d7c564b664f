"""OCI's three documents as values: descriptor, image manifest, image config; parsed and rendered without loss of ours.

Source: OCI image-spec 1.1 (descriptor.md, manifest.md, config.md, annotations.md). Documents are rendered as canonical
JSON, so that the same image has the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from goldsmith.base.digest import Digest, JsonValue, render_canonical_json
from goldsmith.base.errors import RepositoryDamaged

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
"""What a manifest that is no image has for a config (image-spec 1.1, "Guidance for an Empty Descriptor")."""

Object = Mapping[str, JsonValue]


@dataclass(frozen=True)
class Descriptor:
    """A blob from the outside: what it is, how it is named, how long it is."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    platform: Mapping[str, str] = field(default_factory=dict)
    home: str = field(default="", compare=False)
    """The image it belongs to: a registry keeps each image's blobs apart. Never part of a document."""


@dataclass(frozen=True)
class Manifest:
    """What one image consists of; or, with an `artifact_type` and a `subject`, something that belongs to an image."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: Descriptor | None = None

    def at_home(self, home: str) -> Manifest:
        """Return the same manifest, whose blobs are known to lie with an image of a registry."""
        layers = tuple(replace(layer, home=home) for layer in self.layers)
        return replace(self, config=replace(self.config, home=home), layers=layers)


@dataclass(frozen=True)
class ImageConfig:
    """How an image is run, and what its layers unpack to. `created` is RFC 3339."""

    created: str
    architecture: str
    diff_ids: tuple[Digest, ...]
    history: tuple[str, ...] = ()
    """What made each layer."""
    entrypoint: tuple[str, ...] = ("/sbin/init",)
    """Proxmox 9.1 takes an image with this one for a system container."""
    labels: Mapping[str, str] = field(default_factory=dict)
    os: str = "linux"


def parse_json(data: bytes, what: str) -> Object:
    """Parse a JSON object.

    :raises RepositoryDamaged: it is none.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise RepositoryDamaged(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RepositoryDamaged(f"{what} is not a JSON object")
    return value


def _texts(value: JsonValue) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, Mapping) else {}


def _items(value: JsonValue) -> list[JsonValue]:
    return list(value) if isinstance(value, (list, tuple)) else []


def parse_descriptor(value: JsonValue) -> Descriptor:
    """Parse a descriptor.

    :raises RepositoryDamaged: it lacks what every descriptor has.
    """
    if not isinstance(value, Mapping):
        raise RepositoryDamaged(f"{value!r} is no descriptor")
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not isinstance(size, int):
        raise RepositoryDamaged(f"a descriptor lacks its digest or size: {dict(value)}")
    return Descriptor(
        str(value.get("mediaType", "")), Digest(digest), size, _texts(value.get("annotations")),
        str(value.get("artifactType", "")), _texts(value.get("platform")),
    )  # fmt: skip


def render_descriptor(descriptor: Descriptor) -> dict[str, JsonValue]:
    """Render a descriptor; what is empty is left out."""
    optional: dict[str, JsonValue] = {
        "artifactType": descriptor.artifact_type,
        "annotations": dict(descriptor.annotations),
        "platform": dict(descriptor.platform),
    }
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
        **{key: value for key, value in optional.items() if value},
    }


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest."""
    value = parse_json(data, "a manifest")
    subject = value.get("subject")
    return Manifest(
        parse_descriptor(value.get("config")),
        tuple(parse_descriptor(layer) for layer in _items(value.get("layers"))),
        _texts(value.get("annotations")),
        str(value.get("artifactType", "")),
        None if subject is None else parse_descriptor(subject),
    )


def render_manifest(manifest: Manifest) -> bytes:
    """Render a manifest."""
    optional: dict[str, JsonValue] = {
        "artifactType": manifest.artifact_type,
        "annotations": dict(manifest.annotations),
        "subject": None if manifest.subject is None else render_descriptor(manifest.subject),
    }
    return render_canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": render_descriptor(manifest.config),
            "layers": [render_descriptor(layer) for layer in manifest.layers],
            **{key: value for key, value in optional.items() if value},
        }
    )


def list_children(data: bytes) -> list[Descriptor]:
    """Return what a manifest or an index leads to."""
    document = parse_json(data, "a manifest")
    children = [*_items(document.get("layers")), *_items(document.get("manifests"))]
    if document.get("config") is not None:
        children.append(document["config"])
    return [parse_descriptor(child) for child in children]


def parse_config(data: bytes) -> ImageConfig:
    """Parse an image config."""
    value = parse_json(data, "an image config")
    run, rootfs = value.get("config"), value.get("rootfs")
    run = run if isinstance(run, Mapping) else {}
    rootfs = rootfs if isinstance(rootfs, Mapping) else {}
    history = [_texts(step) for step in _items(value.get("history"))]
    return ImageConfig(
        created=str(value.get("created", "")),
        architecture=str(value.get("architecture", "")),
        diff_ids=tuple(Digest(str(diff_id)) for diff_id in _items(rootfs.get("diff_ids"))),
        history=tuple(step.get("created_by", "") for step in history),
        entrypoint=tuple(str(word) for word in _items(run.get("Entrypoint"))),
        labels=_texts(run.get("Labels")),
        os=str(value.get("os", "")),
    )


def render_config(config: ImageConfig) -> bytes:
    """Render an image config."""
    return render_canonical_json(
        {
            "created": config.created,
            "architecture": config.architecture,
            "os": config.os,
            "config": {"Entrypoint": list(config.entrypoint), "Labels": dict(config.labels)},
            "rootfs": {"type": "layers", "diff_ids": list(config.diff_ids)},
            "history": [{"created": config.created, "created_by": step} for step in config.history],
        }
    )
