"""`goldsmith rollback`, `resume` and `abort`: back to what was before, and on from where something was broken off."""

from __future__ import annotations

from contextlib import ExitStack

import click

from goldsmith.base.errors import FleetError
from goldsmith.base.events import Notice
from goldsmith.cli.consent import check_consent
from goldsmith.cli.deploy import make_surrounding, report
from goldsmith.cli.fleet import Yard
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say
from goldsmith.cli.terminal import open_events
from goldsmith.definition.fleet import Server
from goldsmith.fleet.facts import Guests
from goldsmith.fleet.interrupted import find_interrupted
from goldsmith.fleet.marks import Record, Role
from goldsmith.fleet.plan import Action, ServerPlan, Wanted
from goldsmith.fleet.run import Replaced, Wishes, abort, find_previous, replace_server, resume, roll_back


@click.command(cls=Command)
@click.argument("server", metavar="SERVER")
@click.option("--to", "version", metavar="TAG", help="The version to go back to; by default the one before.")
@click.option("--dry-run", is_flag=True, help="Only say how it would be done, and that it can be.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_settings
def rollback(settings: Settings, server: str, version: str | None, dry_run: bool, yes: bool) -> None:
    """Bring the version before back, with the data as it is now.

    While the guest that was replaced is kept, that takes seconds: it gets the data and the address back. Otherwise the
    server is made anew from the stored version.
    """
    with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
        yard = Yard(settings, stack, events)
        one = yard.get_server(server)
        guests = yard.read_guests([one])
        way, wanted = choose_way(one, guests, version, yard)
        if dry_run:
            say(f"{one.name}: {way}")
            return
        if not yes:
            check_consent(f"{one.name}: {way}. Do it?")
        done = go_back(one, guests, wanted, yard)
    report([done], settings)


def choose_way(server: Server, guests: Guests, version: str | None, yard: Yard) -> tuple[str, str]:
    """Return how a server goes back, for a person, and the version's tag; empty: to the guest that is kept.

    :raises FleetError: it does not run, or there is nothing to go back to.
    """
    current = guests.find(server.hostname, Role.CURRENT)
    previous = find_previous(server, yard.locate(server, guests), guests)
    if current is None:
        raise FleetError(f"{server.name} does not run", hint="goldsmith plan says how things are")
    if previous is not None and version in (None, previous.labels.tag):
        return f"to {previous.labels.version}, which is kept as guest {previous.vmid}", ""
    tag = version or yard.find_before(server, current.labels.tag)
    if tag is None:
        raise FleetError(f"{server.name}: no version before {current.labels.version} is stored")
    yard.find_repository(server, tag)
    return f"to {server.variables.image}:{tag}, made anew from the stored version", tag


def go_back(server: Server, guests: Guests, tag: str, yard: Yard) -> Replaced:
    """Bring a server back."""
    site = yard.locate(server, guests)
    around = make_surrounding(yard, yard.events, Wishes(untested=True), server)  # it has run before
    if tag:
        repository, version = yard.find_repository(server, tag)
        wanted = Wanted(server.variables.image, version.tag, version.digest)
        plan = ServerPlan(server, Action.REPLACE, "rollback", wanted, guests.find(server.hostname, Role.CURRENT))
        return replace_server(plan, site, repository, version, around)
    previous = find_previous(server, site, guests)
    repository = yard.choose_repository(previous.labels.version if previous is not None else "")
    done = roll_back(server, site, guests, repository, around)
    if done is None:
        raise FleetError(f"{server.name}: the guest before has gone", hint="run the command again")
    return done


@click.command("resume", cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
def resume_command(settings: Settings, servers: tuple[str, ...]) -> None:
    """Finish replacements that were interrupted, whichever machine had begun them."""
    _go_on(settings, servers, forward=True)


@click.command("abort", cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
def abort_command(settings: Settings, servers: tuple[str, ...]) -> None:
    """Undo replacements that were interrupted: the servers are what they were before, with their data."""
    _go_on(settings, servers, forward=False)


def _go_on(settings: Settings, names: tuple[str, ...], *, forward: bool) -> None:
    done: list[Replaced] = []
    with open_events(settings) as (events, interrupts), ExitStack() as stack, interrupts.work():
        yard = Yard(settings, stack, events)
        for server, record in find_all_interrupted(yard, names):
            replaced = go_on(server, record, yard, forward=forward)
            done += [replaced] if replaced is not None else []
    report(done, settings)


def find_all_interrupted(yard: Yard, names: tuple[str, ...]) -> list[tuple[Server, Record]]:
    """Find what was interrupted of some servers."""
    servers = yard.fleet.select(names)
    guests = yard.read_guests(servers)
    found = ((server, find_interrupted(server, yard.locate(server, guests), guests)) for server in servers)
    return [(server, record) for server, record in found if record is not None]


def go_on(server: Server, record: Record, yard: Yard, *, forward: bool) -> Replaced | None:
    """Finish or undo one replacement."""
    site = yard.find_site(server, record.node)
    repository = yard.choose_repository(record.version)
    around = make_surrounding(yard, yard.events, Wishes(untested=True), server)  # that was judged when it began
    if forward:
        return resume(server, site, record, repository, around)
    abort(server, site, record, repository, around)
    yard.events.emit(Notice(message=f"{server.name} is as it was before"))
    return None
