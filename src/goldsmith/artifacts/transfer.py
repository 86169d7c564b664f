"""Versions from one repository to another, whichever of them is a registry: only what is missing there is sent.

A version arrives as it is, with its digest and all that belongs to it, and is named last: a transfer that breaks off
leaves nothing that can be seen, and what had arrived is not sent again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TypeVar

from goldsmith.artifacts.manifest import MANIFEST_TYPE, Descriptor, list_children, parse_manifest
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.store import CREATED, BlobSource, StoreWriter
from goldsmith.base.digest import Digest
from goldsmith.base.errors import RepositoryError, VersionExists
from goldsmith.base.events import OnBytes

PARALLEL = 4
"""Blobs that are sent at the same time."""
_R = TypeVar("_R")


@dataclass(frozen=True)
class Transfer:
    """What a transfer has to do: `missing` blobs are sent, `present` ones are there already."""

    version: Version
    image: Descriptor
    missing: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...]
    referrers: tuple[Descriptor, ...]
    """Manifests that belong to the version, the oldest first."""
    new_referrers: tuple[Descriptor, ...]
    """Those of them that are not there yet."""

    @property
    def size(self) -> int:
        """Bytes that are to be sent."""
        return sum(blob.size for blob in self.missing)


Watch = Callable[[Transfer], OnBytes]


def plan_transfer(version: Version, source: Repository, target: Repository) -> Transfer:
    """Find out what of a version is missing in another repository. Nothing is changed; a directory's blobs are read.

    :raises VersionNotFound: the source has it no longer.
    :raises VersionExists: the target has another version of that name.
    """
    with source.store.open_reading(), target.store.open_writer() as writer:
        return _plan(version, source, target, writer)


def _plan(version: Version, source: Repository, target: Repository, writer: StoreWriter) -> Transfer:
    image = source.get_image(version)
    there = target.store.read_tags(version.name, [version.tag]).get(version.tag)
    if there is not None and there.digest != version.digest:
        raise VersionExists(
            f"{target.location} has another {version}: {there.digest}", hint="versions never change; build a new one"
        )
    referrers = _by_age(source, source.list_referrers(version))
    known = _list_known(target, version) if there is not None else set()
    blobs: dict[Digest, Descriptor] = {}
    for manifest in [image, *referrers]:
        for blob in list_children(source.store.read_blob(manifest)):
            blobs.setdefault(blob.digest, replace(blob, home=version.name))
    found = _spread(lambda blob: writer.has_blob(version.name, blob), list(blobs.values()))
    there_or_not = list(zip(blobs.values(), found, strict=True))
    return Transfer(
        version,
        image,
        tuple(blob for blob, is_there in there_or_not if not is_there),
        tuple(blob for blob, is_there in there_or_not if is_there),
        tuple(referrers),
        tuple(entry for entry in referrers if entry.digest not in known),
    )


def _list_known(target: Repository, version: Version) -> set[Digest]:
    """Return what belongs to a version there. A registry's garbage collection may have removed what is still listed."""
    listed = {entry.digest for entry in target.list_referrers(version)}
    if target.is_local:
        return listed
    return {digest for digest in listed if target.store.find_digest(version.name, digest) is not None}


def _by_age(source: Repository, referrers: Sequence[Descriptor]) -> list[Descriptor]:
    def read_time(entry: Descriptor) -> str:
        return parse_manifest(source.store.read_blob(entry)).annotations.get(CREATED, "")

    return sorted(referrers, key=read_time)


def copy_version(version: Version, source: Repository, target: Repository, *, watch: Watch | None = None) -> Transfer:
    """Copy a version with all that belongs to it into another repository; tells what had to be sent.

    :param watch: called with the plan before anything is sent; what it returns is told the bytes done so far, of
        `Transfer.size`, by several threads, one at a time: `lambda plan: events.watch(f"push {version}", plan.size)`.
    :raises VersionNotFound: the source has it no longer.
    :raises VersionExists: the target has another version of that name.
    :raises RepositoryDamaged: a blob of the source is not what its name promises; nothing can be seen of the copy.
    """
    with source.store.open_reading(), target.store.open_writer() as writer:
        plan = _plan(version, source, target, writer)
        _copy_blobs(plan, source, writer, _Progress(watch(plan) if watch else None), [source, target])
        manifests = {entry.digest: source.store.read_blob(entry) for entry in (plan.image, *plan.referrers)}
        for content in manifests.values():
            writer.add_bytes(MANIFEST_TYPE, content)
        with writer.open_names() as names:
            there = names.find(version.name, version.tag)
            if there is None or there.digest != version.digest:
                _check_free(target, version, there)
                names.set(version.name, version.tag, plan.image)
            known = _list_known(target, version)  # another copy may have been quicker
            for entry in plan.new_referrers:
                if entry.digest not in known:
                    names.attach(version.name, plan.image, entry)
    return plan


def _check_free(target: Repository, version: Version, there: Descriptor | None) -> None:
    if there is not None:
        raise VersionExists(f"{target.location} has got another {version} meanwhile: {there.digest}")


push = copy_version
pull = copy_version


def _copy_blobs(
    plan: Transfer, source: Repository, writer: StoreWriter, progress: _Progress, both: Sequence[Repository]
) -> None:
    name = plan.version.name
    neighbours = _list_neighbours(plan, source)

    def copy(blob: Descriptor) -> None:
        writer.copy_blob(name, blob, _make_source(source, blob, neighbours), progress.watch(blob.digest))

    def stop() -> None:
        progress.stop()
        for repository in both:
            repository.store.stopping.set()

    try:
        _spread(copy, sorted(plan.missing, key=lambda blob: -blob.size), stop)  # the largest first: none comes late
    finally:
        for repository in both:
            repository.store.stopping.clear()


def _make_source(source: Repository, blob: Descriptor, neighbours: dict[Digest, list[str]]) -> BlobSource:
    store = source.store
    open_rest = None if source.is_local else lambda start: store.open_rest(blob, start)
    return BlobSource(lambda: store.open_blob(blob), tuple(neighbours.get(blob.digest, ())), open_rest)


def _list_neighbours(plan: Transfer, source: Repository) -> dict[Digest, list[str]]:
    """Return which other images of a directory have the same layers; a registry is not asked for that."""
    if not plan.missing or not source.is_local:
        return {}
    found: dict[Digest, list[str]] = {}
    for other in source.list_versions():
        if other.name != plan.version.name:
            for layer in other.layers:
                if other.name not in found.setdefault(layer.digest, []):
                    found[layer.digest].append(other.name)
    return found


class _Stopped(RepositoryError):
    """Ends the work of other threads when one has failed, or the whole was interrupted."""


class _Progress:
    """Adds up what several threads have done, and ends them."""

    def __init__(self, on_bytes: OnBytes | None) -> None:
        self._on_bytes = on_bytes
        self._done: dict[Digest, int] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """Let every thread end at its next piece."""
        self._stopped = True

    def watch(self, digest: Digest) -> OnBytes:
        """Return what is told of one blob."""

        def tell(done: int) -> None:
            if self._stopped:
                raise _Stopped("the transfer was broken off")
            with self._lock:
                self._done[digest] = done
                if self._on_bytes is not None:
                    self._on_bytes(sum(self._done.values()))

        return tell


def _spread(
    work: Callable[[Descriptor], _R], items: Sequence[Descriptor], stop: Callable[[], None] | None = None
) -> list[_R]:
    """Do something to each of many, several at a time. After a failure nothing more is begun."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            if stop is not None:
                stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
