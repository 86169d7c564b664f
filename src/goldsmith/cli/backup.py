"""`goldsmith backup`, `drill` and `restore`: backups of servers, made, tried out and gone back to."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import BackupFailed, FleetError, UsageError
from goldsmith.base.units import render_bytes
from goldsmith.build.facts import Site
from goldsmith.cli.consent import check_consent
from goldsmith.cli.deploy import make_surrounding, report
from goldsmith.cli.fleet import Yard
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.terminal import open_events
from goldsmith.definition.fleet import Server
from goldsmith.fleet.archived import list_archived_paths
from goldsmith.fleet.backups import Drilled, back_up_server, drill, list_backups
from goldsmith.fleet.facts import Guests, ServerGuest
from goldsmith.fleet.marks import Role, find_version
from goldsmith.fleet.run import Wishes, choose_restored_version, restore_server
from goldsmith.pve.storage import Volume


@click.command(cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
def backup(settings: Settings, servers: tuple[str, ...]) -> None:
    """Back up servers as the inventory says, and read the backups back.

    Every declared volume is proven to be in the backup. Backups that the retention does not keep go. Without a SERVER
    all are meant that have a backup storage.
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


@click.command(cls=Command)
@click.argument("server", metavar="SERVER")
@click.option(
    "--at", "moment", metavar="TIME", help="The newest backup not later than TIME, as 2026-11-25 or with 10:30."
)
@click.option("--data-only", is_flag=True, help="Only the data; the server goes on with the version that it runs.")
@click.option("--list", "listed", is_flag=True, help="Only list the backups.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_settings
def restore(settings: Settings, server: str, moment: str | None, data_only: bool, listed: bool, yes: bool) -> None:
    """Bring a server back to what it was when a backup was made, data and all.

    A guest is made from the backup beside the one that runs, gets its address, and is checked; where a check fails, the
    server is as it was. The guest that ran until then is kept, stopped, with its own data, until somebody removes it:
    `goldsmith rollback` goes back to it. A server that is not there any more is made from its backup.

    With --data-only the new guest is made from the version that the server runs now, and gets the data of the backup.
    Volumes that are in no backup go along as they are.
    """
    with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
        yard = Yard(settings, stack, events)
        one = yard.get_server(server)
        guests = yard.read_guests([one])
        site = yard.locate(one, guests)
        backups = list_backups(one, site)
        if listed:
            say_backups(backups, settings)
            return
        chosen = choose_backup(one, backups, moment)
        if not yes:
            check_consent(render_question(one, site, chosen, data_only=data_only))
        version = choose_restored_version(one, chosen, guests, data_only=data_only)
        around = make_surrounding(yard, events, Wishes(untested=True), one)
        repository = yard.choose_repository(version)
        done = restore_server(one, site, guests, chosen, version, repository, around, data_only=data_only)
    report([done], settings)


def render_question(server: Server, site: Site, backup: Volume, *, data_only: bool) -> str:
    """Ask whether a server is to be restored; says what is not in the backup."""
    what = "gets the data" if data_only else "becomes what"
    question = f"{server.name} {what} it {'had' if data_only else 'was'} at {render_moment(backup)} ({backup.volid})."
    lacking = sorted(server.variables.volume_paths - list_archived_paths(site, backup.volid))
    if lacking:
        question += f" {', '.join(lacking)}: not in the backup, and {'goes along' if data_only else 'empty then'}."
    return f"{question} Do it?"


def choose_backup(server: Server, backups: list[Volume], moment: str | None) -> Volume:
    """Return the backup that is meant: the newest, or the newest that is not later than a moment.

    :raises BackupFailed: there is none.
    """
    latest = None if moment is None else parse_moment(moment)
    found = next((backup for backup in backups if latest is None or backup.created <= latest), None)
    if found is None:
        when = f" not later than {moment}" if moment else ""
        raise BackupFailed(f"{server.name} has no backup{when}", hint=f"goldsmith restore {server.name} --list")
    return found


def parse_moment(text: str) -> float:
    """Return a moment in seconds since 1970; a day alone means its end.

    :raises UsageError: it is none.
    """
    for form, more in (("%Y-%m-%d %H:%M", 59), ("%Y-%m-%dT%H:%M", 59), ("%Y-%m-%d", 86399)):
        with suppress(ValueError):
            return time.mktime(time.strptime(text, form)) + more
    raise UsageError(f"--at: '{text}' is no time", hint="write it like 2026-11-25 or '2026-11-25 10:30'")


def render_moment(backup: Volume) -> str:
    """Render when a backup was made."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(backup.created))


def say_backups(backups: list[Volume], settings: Settings) -> None:
    """List backups, newest first."""
    if settings.json:
        say_document({"backups": [{"volid": one.volid, "made": one.created, "size": one.size} for one in backups]})
        return
    for one in backups:
        say(f"{render_moment(one)}  {find_version(one.notes) or '-'}  {render_bytes(one.size)}  {one.volid}")
