"""`goldsmith cache`: the finished layers that are kept on nodes, and the packages that builds share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import DefinitionError, UsageError
from goldsmith.base.events import Events, Undone
from goldsmith.base.units import render_bytes
from goldsmith.build.cache.guests import CacheGuest, list_cache
from goldsmith.build.cache.prune import PruneRule, plan_prune, prune_cache
from goldsmith.build.facts import Site
from goldsmith.cli.options import Group, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.project import downloads_directory, state_directory
from goldsmith.cli.site import Sites
from goldsmith.cli.surroundings import make_surroundings
from goldsmith.cli.table import render_table
from goldsmith.cli.terminal import open_events
from goldsmith.definition.images import list_images
from goldsmith.definition.layers import PERIOD_FORM, read_period
from goldsmith.definition.load import load_image
from goldsmith.provision.downloads.bounds import plan_prune as plan_store_prune
from goldsmith.provision.downloads.store import Store, StoredFile


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """List and remove what builds use again: finished layers, and downloaded packages.

    Each image has one stopped guest on its node, whose snapshots are its layers. Packages lie on this machine. Without
    a command: list.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_layers)


@cache.command("list")
@pass_settings
def list_layers(settings: Settings) -> None:
    """List the guests that keep layers, with what is in them, and how much room each takes; then the packages."""
    with open_events(settings) as (events, _), ExitStack() as stack:
        found = [(site, guest) for site in open_sites(settings, stack, events) for guest in list_cache(site)]
        listed = [(site.node.name, guest, read_size(site, guest)) for site, guest in found]
    downloads = Store(downloads_directory())
    files = downloads.list_files()
    if settings.json:
        described: JsonValue = {"directory": str(downloads.directory), "files": len(files), "size": _sum_size(files)}
        say_document({"guests": [_describe(*one) for one in listed], "downloads": described})
        return
    if listed:
        say(render_cache(listed))
    else:
        tell("no layers are kept")
    if files:
        tell(f"in {downloads.directory}: {_render_files(files)}")


@cache.command()
@click.argument("vmids", nargs=-1, type=int, metavar="[GUEST]...")
@click.option("--older-than", metavar="AGE", help="Remove guests whose newest layer is older, as 30d.")
@click.option("--downloads", "only_downloads", is_flag=True, help="Leave guests alone, remove downloaded packages.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@pass_settings
def prune(
    settings: Settings, vmids: tuple[int, ...], older_than: str | None, only_downloads: bool, dry_run: bool
) -> None:
    """Remove guests that keep layers: those that are named by their number, those older than an age, or all.

    The next build of their images makes everything again. A guest that a build is in stays. Where no guest is named,
    downloaded packages go, too: all, or those that no build has wanted since that age.
    """
    if vmids and only_downloads:
        raise UsageError("guests are named, and --downloads leaves guests alone", hint="give one of the two")
    age = _read_age(older_than)
    rule = PruneRule(frozenset(vmids), age)
    with open_events(settings) as (events, interrupts), interrupts.work():
        gone = [] if only_downloads else _prune_guests(settings, rule, events, dry_run=dry_run)
        gone += [] if vmids else _prune_downloads(age, events, dry_run=dry_run)
    if settings.json:
        return
    for what in gone if dry_run else []:
        say(what)
    if not gone:
        tell("nothing is to be removed")


def _prune_guests(settings: Settings, rule: PruneRule, events: Events, *, dry_run: bool) -> list[str]:
    """Remove guests that keep layers; return what went, or would go."""
    gone = []
    with ExitStack() as stack:
        sites = open_sites(settings, stack, events)
        _check_known(sorted(rule.vmids), [guest for site in sites for guest in list_cache(site)])
        for site in sites:
            for pruned in plan_prune(list_cache(site), rule, now=time.time()):
                what = f"guest {pruned.vmid} with layers of {pruned.image}: {pruned.reason}"
                if dry_run:
                    gone.append(what)
                elif prune_cache(site, pruned, state=state_directory()):
                    gone.append(what)
                    events.emit(Undone(what=what))
    return gone


def _prune_downloads(older_than: int | None, events: Events, *, dry_run: bool) -> list[str]:
    """Remove downloaded packages; return what went, or would go: one text for all of them."""
    store = Store(downloads_directory())
    planned = plan_store_prune(store.list_files(), older_than, now=time.time())
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


def _read_age(text: str | None) -> int | None:
    try:
        return None if text is None else read_period(text)
    except ValueError as error:
        raise UsageError(f"--older-than: '{text}' is no age", hint=f"give {PERIOD_FORM}") from error


def _check_known(vmids: Sequence[int], known: Sequence[CacheGuest]) -> None:
    for vmid in vmids:
        if vmid not in {guest.vmid for guest in known}:
            listed = ", ".join(str(guest.vmid) for guest in known) or "no guest does"
            raise UsageError(f"guest {vmid} keeps no layers", hint=f"these do: {listed}")


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


def read_size(site: Site, guest: CacheGuest) -> int:
    """Return what a guest's disk takes as its storage says, in bytes; 0 where it does not say."""
    config = site.node.guests.get_config(guest.vmid)
    volid = config.rootfs.volume if config.rootfs is not None else ""
    volume = site.node.storage.find_volume(volid) if volid else None
    return volume.used if volume is not None else 0


def render_cache(listed: Sequence[tuple[str, CacheGuest, int]]) -> str:
    """Render guests and their layers as a table."""
    rows = []
    for node, guest, size in listed:
        names = " < ".join(checkpoint.layer for checkpoint in guest.checkpoints) or "-"
        newest = max((checkpoint.made for checkpoint in guest.checkpoints), default=0)
        age = time.strftime("%Y-%m-%d %H:%M", time.localtime(newest)) if newest else "-"
        used = render_bytes(size) if size else "-"
        rows.append((str(guest.vmid), node, guest.image, names, age, used, "in use" if guest.in_use else ""))
    return render_table(("GUEST", "NODE", "IMAGE", "LAYERS", "NEWEST", "SIZE", ""), rows)


def _describe(node: str, guest: CacheGuest, size: int) -> JsonValue:
    layers: list[JsonValue] = [
        {"layer": one.layer, "key": one.key, "made": one.made, "since": one.since} for one in guest.checkpoints
    ]
    return {
        "vmid": guest.vmid,
        "node": node,
        "image": guest.image,
        "layers": layers,
        "size": size,
        "in_use": guest.in_use,
    }
