"""`goldsmith drift`: what somebody, or something, has changed in running servers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from goldsmith.base.errors import FleetError
from goldsmith.cli.fleet import Yard
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.terminal import open_events
from goldsmith.cli.units import TIMER, render_units, write_units
from goldsmith.definition.fleet import Server
from goldsmith.fleet.drift import Drift, find_drift
from goldsmith.fleet.facts import Guests
from goldsmith.fleet.looks import note_look
from goldsmith.fleet.marks import Role
from goldsmith.pve.attach import AttachShell

DRIFTED = 4
"""Exit code where something differs."""
MOST_FILES = 40


@click.command(cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@click.option("--ignore", multiple=True, metavar="PATH", help="PATH, with all below it, may differ.")
@click.option("--all", "whole", is_flag=True, help="List every file, however many there are.")
@click.option(
    "--timer",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Look at nothing: write units into FOLDER (/etc/systemd/system) that look once a day.",
)
@pass_settings
def drift(
    settings: Settings, servers: tuple[str, ...], ignore: tuple[str, ...], whole: bool, timer: Path | None
) -> int:
    """Say what differs in running servers from the versions that they were made from: files, packages, accounts, units.

    Every file on a server's root file system is compared with the version's own list, by content, mode and owner;
    declared data and what changes by itself (logs, caches, what Proxmox writes at each start) do not count. Nothing is
    changed.

    The exit code is 0 when nothing differs, 4 when something does.
    """
    if timer is not None:
        install_timer(settings, timer, [*servers, *(word for path in ignore for word in ("--ignore", path))])
        return 0
    with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
        yard = Yard(settings, stack, events)
        chosen = yard.fleet.select(servers)
        guests = yard.read_guests(chosen)
        found = [look(server, guests, yard, ignore) for server in chosen]
    if settings.json:
        say_document({"servers": [one.as_json() for one in found]})
    else:
        say("\n\n".join(render_drift(one, whole=whole) for one in found))
        tell("nothing differs" if all(one.is_clean for one in found) else "goldsmith rebuild makes a server anew")
    return 0 if all(one.is_clean for one in found) else DRIFTED


def install_timer(settings: Settings, folder: Path, arguments: Sequence[str]) -> None:
    """Write the units that look for drift once a day, and say how they are switched on."""
    units = render_units(settings, arguments)
    write_units(folder, units)
    for name in units:
        say(str(folder / name))
    tell(f"systemctl daemon-reload && systemctl enable --now {TIMER}")


def look(server: Server, guests: Guests, yard: Yard, ignore: tuple[str, ...]) -> Drift:
    """Compare one server with its version.

    :raises FleetError: it does not run.
    """
    guest = guests.find(server.hostname, Role.CURRENT)
    if guest is None or not guest.running:
        raise FleetError(f"{server.name} does not run", hint="goldsmith plan says how things are")
    begun = time.monotonic()
    site = yard.find_site(server, guest.node)
    site.need_shell(f"comparing the files of {server.name}")
    shell = AttachShell(server.name, site.shell, site.lxc_path, guest.vmid)
    stored = yard.get_stored(guest.labels.version)
    paths = [*(str(one.path) for one in server.variables.data), *ignore]
    found = find_drift(server.name, shell, stored.repository, stored.version, stored.record, paths)
    note_look(state_directory(), yard.fleet.inventory, guest.vmid, found)
    return replace(found, seconds=time.monotonic() - begun)


def render_drift(one: Drift, *, whole: bool) -> str:
    """Render what differs in a server."""
    if one.is_clean:
        return f"{one.server}: as {one.version} ({one.seconds:.1f} s)"
    files = [f"  {', '.join(file.what):<16} /{file.path}" for file in one.files]
    more = [] if whole or len(files) <= MOST_FILES else [f"  and {len(files) - MOST_FILES} more: --all"]
    packages = [f"  package {change.name} {change.before or 'none'} -> {change.after or 'none'}"
                for change in one.packages]  # fmt: skip
    accounts = [f"  {line}" for line in one.accounts]
    shown = files if whole else files[:MOST_FILES]
    head = f"{one.server}: differs from {one.version} ({one.seconds:.1f} s)"
    return "\n".join([head, *packages, *accounts, *shown, *more])
