"""Clearing up after builds and trials that were killed, and after guests that were kept and are no longer wanted.

Nothing is removed on a name or number alone: a journal of ours must name the guest or storage, and the guest's
description, the dump's notes or the template's name must carry the same run's mark.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.errors import GuestError, LockTaken, ShellFailed
from goldsmith.base.events import Events, Notice, Undone
from goldsmith.base.files import open_lock
from goldsmith.build.facts import Site
from goldsmith.build.journal import Entry, find_orphans, read_entry
from goldsmith.build.traces import remove_dumps, remove_or_release, remove_template


@dataclass(frozen=True)
class Kept:
    """A build guest that stays because somebody wanted it."""

    build_id: str
    image: str
    site: str
    vmid: int


def list_kept(state: Path) -> list[Kept]:
    """Return the guests that were kept, on whichever site."""
    folder = state / "kept"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    entries = [entry for directory in found if (entry := read_entry(directory)) is not None and entry.vmids]
    return [Kept(entry.run_id, entry.image, entry.site, entry.vmids[-1]) for entry in entries]


def remove_kept(kept: Kept, site: Site, state: Path, events: Events) -> None:
    """Remove a guest that was kept; one that is gone already, or belongs to somebody else by now, is left alone."""
    directory = state / "kept" / kept.build_id
    entry = read_entry(directory)
    if entry is not None:
        _remove_traces(entry, f"kept from build {entry.run_id} of {entry.image}", site, events)
    shutil.rmtree(directory, ignore_errors=True)


def sweep_orphans(site: Site, state: Path, events: Events) -> None:
    """Remove what killed runs have left on a site. Those of other sites wait for the next run there."""
    for directory in find_orphans(state):
        # another process may be at the same orphan; or it is none, but a run that was just removing its own folder
        with suppress(LockTaken, FileNotFoundError), open_lock(directory / "lock"):
            entry = read_entry(directory)
            if entry is not None and entry.site != site.name:
                continue
            if entry is None or _try_removing(entry, site, events):
                shutil.rmtree(directory, ignore_errors=True)


def _try_removing(entry: Entry, site: Site, events: Events) -> bool:
    """Remove what a killed run has left; tell whether that worked.

    A guest that only a person can free (its lock, without a shell on the node) hinders nobody's next build.
    """
    whose = f"left by {entry.kind} {entry.run_id} of {entry.image}"
    try:
        _remove_traces(entry, whose, site, events)
    except (GuestError, ShellFailed) as error:
        told = f"something {whose} could not be removed: {error.message}"
        events.emit(Notice(message=f"{told} ({error.hint})" if error.hint else told, level="warning"))
        return False
    return True


def _remove_traces(entry: Entry, whose: str, site: Site, events: Events) -> None:
    for vmid in entry.vmids:
        if remove_or_release(site, vmid, entry.run_id, tasks=entry.tasks):
            events.emit(Undone(what=f"guest {vmid}, {whose}"))
    for volid in _remove_dumps(entry, site):
        events.emit(Undone(what=f"dump {volid}, {whose}"))
    if entry.template and remove_template(site, entry.template, entry.run_id):
        events.emit(Undone(what=f"template {entry.template}, {whose}"))


def _remove_dumps(entry: Entry, site: Site) -> list[str]:
    return remove_dumps(site, entry.dump_storage, entry.run_id, entry.vmids) if entry.dump_storage else []
