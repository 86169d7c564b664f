"""Clearing up after builds that were killed, and after guests that were kept and are no longer wanted.

Nothing is removed on a name or number alone: a journal of ours must name the guest or storage, and the guest's
description or the dump's notes must carry the same build's mark.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.errors import ApiFailed, LockTaken
from goldsmith.base.events import Events, Undone
from goldsmith.base.files import open_lock
from goldsmith.build.actions.guest import remove_guest
from goldsmith.build.facts import Site
from goldsmith.build.journal import Entry, find_orphans, has_mark, read_entry

SETTLE_SECONDS = 120.0
"""How long a guest that a killed build was just creating may take until it is whole."""


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
    return [Kept(entry.build_id, entry.image, entry.site, entry.vmids[-1]) for entry in entries]


def remove_kept(kept: Kept, site: Site, state: Path, events: Events) -> None:
    """Remove a guest that was kept; one that is gone already, or belongs to somebody else by now, is left alone."""
    directory = state / "kept" / kept.build_id
    entry = read_entry(directory)
    if entry is not None:
        _remove_traces(entry, site, events)
    shutil.rmtree(directory, ignore_errors=True)


def sweep_orphans(site: Site, state: Path, events: Events) -> None:
    """Remove what killed builds have left on a site. Those of other sites wait for the next build there."""
    for directory in find_orphans(state):
        with suppress(LockTaken), open_lock(directory / "lock"):  # another process may be at the same orphan
            entry = read_entry(directory)
            if entry is not None and entry.site != site.name:
                continue
            if entry is not None:
                _remove_traces(entry, site, events)
            shutil.rmtree(directory, ignore_errors=True)


def _remove_traces(entry: Entry, site: Site, events: Events) -> None:
    for vmid in entry.vmids:
        if _is_ours(entry, vmid, site):
            _end_tasks(vmid, site)
            remove_guest(site, vmid)
            events.emit(Undone(what=f"guest {vmid}, left by build {entry.build_id} of {entry.image}"))
    if entry.dump_storage:
        _remove_dumps(entry, site, events)


def _is_ours(entry: Entry, vmid: int, site: Site) -> bool:
    """Tell whether a guest carries the build's mark; one that is just being created may not carry it yet."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            config = site.node.guests.get_config(vmid)
        except ApiFailed:  # no such guest, or none that we may see
            return False
        if config.lock != "create" or time.monotonic() > deadline:
            return has_mark(config.description, entry.build_id)
        time.sleep(0.2)


def _end_tasks(vmid: int, site: Site) -> None:
    """Stop what still runs on the guest: a dump holds a lock that would make removing it fail."""
    for upid in site.node.tasks.list_running(vmid):
        site.node.tasks.stop(upid)


def _remove_dumps(entry: Entry, site: Site, events: Events) -> None:
    for volume in site.node.storage.list_content(entry.dump_storage, "backup"):
        if has_mark(volume.notes, entry.build_id):
            site.node.storage.delete_volume(volume.volid)
            events.emit(Undone(what=f"dump {volume.volid}, left by build {entry.build_id} of {entry.image}"))
