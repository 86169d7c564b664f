"""`goldsmith deploy` and `goldsmith rebuild`: servers get what the inventory says, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import Any, Concatenate

import click

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import FleetError, GoldsmithError
from goldsmith.base.events import Events, Notice
from goldsmith.build.facts import Site
from goldsmith.build.several import Job, run_jobs
from goldsmith.cli.consent import check_consent
from goldsmith.cli.fleet import Chosen, Yard
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.plan import explain, render_plan
from goldsmith.cli.project import state_directory
from goldsmith.cli.site import open_own
from goldsmith.cli.terminal import open_events
from goldsmith.definition.fleet import Server
from goldsmith.fleet.expiry import list_expired, remove_expired
from goldsmith.fleet.goals import list_goals
from goldsmith.fleet.marks import Record
from goldsmith.fleet.plan import Action, FleetPlan, ServerPlan
from goldsmith.fleet.reconfigure import reconfigure
from goldsmith.fleet.run import Replaced, Surrounding, Wishes, begin_record, replace_server

OPTIONS = (
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option("--check", is_flag=True, help="Only show what would be done, goal by goal."),
    click.option("--serial", type=click.IntRange(1, 64), default=1, show_default=True, help="How many at a time."),
    click.option("--canary", is_flag=True, help="Only the first server; the rest stays as it is."),
    click.option("--untested", is_flag=True, help="Also versions that have not passed their tests."),
    click.option("--adopt", is_flag=True, help="Also guests that goldsmith has not made."),
    click.option(
        "--discard", multiple=True, metavar="PATH", help="Data at PATH, which the inventory does not declare, may go."
    ),
)


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How servers are replaced, as the command line says."""

    wishes: Wishes
    yes: bool
    check: bool
    canary: bool
    serial: int
    """How many servers are replaced at a time."""
    again: bool = False
    """Whether also those are replaced that run what they should."""


