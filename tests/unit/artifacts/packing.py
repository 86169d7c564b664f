"""Layers without a repository: their blobs in a folder, and what they unpack to."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from goldsmith.artifacts.export import END_MARKER
from goldsmith.artifacts.layers import Layer, write_layers
from goldsmith.artifacts.store import NewBlob
from goldsmith.base.digest import Digest


class FileBlob:
    """A blob that is a file in a folder."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.file, self._path = file, path

    def keep_as(self, digest: Digest) -> None:
        self.file.flush()
        self._path.replace(blob_path(self._path.parent, digest))


def blob_path(folder: Path, digest: Digest) -> Path:
    return folder / digest.removeprefix("sha256:")


def blobs_in(folder: Path) -> Callable[[], AbstractContextManager[NewBlob]]:
    """What `write_layers` puts its blobs into."""
    folder.mkdir(exist_ok=True)

    @contextmanager
    def open_blob() -> Iterator[NewBlob]:
        path = folder / f"new-{secrets.token_hex(4)}"
        try:
            with path.open("xb") as file:
                yield FileBlob(path, file)
        finally:
            path.unlink(missing_ok=True)

    return open_blob


def layers_of(archived: Path, folder: Path, **options: Any) -> tuple[Layer, ...]:
    with archived.open("rb") as source:
        return write_layers(source, blobs_in(folder), **options)


def template_of(layers: tuple[Layer, ...], folder: Path) -> bytes:
    """The layers' bytes one after another and the end marker."""
    return b"".join(blob_path(folder, layer.digest).read_bytes() for layer in layers) + END_MARKER


def unpack(data: bytes) -> bytes:
    """What a decompressor yields, of several frames too."""
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


def plain_of(layer: Layer, folder: Path) -> bytes:
    """A layer as tar, with an end marker for those who want one."""
    return unpack(blob_path(folder, layer.digest).read_bytes()) + bytes(1024)


def list_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
