"""`goldsmith cache`: the finished layers that are kept on nodes, and the downloaded packages on this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import DefinitionError, UsageError
from goldsmith.base.events import Events, Undone
from goldsmith.base.units import render_bytes
from goldsmith.build.cache.archives import CacheArchive
from goldsmith.build.cache.finished import Finished
from goldsmith.build.cache.guests import CacheGuest
from goldsmith.build.cache.prune import (
    LARGEST,
    Kept,
    PruneRule,
    get_name,
    plan_prune,
    prune_cache,
    read_kept,
)
from goldsmith.build.facts import Site
from goldsmith.cli.downloads import describe_downloads, prune_downloads, render_downloads
from goldsmith.cli.options import Group, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.site import Sites
from goldsmith.cli.surroundings import make_surroundings
from goldsmith.cli.table import render_table
from goldsmith.cli.terminal import open_events
from goldsmith.definition.images import list_images
from goldsmith.definition.layers import PERIOD_FORM, read_period
from goldsmith.definition.load import load_image

Listed = tuple[str, Kept]
"""The node's name, and what keeps layers there."""
SIZE = re.compile(r"(\d+)([MGT])B?\Z")
UNITS = {"M": 10**6, "G": 10**9, "T": 10**12}
SIZE_FORM = "a number with M, G or T, as in 20G"


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """List and remove what builds use again: finished layers, and downloaded packages.

    Each image has one stopped guest on its node, whose snapshots are its layers. Where the guest's storage makes no
    snapshots, layers are archives in a storage for backups. Packages lie on this machine. Without a command: list.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_layers)


@cache.command("list")
@pass_settings
def list_layers(settings: Settings) -> None:
    """List what keeps layers: guests and archives, what is in them, and how much room each takes; then the packages.

    How much room a snapshot takes Proxmox does not tell: a guest counts with what its disk uses, or with the disk's
    whole size where the storage does not tell that either.
    """
    with open_events(settings) as (events, _), ExitStack() as stack:
        listed = [(site.node.name, kept) for site in open_sites(settings, stack, events) for kept in read_kept(site)]
    if settings.json:
        say_document({**describe_cache(listed), "downloads": describe_downloads()})
        return
    if listed:
        say(render_cache(listed))
    else:
        tell("no layers are kept")
    if downloads := render_downloads():
        tell(downloads)


@cache.command()
@click.argument("names", nargs=-1, metavar="[GUEST|ARCHIVE]...")
@click.option("--older-than", metavar="AGE", help="Remove what no build has used for longer, as 30d.")
@click.option("--size", metavar="SIZE", help="Remove what was not used for longest, until all takes no more, as 20G.")
@click.option("--downloads", "only_downloads", is_flag=True, help="Leave layers alone, remove downloaded packages.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@pass_settings
def prune(
    settings: Settings,
    names: tuple[str, ...],
    older_than: str | None,
    size: str | None,
    only_downloads: bool,
    dry_run: bool,
) -> None:
    """Remove guests and archives that keep layers: those that are named as the list does, by age or size, or all.

    The next build of their images makes everything again. What a build is in stays. The size is that of all on one
    node. Where nothing is named and no size is given, downloaded packages go, too: all, or those that no build has
    wanted since that age.
    """
    if only_downloads and (names or size):
        raise UsageError("layers are named, and --downloads leaves layers alone", hint="give one of the two")
    age = _read_age(older_than)
    rule = PruneRule(frozenset(names), age, _read_size(size))
    with open_events(settings) as (events, interrupts), interrupts.work():
        gone = [] if only_downloads else _prune_layers(settings, rule, events, dry_run=dry_run)
        gone += [] if names or size else prune_downloads(age, events, dry_run=dry_run)
    if settings.json:
        return
    for what in gone if dry_run else []:
        say(what)
    if not gone:
        tell("nothing is to be removed")


def _prune_layers(settings: Settings, rule: PruneRule, events: Events, *, dry_run: bool) -> list[str]:
    """Remove what keeps layers; return what went, or would go."""
    gone: list[str] = []
    with ExitStack() as stack:
        kept = [(site, read_kept(site)) for site in open_sites(settings, stack, events)]
        _check_known(sorted(rule.names), [one for _, listed in kept for one in listed])
        for site, listed in kept:
            for pruned in plan_prune(listed, rule, now=time.time()):
                if dry_run or prune_cache(site, pruned, state=state_directory()):
                    gone.append(pruned.title)
                    if not dry_run:
                        events.emit(Undone(what=pruned.title))
    return gone


def _read_age(text: str | None) -> int | None:
    try:
        return None if text is None else read_period(text)
    except ValueError as error:
        raise UsageError(f"--older-than: '{text}' is no age", hint=f"give {PERIOD_FORM}") from error


def _read_size(text: str | None) -> int | None:
    if text is None:
        return None
    if (found := SIZE.match(text)) is None:
        raise UsageError(f"--size: '{text}' is no size", hint=f"give {SIZE_FORM}")
    return int(found[1]) * UNITS[found[2]]


def _check_known(names: Sequence[str], known: Sequence[Kept]) -> None:
    for name in names:
        if name not in {get_name(kept) for kept in known}:
            what = f"guest {name}" if name.isdigit() else name
            listed = ", ".join(get_name(kept) for kept in known) or "nothing does"
            raise UsageError(f"{what} keeps no layers", hint=f"these do: {listed}")


def open_sites(settings: Settings, stack: ExitStack, events: Events) -> list[Site]:
    """Open every node on which an image of the project is built; the embedded one in any case."""
    sites, project = Sites(stack, events, settings), settings.find_project()
    found = {(site := sites.embedded()).name: site}
    for directory in list_images(project) if project is not None else []:
        try:
            image = load_image(directory, make_surroundings(settings))
        except DefinitionError:  # `validate` tells
            continue
        settings.masker.add(*image.secrets)
        site = sites.of(image)
        found[site.name] = site
    return list(found.values())


def render_cache(listed: Sequence[Listed]) -> str:
    """Render guests and archives with their layers as a table, and what they take on each node."""
    rows = []
    for node, kept in listed:
        used = _render_time(kept.last_used)
        size = render_bytes(kept.size) if kept.size else "-"
        state = "in use" if kept.in_use else ""
        rows.append((get_name(kept), _name_kind(kept), node, kept.image, _name_layers(kept), used, size, state))
    table = render_table(("WHERE", "KEPT AS", "NODE", "IMAGE", "LAYERS", "LAST USED", "SIZE", ""), rows)
    return "\n".join([table, "", *_render_totals(listed)])


def _render_totals(listed: Sequence[Listed]) -> Iterator[str]:
    for node in dict.fromkeys(node for node, _ in listed):
        total = sum(kept.size for at, kept in listed if at == node)
        yield f"{render_bytes(total)} on {node}; beyond {render_bytes(LARGEST)} what was not used for longest goes"


def _render_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "-"


def _name_kind(kept: Kept) -> str:
    return "snapshots" if isinstance(kept, CacheGuest) else "archive"


def _name_layers(kept: Kept) -> str:
    if isinstance(kept, CacheGuest):
        return " < ".join(checkpoint.layer for checkpoint in kept.checkpoints) or "-"
    return kept.layer


def describe_cache(listed: Sequence[Listed]) -> dict[str, JsonValue]:
    """Describe guests and archives for a program."""
    guests: list[JsonValue] = [_describe_guest(node, kept) for node, kept in listed if isinstance(kept, CacheGuest)]
    archives: list[JsonValue] = [
        _describe_archive(node, kept) for node, kept in listed if isinstance(kept, CacheArchive)
    ]
    size = sum(kept.size for _, kept in listed)
    return {"guests": guests, "archives": archives, "size": size, "limit": LARGEST}


def _describe_guest(node: str, guest: CacheGuest) -> JsonValue:
    layers: list[JsonValue] = [_describe_layer(one) for one in guest.checkpoints]
    return {
        "vmid": guest.vmid,
        "node": node,
        "image": guest.image,
        "layers": layers,
        "used": guest.last_used,
        "size": guest.size,
        "in_use": guest.in_use,
    }


def _describe_archive(node: str, archive: CacheArchive) -> JsonValue:
    return {
        "volid": archive.volid,
        "node": node,
        "image": archive.image,
        "layer": _describe_layer(archive),
        "used": archive.last_used,
        "size": archive.size,
        "in_use": archive.in_use,
    }


def _describe_layer(layer: Finished) -> JsonValue:
    return {"layer": layer.layer, "key": layer.key, "made": layer.made, "since": list(layer.since)}
