"""Removing what keeps layers, guests and archives: asked for, or because it has become old, many or large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.errors import ApiFailed, TaskFailed
from goldsmith.base.events import Events, Notice, Undone
from goldsmith.base.units import render_bytes
from goldsmith.build.cache.archives import CacheArchive, drop_archive, find_archive, list_archives
from goldsmith.build.cache.guests import CacheGuest, claim_guest, drop_guest, list_cache, measure_guests
from goldsmith.build.facts import Site
from goldsmith.build.journal import open_journal

LONGEST = 60 * 86400
"""Seconds after which layers that no build has used are removed: somebody has changed or left their image."""
MOST = 30
"""Guests and archives with layers on one node; beyond that those go that have not been used for longest."""
LARGEST = 60 * 10**9
"""Bytes that all of them may take on one node; likewise."""

Kept = CacheGuest | CacheArchive
"""What keeps layers."""


@dataclass(frozen=True)
class PruneRule:
    """Which are to go: those that are named, those not used for long, those beyond a size; without any of it, all."""

    names: frozenset[str] = frozenset()
    """Vmids of guests, volume ids of archives."""
    older_than: int | None = None
    """Seconds."""
    size: int | None = None
    """Bytes that all together may take."""

    @property
    def wants_all(self) -> bool:
        """Whether everything is to go."""
        return not self.names and self.older_than is None and self.size is None


@dataclass(frozen=True)
class Pruned:
    """A guest or archive that is to go, and why."""

    kept: Kept
    reason: str

    @property
    def title(self) -> str:
        """What it is, and why it goes."""
        return f"{self.kept.title} with layers of {self.kept.image}: {self.reason}"


def get_name(kept: Kept) -> str:
    """Return what names a guest or archive on the command line: its vmid, or its volume id."""
    return str(kept.vmid) if isinstance(kept, CacheGuest) else kept.volid


def read_kept(site: Site) -> list[Kept]:
    """Return everything on a node that keeps layers, with the room that it takes."""
    return [*measure_guests(site, list_cache(site)), *list_archives(site)]


def plan_prune(kept: Iterable[Kept], rule: PruneRule, *, now: float) -> list[Pruned]:
    """Decide which go. One that a build is in never does.

    :param now: seconds since 1970.
    """
    listed = list(kept)
    gone = [Pruned(one, reason) for one in listed if (reason := _find_reason(one, rule, now)) and not one.in_use]
    return gone if rule.size is None else [*gone, *_list_excess(_list_left(listed, gone), rule.size)]


def _find_reason(kept: Kept, rule: PruneRule, now: float) -> str:
    if rule.wants_all or get_name(kept) in rule.names:
        return "asked for"
    unused = now - kept.last_used
    if rule.older_than is not None and unused > rule.older_than:
        return f"no build has used it for {unused / 86400:.0f} days"
    return ""


def _list_left(kept: Sequence[Kept], gone: Sequence[Pruned]) -> list[Kept]:
    names = {get_name(pruned.kept) for pruned in gone}
    return [one for one in kept if get_name(one) not in names]


def _list_excess(kept: Sequence[Kept], limit: int) -> Iterator[Pruned]:
    """Yield those that go so that the others take no more than `limit` bytes: first what was not used for longest."""
    total = sum(one.size for one in kept)
    for one in sorted((one for one in kept if not one.in_use), key=lambda one: one.last_used):
        if total <= limit:
            return
        total -= one.size
        yield Pruned(one, f"all together take more than {render_bytes(limit)}")


def plan_bounds(kept: Sequence[Kept], *, now: float) -> list[Pruned]:
    """Decide which go so that layers become neither too old nor too many nor too large, and none is there twice.

    (Two builds of one image at a time leave two guests, or two archives of a layer.)
    """
    gone = plan_prune(kept, PruneRule(older_than=LONGEST), now=now)
    gone += _list_doubled(_list_left(kept, gone))
    left = sorted(_list_left(kept, gone), key=lambda one: one.last_used, reverse=True)
    gone += [Pruned(one, f"there are more than {MOST}") for one in [one for one in left if not one.in_use][MOST:]]
    return [*gone, *_list_excess(_list_left(kept, gone), LARGEST)]


def _list_doubled(kept: Iterable[Kept]) -> Iterator[Pruned]:
    seen: set[tuple[str, ...]] = set()
    for one in sorted((one for one in kept if not one.in_use), key=_find_newest, reverse=True):
        what = (one.image,) if isinstance(one, CacheGuest) else (one.image, one.layer, one.opened_by)
        if what in seen:
            yield Pruned(one, "a newer one is there")
        seen.add(what)


def _find_newest(kept: Kept) -> int:
    """Return when the newest layer in it was made, in seconds since 1970; 0 where there is none."""
    if isinstance(kept, CacheArchive):
        return kept.made
    return max((checkpoint.made for checkpoint in kept.checkpoints), default=0)


def prune_cache(site: Site, pruned: Pruned, *, state: Path) -> bool:
    """Remove a guest or archive; tell whether it went: a build may just have taken it."""
    if isinstance(pruned.kept, CacheGuest):
        return _prune_guest(site, pruned.kept, state)
    archive = find_archive(site, pruned.kept.volid)
    if archive is None or archive.in_use:
        return False
    drop_archive(site, archive.volid)
    return True


def _prune_guest(site: Site, guest: CacheGuest, state: Path) -> bool:
    """Remove a guest; killed meanwhile, the next run goes on."""
    with open_journal(state, "build", site=site.name, image=guest.image) as journal:
        journal.note_vmid(guest.vmid)
        if not claim_guest(site, guest.vmid, journal.run_id):
            return False
        drop_guest(site, guest.vmid)
        return True


def bound_cache(site: Site, *, state: Path, now: float, events: Events) -> None:
    """Remove what is too old or too much. What cannot be removed is told; the next build tries again."""
    for pruned in plan_bounds(read_kept(site), now=now):
        try:
            went = prune_cache(site, pruned, state=state)
        except (ApiFailed, TaskFailed) as error:
            told = f"{pruned.kept.title} could not be removed ({pruned.reason}): {error.message}"
            events.emit(Notice(message=told, level="warning"))
        else:
            if went:
                events.emit(Undone(what=pruned.title))
