"""The downloaded packages that builds share, for `goldsmith cache`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from goldsmith.base.digest import JsonValue
from goldsmith.base.events import Events, Undone
from goldsmith.base.units import render_bytes
from goldsmith.cli.project import downloads_directory
from goldsmith.provision.downloads.bounds import plan_prune
from goldsmith.provision.downloads.store import Store, StoredFile


def describe_downloads() -> JsonValue:
    """Describe what there is for a program."""
    store = Store(downloads_directory())
    files = store.list_files()
    return {"directory": str(store.directory), "files": len(files), "size": _sum_size(files)}


def render_downloads() -> str:
    """Render what there is for a person; empty where there is nothing."""
    store = Store(downloads_directory())
    files = store.list_files()
    return f"{_render_files(files)}, in {store.directory}" if files else ""


def prune_downloads(older_than: int | None, events: Events, *, dry_run: bool) -> list[str]:
    """Remove downloaded packages; return what went, or would go: one text for all of them."""
    store = Store(downloads_directory())
    planned = plan_prune(store.list_files(), older_than, now=time.time())
    gone = planned if dry_run else [file for file in planned if store.remove(file)]
    if not gone:
        return []
    what = _render_files(gone)
    if not dry_run:
        events.emit(Undone(what=what))
    return [what]


def _render_files(files: Sequence[StoredFile]) -> str:
    return f"{len(files)} downloaded file{'' if len(files) == 1 else 's'}, {render_bytes(_sum_size(files))}"


def _sum_size(files: Sequence[StoredFile]) -> int:
    return sum(file.size for file in files)
