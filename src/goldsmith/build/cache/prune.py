"""Removing guests that keep layers: asked for, or because they have become old or many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.events import Events, Undone
from goldsmith.build.cache.guests import CacheGuest, claim_guest, drop_guest
from goldsmith.build.facts import Site
from goldsmith.build.journal import open_journal

LONGEST = 60 * 86400
"""Seconds after which layers that no build has renewed are removed: somebody has changed or left their image."""
MOST = 30
"""Guests with layers on one node; beyond that the oldest go."""


@dataclass(frozen=True)
class PruneRule:
    """Which guests are to go: those that are named, those whose newest layer is older; with neither, all."""

    vmids: frozenset[int] = frozenset()
    older_than: int | None = None
    """Seconds."""


@dataclass(frozen=True)
class Pruned:
    """A guest that is to go, and why."""

    vmid: int
    image: str
    reason: str


def plan_prune(guests: Iterable[CacheGuest], rule: PruneRule, *, now: float) -> list[Pruned]:
    """Decide which guests go. One that a build is in never does.

    :param now: seconds since 1970.
    """
    gone = []
    for guest in guests:
        reason = _find_reason(guest, rule, now)
        if reason and not guest.in_use:
            gone.append(Pruned(guest.vmid, guest.image, reason))
    return gone


def _find_reason(guest: CacheGuest, rule: PruneRule, now: float) -> str:
    if guest.vmid in rule.vmids:
        return "asked for"
    if rule.older_than is not None:
        days = (now - find_newest(guest)) / 86400
        return f"its newest layer is {days:.0f} days old" if now - find_newest(guest) > rule.older_than else ""
    return "" if rule.vmids else "asked for"


def find_newest(guest: CacheGuest) -> float:
    """Return when a guest's newest layer was made, in seconds since 1970; 0 where it has none."""
    return max((checkpoint.made for checkpoint in guest.checkpoints), default=0)


def plan_bounds(guests: Sequence[CacheGuest], *, now: float) -> list[Pruned]:
    """Decide which guests go so that layers become neither too old nor too many, and no image has two guests.

    (Two builds of one image at a time leave two.)
    """
    gone = {pruned.vmid: pruned for pruned in plan_prune(guests, PruneRule(older_than=LONGEST), now=now)}
    by_age = sorted((guest for guest in guests if not guest.in_use), key=find_newest, reverse=True)
    seen: set[str] = set()
    for guest in by_age:
        if guest.image in seen:
            gone.setdefault(guest.vmid, Pruned(guest.vmid, guest.image, "a newer one of the image is there"))
        seen.add(guest.image)
    left = [guest for guest in by_age if guest.vmid not in gone]
    gone |= {guest.vmid: Pruned(guest.vmid, guest.image, f"there are more than {MOST}") for guest in left[MOST:]}
    return list(gone.values())


def prune_cache(site: Site, pruned: Pruned, *, state: Path) -> bool:
    """Remove a guest; tell whether it went: a build may just have taken it. Killed meanwhile, the next run goes on."""
    with open_journal(state, "build", site=site.name, image=pruned.image) as journal:
        journal.note_vmid(pruned.vmid)
        if not claim_guest(site, pruned.vmid, journal.run_id):
            return False
        drop_guest(site, pruned.vmid)
        return True


def bound_cache(site: Site, guests: Sequence[CacheGuest], *, state: Path, now: float, events: Events) -> None:
    """Remove what is too old or too much."""
    for pruned in plan_bounds(guests, now=now):
        if prune_cache(site, pruned, state=state):
            events.emit(Undone(what=f"guest {pruned.vmid} with layers of {pruned.image}: {pruned.reason}"))