def deploy_options(
    function: Callable[[Settings, tuple[str, ...], Ways], None],
) -> Callable[Concatenate[Settings, ...], None]:
    """Add the options of commands that replace servers; the command gets what they come to."""

    def call(settings: Settings, /, servers: tuple[str, ...], discard: tuple[str, ...], **said: Any) -> None:
        wishes = Wishes(adopt=said.pop("adopt"), untested=said.pop("untested"), discard=frozenset(discard))
        function(settings, servers, Ways(wishes=wishes, **said))

    command: Callable[Concatenate[Settings, ...], None] = update_wrapper(call, function)
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command(cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
@deploy_options
def deploy(settings: Settings, servers: tuple[str, ...], ways: Ways) -> None:
    """Do what `goldsmith plan` shows: make, replace and reconfigure servers, one after another.

    Before a server with data is replaced, it is backed up, and the backup is read back. The new guest is made beside
    the old one, gets its address and its data, and is checked; where a check fails, the old one comes back by itself.
    After the first failure no other server is begun; those stay as they are.
    """
    deploy_servers(settings, servers, ways)


@click.command(cls=Command)
@click.argument("servers", nargs=-1, required=True, metavar="SERVER...")
@pass_settings
@deploy_options
def rebuild(settings: Settings, servers: tuple[str, ...], ways: Ways) -> None:
    """Replace servers, also where they run the version that they should."""
    deploy_servers(settings, servers, replace(ways, again=True))


def deploy_servers(settings: Settings, names: Sequence[str], ways: Ways) -> None:
    """Make, replace and reconfigure servers."""
    with (
        open_events(settings, several=ways.serial > 1) as (events, interrupts),
        ExitStack() as stack,
        interrupts.work(),
    ):
        yard = Yard(settings, stack, events)
        planned, _, chosen = yard.plan(names, again=ways.again, adopt=ways.wishes.adopt)
        work = [one for one in planned.servers if one.is_deployable]
        work = work[:1] if ways.canary else work
        if ways.check:
            show(planned, work, chosen, yard)
            return
        check_possible(planned)
        if work and not ways.yes:
            ask(work)
        done = list(do(work, chosen, yard, ways))
        expire(yard, names)
    report(done, settings)


def expire(yard: Yard, names: Sequence[str]) -> None:
    """Remove the guests that were kept for a rollback and are kept no longer. One that owns data stays, and is told."""
    servers = yard.fleet.select(names)
    guests = yard.read_guests(servers)
    for server in servers:
        for expired in list_expired(server, guests, yard.find_site(server), time.time()):
            try:
                remove_expired(expired, yard.find_site(server, expired.node), yard.events)
            except FleetError as error:
                yard.events.emit(Notice(message=error.message, level="warning"))


def check_possible(planned: FleetPlan) -> None:
    """Refuse to begin while a person has to decide on something.

    :raises FleetError: a server is blocked, or a replacement was interrupted.
    """
    stuck = [one for one in planned.servers if one.action in (Action.BLOCKED, Action.RESUME)]
    if stuck:
        lines = "\n".join(f"{one.server.name}: {one.reason}" for one in stuck)
        raise FleetError(f"{stuck[0].server.name}: {stuck[0].reason}", detail=lines if len(stuck) > 1 else "")


def ask(work: Sequence[ServerPlan]) -> None:
    """Ask before servers are replaced.

    :raises UsageError: the answer is no, or nobody is there to give one.
    """
    lines = [f"  {one.server.name}: {one.action}, {one.reason}" for one in work]
    check_consent("\n".join([*lines, f"Replace or change {len(work)} server{'s' if len(work) > 1 else ''}?"]))


def do(work: Sequence[ServerPlan], chosen: dict[str, Chosen], yard: Yard, ways: Ways) -> Iterator[Replaced]:
    """Do it for one server after another, or for some at a time. After a failure no other one is begun."""
    jobs = [make_job(one, chosen[one.server.name], yard, ways.wishes) for one in work]
    if ways.serial == 1:
        for number, job in enumerate(jobs, start=1):
            try:
                yield from filter(None, [job.work(yard.events)])
            except GoldsmithError:
                if rest := ", ".join(waiting.name for waiting in jobs[number:]):
                    yard.events.emit(Notice(message=f"left as they are: {rest}", level="warning"))
                raise
        return
    done = run_jobs(jobs, ways.serial, yard.events, stop=True, failed="was not replaced")
    yield from (replaced for replaced in done if replaced is not None)


def make_job(one: ServerPlan, chosen: Chosen, yard: Yard, wishes: Wishes) -> Job[Replaced | None]:
    """Return what is to be done for a server as one of several; it has a connection of its own to the node."""
    site = yard.find_site(one.server, one.guest.node if one.guest is not None else "")
    around = make_surrounding(yard, yard.events, wishes, one.server)

    def work(events: Events) -> Replaced | None:
        with open_own(site) as own:
            return do_one(one, chosen, own, replace(around, events=events))

    return Job(one.server.name, work)


def do_one(one: ServerPlan, chosen: Chosen, site: Site, around: Surrounding) -> Replaced | None:
    """Make, replace or reconfigure one server; None where only its settings were changed."""
    if one.action is Action.RECONFIGURE and one.guest is not None:
        made = reconfigure(one.server, one.guest, site)
        what = f"{one.server.name} has what the inventory says" + (f"; made: {', '.join(made)}" if made else "")
        around.events.emit(Notice(message=what))
        return None
    if chosen.stored is None:
        raise FleetError(f"{one.server.name}: {chosen.wanted.fault}")
    return replace_server(one, site, chosen.stored.repository, chosen.stored.version, around)


def make_surrounding(yard: Yard, events: Events, wishes: Wishes, server: Server) -> Surrounding:
    """Return what replacements of this command share."""
    return Surrounding(
        state=state_directory(),
        inventory=yard.inventory,
        events=events,
        wishes=wishes,
        signers_file=yard.find_signers(server),
    )


def show(planned: FleetPlan, work: Sequence[ServerPlan], chosen: dict[str, Chosen], yard: Yard) -> None:
    """Show what would be done, goal by goal."""
    changes = {one.server.name: yard.list_changes(one, chosen[one.server.name]) for one in planned.servers}
    parts = [render_plan(planned, changes)]
    for one in work:
        if one.action is not Action.RECONFIGURE:
            site = yard.find_site(one.server, one.guest.node if one.guest is not None else "")
            parts.append(render_goals(one, begin_record(one, site, "")))
    say("\n\n".join(parts))
    tell("nothing was changed")


def render_goals(one: ServerPlan, record: Record) -> str:
    """Render the goals of one server."""
    goals = list_goals(record, one.server)
    width = max(len(goal.title) for goal in goals)
    lines = [f"  {number:>2}  {goal.title:<{width}}  {goal.reason}".rstrip() for number, goal in enumerate(goals, 1)]
    return "\n".join([f"{one.server.name}: {one.action}, {explain(one, ())}", *lines])


def report(done: Sequence[Replaced], settings: Settings) -> None:
    """Say what was done."""
    if settings.json:
        servers: list[JsonValue] = [
            {"server": one.server, "version": one.version, "was": one.was, "vmid": one.vmid, "outage": one.outage}
            for one in done
        ]
        say_document({"replaced": servers})
        return
    for one in done:
        say(f"{one.server} {one.version}")
    if not done:
        tell("no server was replaced")
