"""`goldsmith images diff`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import click

from goldsmith.artifacts.diff import (
    FileChange,
    PackageChange,
    ValueChange,
    VersionDiff,
    diff_trees,
    diff_versions,
    render_files_json,
)
from goldsmith.artifacts.tree import Tree, read_tree, read_trees
from goldsmith.base.digest import JsonValue
from goldsmith.base.events import Events
from goldsmith.base.units import render_bytes
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document
from goldsmith.cli.progress import open_progress
from goldsmith.cli.versions import Stored, get_stored, repository_option


@click.command(cls=Command)
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--files", is_flag=True, help="Compare every file, too: all layers that differ are read.")
@click.option("--times", is_flag=True, help="With --files, also name the files of which only the time differs.")
@repository_option
@pass_settings
def diff(settings: Settings, before: str, after: str, files: bool, times: bool, repository: str | None) -> None:
    """Say what differs between two versions.

    Packages that were added, removed and upgraded; variables, inputs and tools as they were recorded; sizes and layers.
    A and B are NAME:TAG, NAME:CHANNEL or NAME.
    """
    with open_progress(settings) as events:
        old, new = get_stored(before, settings, repository), get_stored(after, settings, repository)
        found = diff_versions(old.version, new.version, old.record, new.record)
        changes = compare_files(old, new, events) if files and not is_elsewhere(found) else None
    if settings.json:
        more: dict[str, JsonValue] = {} if changes is None else {"files": render_files_json(changes)}
        say_document({**found.as_json(), **more})
    else:
        say("\n".join(render_diff(found, changes, times=times)))


def is_elsewhere(found: VersionDiff) -> bool:
    """Tell whether nobody can compare files: one of the versions is a backup on its node."""
    return bool(found.before.backup or found.after.backup)


def compare_files(old: Stored, new: Stored, events: Events) -> list[FileChange]:
    """Compare the files of two versions, which may lie in different repositories.

    :raises RepositoryDamaged: a layer is not what its digest promises.
    """
    return diff_trees(*_read_both(old, new, events))


def _read_both(old: Stored, new: Stored, events: Events) -> tuple[Tree, Tree]:
    sizes = {layer.digest: layer.size for version in (old.version, new.version) for layer in version.layers}
    if old.repository.location == new.repository.location:
        watch = events.watch("read layers", sum(sizes.values()))
        before, after = read_trees(old.repository, [old.version, new.version], watch)
        return before, after
    return tuple(  # type: ignore[return-value]
        read_tree(one.repository, one.version, events.watch(f"read {one.version}", one.version.size))
        for one in (old, new)
    )


def render_diff(found: VersionDiff, changes: Sequence[FileChange] | None, *, times: bool = False) -> Iterator[str]:
    """Render what differs for a person, in lines: `+` for what is new, `-` for what is gone, `~` for the rest."""
    before, after = found.before, found.after
    yield f"{before} -> {after}"
    yield f"size: {render_bytes(before.size)} -> {render_bytes(after.size)}{_render_layers(found)}"
    yield from _render_part("packages", map(_render_package, [*found.added, *found.removed, *found.upgraded]))
    yield from _render_part("variables", map(_render_value, found.variables))
    yield from _render_part("inputs", map(_render_value, found.inputs))
    if changes is not None:
        yield from _render_files(changes, times=times)


def _render_files(changes: Sequence[FileChange], *, times: bool) -> Iterator[str]:
    timed = [change for change in changes if change.is_time_only]
    yield from _render_part("files", (_render_file(change) for change in changes if not change.is_time_only))
    if timed:
        listed = _render_part("files of which only the time differs", map(_render_file, timed))
        yield from listed if times else [f"{next(listed)} (--times names them)"]


def _render_layers(found: VersionDiff) -> str:
    if is_elsewhere(found):
        return "; not compared are the files of what is a backup on its node"
    if not found.new_layers and not found.old_layers:
        return "; all layers are the same"
    number, size = len(found.new_layers), sum(layer.size for layer in found.new_layers)
    return f"; {number} of {len(found.after.layers)} layers are new ({render_bytes(size)})"


def _render_part(title: str, lines: Iterable[str]) -> Iterator[str]:
    listed = list(lines)
    yield f"{title}: {len(listed) if listed else 'no difference'}"
    yield from (f"  {line}" for line in listed)


def _render_package(change: PackageChange) -> str:
    name = f"{change.name}:{change.arch}" if change.arch else change.name
    if not change.before:
        return f"+ {name} {change.after}"
    return f"- {name} {change.before}" if not change.after else f"~ {name} {change.before} -> {change.after}"


def _render_value(change: ValueChange) -> str:
    before, after = (json.dumps(value, ensure_ascii=False) for value in (change.before, change.after))
    if change.before is None:
        return f"+ {change.name}: {after}"
    return f"- {change.name}: {before}" if change.after is None else f"~ {change.name}: {before} -> {after}"


def _render_file(change: FileChange) -> str:
    mark = "+" if change.before is None else "-" if change.after is None else "~"
    path = change.path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    what = ", ".join(change.what) if mark == "~" else ""
    grown = f"{'+' if change.grown > 0 else '-'}{render_bytes(abs(change.grown))}" if change.grown else ""
    about = "; ".join(filter(None, (what, grown)))
    return f"{mark} {path}{f'  ({about})' if about else ''}"
