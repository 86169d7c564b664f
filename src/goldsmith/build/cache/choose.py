"""Deciding from which finished layer a build goes on: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from goldsmith.artifacts.repository import Version
from goldsmith.build.cache.archives import CacheArchive
from goldsmith.build.cache.finished import Finished
from goldsmith.build.cache.guests import CacheGuest, Checkpoint
from goldsmith.build.cache.keys import LayerKey, compare_inputs
from goldsmith.build.foreign import Found
from goldsmith.provision.stages import Stage

Keeping = Literal["snapshots", "archives"]
"""How finished layers are kept: as snapshots of the build guest, or as backups where its storage makes no snapshots."""


@dataclass(frozen=True, kw_only=True)
class Layering:
    """What is known about an image's layers before a build."""

    stages: tuple[Stage, ...]
    keys: tuple[LayerKey, ...] = ()
    """Empty where they cannot be known yet: the base image has still to be downloaded."""
    cache: tuple[CacheGuest, ...] = ()
    archives: tuple[CacheArchive, ...] = ()
    opened_by: str = ""
    """Fingerprint of our build key."""
    before: tuple[LayerKey, ...] = ()
    """Those of the newest version, to say what has changed."""
    current: Version | None = None
    """The newest version, where it was made of exactly the same."""
    has_backup: bool = False
    """Whether `current` is a backup that is on the node."""
    now: float = 0.0
    """Seconds since 1970."""
    refresh: bool = False
    """Whether layers of packages are to be built again whatever their age."""
    base: Found | None = None
    """What the image is built upon, where that comes from elsewhere."""
    keeps: Keeping = "snapshots"
    """What the storage of the build guest is good for."""

    def is_wanted_anew(self, index: int, since: float) -> str:
        """Return why a layer that was built at `since` is to be built again; empty where it is not."""
        key = self.keys[index]
        if key.outside:
            return key.outside
        if self.refresh and key.installs_packages:
            return "--refresh"
        if key.refresh_after is not None and self.now - since > key.refresh_after:
            return f"its packages are older than {_render_age(key.refresh_after)}"
        return ""


@dataclass(frozen=True)
class Start:
    """Where a build begins: after `done` layers, from where they are kept; None: in a new guest, with none."""

    done: int = 0
    checkpoint: Checkpoint | CacheArchive | None = None
    is_own: bool = False
    """Whether it goes on in that guest itself; else in a copy."""

    @property
    def since(self) -> tuple[int, ...]:
        """When each of the layers that are done was built, in seconds since 1970."""
        return tuple(self.checkpoint.find_since(index) for index in range(self.done)) if self.checkpoint else ()


def choose_start(image: str, layering: Layering, *, keep: bool = False, wanted: int | None = None) -> Start:
    """Return the deepest finished layer that can be used: going on from it is quicker than running what comes before.

    Of several, the image's own guest comes first, which goes back at once; then a copy of another's, then an archive.

    :param keep: whether the build guest is somebody's in the end, so that it must be a copy.
    :param wanted: the only vmid that will do. A guest that has it has to go, unless the build goes on in that guest.
    """
    starts = [*_list_guests(image, layering, keep, wanted), *_list_archives(layering)]
    return max(starts, key=_rank, default=Start())


def _rank(start: Start) -> tuple[int, bool, bool]:
    return start.done, start.is_own, isinstance(start.checkpoint, Checkpoint)


def _list_guests(image: str, layering: Layering, keep: bool, wanted: int | None) -> Iterator[Start]:
    for guest in layering.cache:
        is_own = guest.image == image and not keep and wanted in (None, guest.vmid)
        is_in_the_way = guest.vmid == wanted and not is_own
        if not guest.in_use and not is_in_the_way and guest.opened_by == layering.opened_by:
            yield _find_deepest(guest.checkpoints, layering, is_own=is_own)


def _list_archives(layering: Layering) -> Iterator[Start]:
    for archive in layering.archives:
        if archive.opened_by == layering.opened_by:
            yield _find_deepest([archive], layering)


def _find_deepest(finished: Iterable[Checkpoint | CacheArchive], layering: Layering, *, is_own: bool = False) -> Start:
    by_key = {one.key: one for one in finished}
    for index in reversed(range(len(layering.keys))):
        found = by_key.get(layering.keys[index].key)
        if found is not None and _is_fresh(layering, index, found):
            return Start(index + 1, found, is_own)
    return Start()


def _is_fresh(layering: Layering, index: int, finished: Finished) -> bool:
    return not any(layering.is_wanted_anew(number, finished.find_since(number)) for number in range(index + 1))


def choose_kept(layering: Layering) -> tuple[int, ...]:
    """Return the numbers of the layers that are kept when they are finished.

    Never the last one, upon which nothing is built but the version, and none that is not the same the next time.
    A snapshot costs next to nothing, so all others are kept. An archive costs about as much as running a small layer,
    and room for a whole guest: there the deepest is kept, and the last one of packages before it.
    """
    ends = [number for number, key in enumerate(layering.keys) if key.outside]
    usable = range(min([*ends, len(layering.stages) - 1]))
    if layering.keeps == "snapshots" or not usable:
        return tuple(usable)
    packages = [number for number in usable if layering.stages[number].installs_packages]
    return tuple(sorted({usable[-1], *packages[-1:]}))


def is_current(layering: Layering) -> bool:
    """Tell whether the newest version is what a build would make."""
    if layering.current is None or not layering.keys:
        return False
    return not any(layering.is_wanted_anew(index, _find_age(layering, index)) for index in range(len(layering.keys)))


def _find_age(layering: Layering, index: int) -> float:
    """Return when a layer of the newest version was built: it may have been kept for long when that was made.

    It is recorded with the version; an older goldsmith has not done so, and then what is still kept tells of it.
    """
    key = layering.keys[index]
    recorded = next((one.since for one in layering.before if one.key == key.key), None)
    if recorded is not None:
        return recorded
    if layering.current is None:
        return layering.now
    made = layering.current.created.timestamp()
    own = [guest for guest in layering.cache if guest.image == layering.current.name]
    kept = [one.find_since(index) for guest in own for one in guest.checkpoints if one.key == key.key]
    return min([made, *kept])


def explain_layer(layering: Layering, index: int, start: Start) -> str:
    """Say why a layer is used again, or built."""
    if not layering.keys:
        return "the base image is not on the node yet"
    if index < start.done and start.checkpoint is not None:
        return f"nothing has changed; it is kept {_describe_place(start.checkpoint, start.is_own)}"
    key = layering.keys[index]
    if key.outside:
        return key.outside
    before = {one.name: one for one in layering.before}.get(key.name)
    changed = compare_inputs(key, before)
    if changed:
        return _join(changed)
    return (
        layering.is_wanted_anew(index, _find_age(layering, index))
        or "nothing has changed, but it is not kept on the node"
    )


def _describe_place(found: Checkpoint | CacheArchive, is_own: bool) -> str:
    if isinstance(found, CacheArchive):
        return f"in {found.volid}"
    return "on the node" if is_own else f"on the node, of guest {found.vmid}"


def _join(changed: Sequence[str], shown: int = 3) -> str:
    rest = f" and {len(changed) - shown} more" if len(changed) > shown else ""
    return ", ".join(changed[:shown]) + rest


def _render_age(seconds: int) -> str:
    for unit, letter in ((7 * 86400, "weeks"), (86400, "days"), (3600, "hours")):
        if seconds % unit == 0:
            return f"{seconds // unit} {letter}"
    return f"{seconds // 60} minutes"
