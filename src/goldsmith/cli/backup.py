"""`goldsmith backup` and `goldsmith drill`: backups of servers, made and tried out."""

from __future__ import annotations

from contextlib import ExitStack

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import FleetError
from goldsmith.cli.fleet import Yard
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.terminal import open_events
from goldsmith.definition.fleet import Server
from goldsmith.fleet.backups import Drilled, back_up_server, drill
from goldsmith.fleet.facts import Guests, ServerGuest
from goldsmith.fleet.marks import Role


@click.command(cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
def backup(settings: Settings, servers: tuple[str, ...]) -> None:
    """Back up servers as the inventory says, and read the backups back. Those that are not to be kept go.

    Every declared volume is proven to be in the backup. Without a SERVER all are meant that have a backup storage.
    """
    done: list[tuple[str, str]] = []
    with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
        yard = Yard(settings, stack, events)
        chosen = choose(yard, servers)
        guests = yard.read_guests(chosen)
        for server in chosen:
            guest = get_guest(server, guests)
            made = back_up_server(server, guest, yard.find_site(server, guest.node), events)
            done.append((server.name, made.volid))
    if settings.json:
        say_document({"backups": [{"server": name, "volid": volid} for name, volid in done]})
        return
    for name, volid in done:
        say(f"{name} {volid}")


def choose(yard: Yard, names: tuple[str, ...]) -> list[Server]:
    """Return the servers that are meant: those that are named, or all that have a backup storage."""
    return [server for server in yard.fleet.select(names) if names or server.variables.backup is not None]


def get_guest(server: Server, guests: Guests) -> ServerGuest:
    """Return the guest that a server is.

    :raises FleetError: there is none.
    """
    guest = guests.find(server.hostname, Role.CURRENT)
    if guest is None:
        raise FleetError(f"{server.name} is not there", hint="goldsmith plan says how things are")
    return guest


@click.command("drill", cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
def drill_command(settings: Settings, servers: tuple[str, ...]) -> int:
    """Try backups out: restore the newest one into a guest that is cut off from its network, check it, remove it.

    Checks of ports, commands and testinfra files are made in that guest; URLs are not asked for. The outcome is written
    into the backup's notes, and `goldsmith status` shows it. The exit code is 11 when a backup does not come up.
    """
    with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
        yard = Yard(settings, stack, events)
        chosen = choose(yard, servers)
        guests = yard.read_guests(chosen)
        done = [
            drill(server, yard.locate(server, guests), state_directory(), yard.inventory, events) for server in chosen
        ]
    if settings.json:
        say_document({"drills": [describe(one) for one in done]})
    else:
        for one in done:
            say(f"{one.server} {one.volid} {'failed: ' + one.fault if one.fault else 'passed'} ({one.seconds:.0f} s)")
        if not done:
            tell("no server has a backup storage")
    return FleetError.exit_code if any(one.fault for one in done) else 0


def describe(one: Drilled) -> JsonValue:
    """Describe a drill for a program."""
    return {"server": one.server, "volid": one.volid, "passed": not one.fault, "fault": one.fault or None}
