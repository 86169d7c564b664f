"""A container image of any registry as the base of an image: found by its name, laid together into one template file.

What goldsmith itself has stored is a container image as well, and needs none of this: its layers are written one after
another (`export.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from goldsmith.artifacts.compression import PIECE, open_archive
from goldsmith.artifacts.credentials import PASSWORD, USER, find_credentials
from goldsmith.artifacts.http import RegistryOptions
from goldsmith.artifacts.layout import explain_write_errors
from goldsmith.artifacts.manifest import (
    Descriptor,
    Manifest,
    parse_config,
    parse_descriptor,
    parse_json,
    parse_manifest,
)
from goldsmith.artifacts.registry import Registry
from goldsmith.artifacts.repository import VERSION
from goldsmith.artifacts.squash import Tree
from goldsmith.artifacts.store import BlobReader
from goldsmith.base.digest import Digest, JsonValue, digest_bytes
from goldsmith.base.errors import GoldsmithError, RepositoryDamaged, RepositoryError, VersionNotFound
from goldsmith.base.events import OnBytes
from goldsmith.definition.bases import OciImage

DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
"""Where Docker's own images are asked for, by what people call it (github.com/distribution/reference)."""
LAYER_TYPES = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.container.image.rootfs.diff.tar",
)
"""How the types of layers begin that hold files; `+gzip`, `.gzip` and `+zstd` follow, which the bytes tell as well."""
INIT, SSHD = "/sbin/init", "/usr/sbin/sshd"
_MOST_INDEXES = 3
"""Indexes in indexes."""


@dataclass(frozen=True)
class ContainerImage:
    """An image of one architecture. `digest` is its manifest's, and its name for ever."""

    reference: OciImage
    digest: Digest
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    entrypoint: tuple[str, ...]
    architecture: str
    version: str = ""
    """What its manifest says that it is called (image-spec 1.1, annotations.md); may be anything."""

    @property
    def size(self) -> int:
        """Bytes of its packed layers."""
        return sum(layer.size for layer in self.layers)


def find_image(reference: OciImage, architecture: str, options: RegistryOptions) -> ContainerImage:
    """Ask a registry which image a reference names now; of an index, that of an architecture (Debian's name).

    :raises VersionNotFound: there is none of that name, or none for that architecture.
    :raises RepositoryError: it is no container image.
    """
    registry, path = _open(reference, options)
    try:
        found = registry.find_manifest(path, reference.digest or reference.tag)
        if found is None:
            raise VersionNotFound(f"there is no {reference}", hint="is the name right, and are you logged in there?")
        manifest, digest = _read_manifest(registry, path, reference, architecture)
        config = parse_config(_read_blob(registry, path, manifest.config))
    finally:
        registry.http.close()
    if config.architecture != architecture:
        raise _no_architecture(reference, architecture, [config.architecture])
    _check_layers(reference, manifest)
    return ContainerImage(
        reference, digest, manifest.layers, config.diff_ids, config.entrypoint, config.architecture,
        manifest.annotations.get(VERSION, ""),
    )  # fmt: skip


def _open(reference: OciImage, options: RegistryOptions) -> tuple[Registry, str]:
    """Return the registry, and what it calls the image."""
    host, path = DOCKER_HUB.get(reference.host, reference.host), reference.path
    if host != reference.host and "/" not in path:
        path = f"library/{path}"
    if options.credentials is None:
        options = replace(options, credentials=find_credentials(reference.host, path, _drop_login(), Path.home()))
    return Registry(host, options), path


def _drop_login() -> dict[str, str]:
    """Return the environment without the login that is meant for the image's own registry, and for no other."""
    return {name: value for name, value in os.environ.items() if name not in (USER, PASSWORD)}


def _read_manifest(registry: Registry, path: str, reference: OciImage, architecture: str) -> tuple[Manifest, Digest]:
    wanted = reference.digest or reference.tag
    for _ in range(_MOST_INDEXES):
        content = registry.read_manifest(path, wanted)
        document = parse_json(content, f"the manifest of {reference}")
        if isinstance(document.get("manifests"), list):
            wanted = _choose(document, reference, architecture).digest
        elif document.get("schemaVersion") != 2 or "config" not in document:
            raise RepositoryError(f"{reference} is no container image that is known (its manifest is of another kind)")
        else:
            return parse_manifest(content), digest_bytes(content)
    raise RepositoryDamaged(f"{reference} is an index of indexes without end")


def _choose(index: Mapping[str, JsonValue], reference: OciImage, architecture: str) -> Descriptor:
    entries = index["manifests"]
    assert isinstance(entries, list)
    known = [parse_descriptor(entry) for entry in entries]
    images = [entry for entry in known if entry.platform.get("os") == "linux"]
    for entry in images:
        if entry.platform.get("architecture") == architecture:
            return entry
    raise _no_architecture(reference, architecture, [entry.platform.get("architecture", "") for entry in images])


