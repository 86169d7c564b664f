"""Deciding from which finished layer a build goes on: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from goldsmith.artifacts.repository import Version
from goldsmith.build.cache.guests import CacheGuest, Checkpoint
from goldsmith.build.cache.keys import LayerKey, compare_inputs
from goldsmith.provision.stages import Stage


@dataclass(frozen=True, kw_only=True)
class Layering:
    """What is known about an image's layers before a build."""

    stages: tuple[Stage, ...]
    keys: tuple[LayerKey, ...] = ()
    """Empty where they cannot be known yet: the base image has still to be downloaded."""
    cache: tuple[CacheGuest, ...] = ()
    opened_by: str = ""
    """Fingerprint of our build key."""
    before: tuple[LayerKey, ...] = ()
    """Those of the newest version, to say what has changed."""
    current: Version | None = None
    """The newest version, where it was made of exactly the same."""
    now: float = 0.0
    """Seconds since 1970."""
    refresh: bool = False
    """Whether layers of packages are to be built again whatever their age."""
    keeps: bool = True
    """Whether finished layers are kept: the storage can make snapshots, and somebody may want them."""

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
    """Where a build begins: after `done` layers, in a guest that has them; None: in a new guest, with none."""

    done: int = 0
    checkpoint: Checkpoint | None = None
    is_own: bool = False
    """Whether it goes on in that guest itself; else in a copy."""


def choose_start(image: str, layering: Layering, *, keep: bool = False) -> Start:
    """Return the deepest finished layer that can be used: rather in the image's own guest, else in a copy of another's.

    :param keep: whether the build guest is somebody's in the end, so that it must be a copy.
    """
    usable = [guest for guest in layering.cache if not guest.in_use and guest.opened_by == layering.opened_by]
    own = [_find_deepest(guest, layering) for guest in usable if guest.image == image]
    others = [_find_deepest(guest, layering) for guest in usable if guest.image != image]
    for found, is_own in ((own, True), (others, False)):
        best = max(found, key=lambda start: start.done, default=Start())
        if best.checkpoint is not None:
            return Start(best.done, best.checkpoint, is_own and not keep)
    return Start()


def _find_deepest(guest: CacheGuest, layering: Layering) -> Start:
    by_key = {checkpoint.key: checkpoint for checkpoint in guest.checkpoints}
    for index in reversed(range(len(layering.keys))):
        checkpoint = by_key.get(layering.keys[index].key)
        if checkpoint is not None and _is_fresh(layering, index, checkpoint):
            return Start(index + 1, checkpoint)
    return Start()


def _is_fresh(layering: Layering, index: int, checkpoint: Checkpoint) -> bool:
    return not any(layering.is_wanted_anew(number, checkpoint.since) for number in range(index + 1))


def is_current(layering: Layering) -> bool:
    """Tell whether the newest version is what a build would make."""
    if layering.current is None or not layering.keys:
        return False
    return not any(layering.is_wanted_anew(index, _find_age(layering, index)) for index in range(len(layering.keys)))


def _find_age(layering: Layering, index: int) -> float:
    """Return since when a layer has been in the newest version: it may have been kept for long when that was made."""
    if layering.current is None:
        return layering.now
    made = layering.current.created.timestamp()
    own = [guest for guest in layering.cache if guest.image == layering.current.name]
    kept = [one.since for guest in own for one in guest.checkpoints if one.key == layering.keys[index].key]
    return min([made, *kept])


def explain_layer(layering: Layering, index: int, start: Start) -> str:
    """Say why a layer is used again, or built."""
    if not layering.keys:
        return "the base image is not on the node yet"
    if index < start.done and start.checkpoint is not None:
        whose = "" if start.is_own else f", of guest {start.checkpoint.vmid}"
        return f"nothing has changed; it is kept on the node{whose}"
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


def _join(changed: Sequence[str], shown: int = 3) -> str:
    rest = f" and {len(changed) - shown} more" if len(changed) > shown else ""
    return ", ".join(changed[:shown]) + rest


def _render_age(seconds: int) -> str:
    for unit, letter in ((7 * 86400, "weeks"), (86400, "days"), (3600, "hours")):
        if seconds % unit == 0:
            return f"{seconds // unit} {letter}"
    return f"{seconds // 60} minutes"
