"""From a container archive, as vzdump writes it, to layers: normalised, divided, each one zstd frame, digests known.

A layer has no end marker (OCI asks for none), so that a template is layers one after another and one end marker.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from goldsmith.artifacts.archive import Dropped, Source, Times
from goldsmith.artifacts.compression import open_ahead, pack
from goldsmith.artifacts.division import SETTINGS, Group, plan_division
from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.owners import Owners, find_owners
from goldsmith.artifacts.spool import Part, Spool
from goldsmith.artifacts.store import NewBlob
from goldsmith.artifacts.tarheaders import BLOCK
from goldsmith.base.digest import Digest
from goldsmith.base.events import OnBytes

DUMP_TRACES = ("etc/vzdump",)
"""The build guest's configuration. Proxmox drops it when it restores a backup, not when it makes a container of a
template (PVE 8.4), so that every guest would carry the build guest's address around."""
MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
LARGE = 16 << 20
"""Bytes of tar from which one layer keeps several processors busy: zstd cuts its work into 8 MiB at level 3. It decides
about bytes: changed, all layers between are new."""
AT_ONCE = 8
"""Most layers that are packed at the same time; each takes some ten MB of memory."""


@dataclass(frozen=True)
class Layer:
    """A layer: `digest` and `size` of the blob, `diff_id` and `plain_size` of what it unpacks to, its `entries`.

    `title` says to a person what is in it.
    """

    digest: Digest
    size: int
    diff_id: Digest
    plain_size: int
    entries: int
    title: str = ""

    @property
    def descriptor(self) -> Descriptor:
        """The blob, as a manifest names it."""
        return Descriptor(MEDIA_TYPE, self.digest, self.size)


OpenBlob = Callable[[], AbstractContextManager[NewBlob]]
"""Opens a blob that gets its name when it is complete; without `keep_as` it goes."""
FindKnown = Callable[[Digest], Layer | None]
"""Returns a layer that is stored already, by what it unpacks to."""


def write_layers(
    source: BinaryIO, open_blob: OpenBlob, *, drop: Iterable[str] = DUMP_TRACES, times: Times | None = None,
    threads: int | None = None, on_bytes: OnBytes | None = None,
    find_known: FindKnown | None = None,
) -> tuple[Layer, ...]:  # fmt: skip
    """Turn a container archive (plain, zstd or gzip) into layers, in the order in which they are unpacked.

    Kept: content, holes of sparse files, modes, numeric owners, times to the nanosecond, hard links, devices, extended
    attributes, ACLs, and names to the byte. Dropped: user and group names, other clocks, and everything in `drop`.
    The archive is unpacked into a file beside the blobs first, so that there has to be room for it.

    :param drop: paths from the root, with everything below them.
    :param times: what is done so that builds at different times give the same layers; None keeps all times.
    :param threads: of the packer; all processors by default. Their number does not change a byte.
    :param on_bytes: told about progress, up to the unpacked archive's size: reading and packing count half each.
    :param find_known: finds layers that need not be packed again; each is digested unpacked first then.
    :raises RepositoryError: the archive is damaged or ends before its end marker.
    """
    with open_blob() as scratch, _open_spool(source, scratch.file, on_bytes) as spool:
        if times is not None:
            spool.date(times)
        dropped = Dropped(drop)
        spool.drop([name for name in spool.inodes if dropped.has(name.rstrip(b"/"))])
        groups = _divide(spool, times)
        packing = _Packing(spool, open_blob, threads or os.cpu_count() or 1, on_bytes, find_known)
        layers = packing.run(groups)
    return tuple(layers[group.title] for group in groups)


@contextmanager
def _open_spool(source: BinaryIO, file: BinaryIO, on_bytes: OnBytes | None) -> Iterator[Spool]:
    half = None if on_bytes is None else lambda done: on_bytes(done // 2)
    with open_ahead(source) as stream, closing(Spool(file)) as spool:
        spool.fill(Source(stream, half))
        yield spool


def _divide(spool: Spool, times: Times | None) -> list[Group]:
    owners = find_owners(spool.inodes, spool.targets, spool.read_data)
    if times is not None:
        _date_notes(spool, owners)
    sizes = {name: spool.size_of(name) for name in spool.inodes}
    shared = spool.list_shared()
    sizes.update((name, BLOCK) for names in shared for name in names[1:])
    return plan_division(sizes, shared, owners)


def _date_notes(spool: Spool, owners: Owners) -> None:
    """Give what was noted when a package was installed the time of the package itself."""
    newest: dict[bytes, int] = {}
    for name, owner in owners.files.items():
        if name not in owners.notes and not name.startswith(SETTINGS):  # a build changes settings
            newest[owner] = max(spool.time_of(name), newest.get(owner, spool.time_of(name)))
    for name in owners.notes:
        time = newest.get(owners.files[name])
        if time is not None and spool.time_of(name) != time:
            spool.set_time(name, time)


class _Packing:
    """Packs layers side by side, the largest first, so that no processor waits for the last one long."""

    def __init__(
        self, spool: Spool, open_blob: OpenBlob, threads: int, on_bytes: OnBytes | None, find_known: FindKnown | None
    ) -> None:
        self._spool, self._open_blob, self._threads, self._on_bytes = spool, open_blob, threads, on_bytes
        self._find_known = find_known
        self._stopped = threading.Event()

    def run(self, groups: Iterable[Group]) -> dict[str, Layer]:
        """Pack each group once; return the layers by title. The first error ends all of it."""
        parts = {group: self._spool.list_parts(group.names) for group in groups}
        sizes = {group: sum(len(head) + size for head, _, size in parts[group]) for group in parts}
        pool = ThreadPoolExecutor(min(self._threads, AT_ONCE))
        try:
            order = sorted(sizes, key=lambda group: -sizes[group])
            packed = {pool.submit(self._pack, group, parts[group], sizes[group]): group for group in order}
            done = 0
            for future in as_completed(packed):
                future.result()
                done += sizes[packed[future]]
                if self._on_bytes is not None:
                    self._on_bytes((self._spool.read + self._spool.read * done // (sum(sizes.values()) or 1)) // 2)
            return {group.title: future.result() for future, group in packed.items()}
        finally:
            self._stopped.set()
            pool.shutdown(cancel_futures=True)

    def _pack(self, group: Group, parts: list[Part], size: int) -> Layer:
        known = self._find(parts)
        if known is not None:
            return replace(known, plain_size=size, entries=len(group.names), title=group.title)
        threads = self._threads if size >= LARGE else 0
        with self._open_blob() as blob:
            packed = pack(self._read(parts), blob.file, size=size, threads=threads)
            blob.keep_as(packed.digest)
        return Layer(packed.digest, packed.size, packed.plain_digest, size, len(group.names), group.title)

    def _find(self, parts: list[Part]) -> Layer | None:
        """Return the layer that these parts make, where it is stored already."""
        if self._find_known is None:
            return None
        digest = hashlib.sha256()
        for piece in self._read(parts):
            digest.update(piece)
        return self._find_known(Digest(f"sha256:{digest.hexdigest()}"))

    def _read(self, parts: list[Part]) -> Iterator[bytes]:
        for piece in self._spool.read_parts(parts):
            if self._stopped.is_set():
                raise CancelledError
            yield piece