def _no_architecture(reference: OciImage, wanted: str, known: list[str]) -> VersionNotFound:
    there = ", ".join(dict.fromkeys(filter(None, known))) or "no Linux at all"
    return VersionNotFound(f"there is no {reference} for the node's architecture, {wanted}", hint=f"there is: {there}")


def _check_layers(reference: OciImage, manifest: Manifest) -> None:
    for layer in manifest.layers:
        if not layer.media_type.startswith(LAYER_TYPES):
            raise RepositoryError(f"{reference} is no container image: it holds {layer.media_type or 'no known type'}")
    if not manifest.layers:
        raise RepositoryError(f"{reference} is an image without layers")


def _read_blob(registry: Registry, path: str, blob: Descriptor) -> bytes:
    download = registry.open_blob(path, blob)
    try:
        return BlobReader(download, blob).read()
    finally:
        download.close()


@dataclass(frozen=True)
class Squashed:
    """A template file that was made of an image."""

    path: Path
    digest: Digest
    size: int


def squash_image(
    image: ContainerImage, folder: Path, options: RegistryOptions, *, wanted: tuple[str, ...] = (INIT,),
    on_bytes: OnBytes | None = None,
) -> Squashed:  # fmt: skip
    """Fetch an image's layers and lay them together into a template, a file in `folder`.

    :param wanted: paths that must lead to files.
    :param on_bytes: called with the packed bytes fetched so far.
    :raises RepositoryError: the image lacks one of those; it is damaged.
    """
    tree = Tree()
    with ExitStack() as stack:
        for file in _fetch_layers(image, folder, options, stack, on_bytes):
            tree.add(file)
        _check_wanted(image, tree, wanted)
        target = folder / "template.tar.zst"
        with explain_write_errors(folder), target.open("xb") as packed:
            made = tree.write(packed)
        return Squashed(target, made.digest, made.size)


def _fetch_layers(
    image: ContainerImage, folder: Path, options: RegistryOptions, stack: ExitStack, on_bytes: OnBytes | None
) -> list[BinaryIO]:
    """Return the layers unpacked, in files of `folder` that are open until the stack is closed."""
    registry, path = _open(image.reference, options)
    stack.callback(registry.http.close)
    files: list[BinaryIO] = []
    done = 0
    for number, layer in enumerate(image.layers):
        file = stack.enter_context((folder / f"layer-{number}").open("x+b"))
        digest = _fetch_layer(registry, path, layer, file, _Progress(done, on_bytes))
        if image.diff_ids[number : number + 1] not in ((), (digest,)):
            raise RepositoryDamaged(f"layer {layer.digest} of {image.reference} unpacks to {digest}, which is wrong")
        files.append(file)
        done += layer.size
    return files


@dataclass
class _Progress:
    """Tells how much of all layers has been fetched."""

    done: int
    on_bytes: OnBytes | None

    def add(self, size: int) -> None:
        self.done += size
        if self.on_bytes is not None:
            self.on_bytes(self.done)


def _fetch_layer(registry: Registry, path: str, layer: Descriptor, file: BinaryIO, progress: _Progress) -> Digest:
    download = registry.open_blob(path, layer)
    try:
        return _unpack(_Counting(BlobReader(download, layer), progress), file)
    finally:
        download.close()


def _unpack(reader: _Counting, file: BinaryIO) -> Digest:
    digest = hashlib.sha256()
    source = open_archive(cast(BinaryIO, reader))
    with explain_write_errors(Path(file.name)):
        while data := source.read(PIECE):
            digest.update(data)
            file.write(data)
    while reader.read(PIECE):  # to its end, where it is compared with its digest
        pass
    return Digest("sha256:" + digest.hexdigest())


class _Counting:
    """A blob that says how much of it has been read."""

    def __init__(self, blob: BlobReader, progress: _Progress) -> None:
        self._blob, self._progress = blob, progress

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._blob.read(size)
        self._progress.add(len(data))
        return data


def _check_wanted(image: ContainerImage, tree: Tree, wanted: tuple[str, ...]) -> None:
    missing = [path for path in wanted if not tree.has_file(path)]
    if INIT in missing:
        runs = f"; it is made to run {' '.join(image.entrypoint)} alone" if image.entrypoint else ""
        raise _refuse(image, f"cannot boot as a system: it has no {INIT}{runs}")
    if missing:
        raise _refuse(image, f"cannot be built upon: it has no {', no '.join(missing)}")


def _refuse(image: ContainerImage, what: str) -> GoldsmithError:
    hint = (
        "an image with an init system and sshd is needed (in Debian: systemd-sysv and openssh-server), not one program"
    )
    return RepositoryError(f"{image.reference} {what}", hint=hint)
