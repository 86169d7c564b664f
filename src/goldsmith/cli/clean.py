"""`goldsmith clean`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from goldsmith.base.errors import UsageError
from goldsmith.base.events import Events, Notice
from goldsmith.build.facts import Site, render_site_prefix
from goldsmith.build.journal import find_orphans, read_entry
from goldsmith.build.sweep import Kept, list_kept, remove_kept, sweep_orphans
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_json, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.proxmox import list_endpoints
from goldsmith.cli.reading import list_proxmox_images
from goldsmith.cli.site import Sites, load_node_settings
from goldsmith.cli.table import render_table
from goldsmith.cli.terminal import open_events
from goldsmith.definition.image import Image


@click.command(cls=Command)
@click.argument("build_ids", nargs=-1, metavar="[BUILD_ID]...")
@click.option("--kept", "all_kept", is_flag=True, help="Remove all guests that were kept, too.")
@pass_settings
def clean(settings: Settings, build_ids: tuple[str, ...], all_kept: bool) -> None:
    """Remove what killed builds and tests have left, and guests that were kept.

    Guests that were kept with --keep are removed when their BUILD_ID is given, or all of them with --kept; otherwise
    they are listed. Only what carries the mark of one of our runs is ever touched. A Proxmox is cleaned when an image
    of the project names it.
    """
    state = state_directory()
    unwanted = choose_kept(list_kept(state), build_ids, all_kept=all_kept)
    with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
        cleaner = Cleaner(settings, state, Sites(stack, events, settings), events)
        cleaner.sweep()
        for kept in unwanted:
            cleaner.remove(kept)
    _list_rest(list_kept(state), settings)


def choose_kept(known: Sequence[Kept], build_ids: Sequence[str], *, all_kept: bool) -> list[Kept]:
    """Return the guests to be removed.

    :raises UsageError: no guest was kept of a build that is named.
    """
    ids = {kept.build_id for kept in known}
    for wanted in build_ids:
        if wanted not in ids:
            hint = f"guests were kept of: {', '.join(sorted(ids))}" if ids else "no guest was kept"
            raise UsageError(f"no guest was kept of a build '{wanted}'", hint=hint)
    return [kept for kept in known if all_kept or kept.build_id in build_ids]


class Cleaner:
    """Removes things from the sites that they are on. A site is opened only if something of ours may be there."""

    def __init__(self, settings: Settings, state: Path, sites: Sites, events: Events) -> None:
        self._settings, self._state, self._sites, self._events = settings, state, sites, events

    def sweep(self) -> None:
        """Remove what killed runs have left."""
        entries = [entry for orphan in find_orphans(self._state) if (entry := read_entry(orphan)) is not None]
        for name in sorted({entry.site for entry in entries}):
            site = self._find_site(name)
            if site is not None:
                sweep_orphans(site, self._state, self._events)
        for orphan in find_orphans(self._state):
            self._explain_rest(orphan)

    def remove(self, kept: Kept) -> None:
        """Remove a guest that was kept.

        :raises UsageError: the node that it is on cannot be found.
        """
        site = self._find_site(kept.site)
        if site is None:
            hint = "run this in the project whose image names that Proxmox"
            raise UsageError(f"guest {kept.vmid} of build {kept.build_id} is on {kept.site}", hint=hint)
        remove_kept(kept, site, self._state, self._events)

    def _find_site(self, name: str) -> Site | None:
        """Return the site of a journal's name for it, `embedded:/var/lib/...:pve`; None if we cannot get there."""
        if name.startswith(render_site_prefix("embedded", str(load_node_settings().state))):
            return self._sites.embedded()
        images = list_proxmox_images(self._settings)
        return next((self._sites.of(image) for image in images if name.startswith(_prefix(image))), None)

    def _explain_rest(self, orphan: Path) -> None:
        entry = read_entry(orphan)
        if entry is not None:
            left = f"what {entry.kind} {entry.run_id} of {entry.image} has left is on {entry.site}"
            self._events.emit(Notice(message=f"{left}: the next build or test there removes it"))


def _prefix(image: Image) -> str:
    first = list_endpoints(image)[0]
    return render_site_prefix("proxmox", f"{first.host}:{first.port}")


def _list_rest(kept: Sequence[Kept], settings: Settings) -> None:
    if settings.json:
        for item in kept:
            say_json({"event": "kept", **asdict(item)})
    elif kept:
        rows = [(item.build_id, item.image, str(item.vmid), item.site) for item in kept]
        say(render_table(("BUILD", "IMAGE", "GUEST", "SITE"), rows))
        tell("these guests were kept; remove one: goldsmith clean BUILD")
    else:
        tell("nothing is left of earlier builds and tests")
