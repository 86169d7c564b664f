"""`goldsmith plan` and `goldsmith status`: what has to be done for the fleet, and how it is."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime

import click

from goldsmith.artifacts.diff import PackageChange
from goldsmith.artifacts.revocation import check_not_revoked
from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import RepositoryError
from goldsmith.build.base import get_base_version, is_version
from goldsmith.cli.fleet import Chosen, Yard
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.table import render_table
from goldsmith.cli.terminal import open_events
from goldsmith.cli.versions import Stored
from goldsmith.fleet.backups import find_drill, select_backups
from goldsmith.fleet.facts import Guests
from goldsmith.fleet.looks import find_look
from goldsmith.fleet.marks import Role
from goldsmith.fleet.plan import Action, FleetPlan, ServerPlan

MOST_PACKAGES = 4
"""Names of packages that stand in a line."""
WORK = 3
"""Exit code where something is to be done."""


@click.command(cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
def plan(settings: Settings, servers: tuple[str, ...]) -> int:
    """Compare what is declared, stored and running: one line for each server.

    A SERVER is a host or a group of inventory/hosts.yml; without one all are meant. Nothing is changed.

    The exit code is 0 when there is nothing to be done, 3 when there is.
    """
    with open_events(settings) as (events, _), ExitStack() as stack:
        yard = Yard(settings, stack, events)
        planned, _, chosen = yard.plan(servers)
        changes = {one.server.name: yard.list_changes(one, chosen[one.server.name]) for one in planned.servers}
    if settings.json:
        say_document(describe_plan(planned, changes))
    else:
        say(render_plan(planned, changes))
        tell("nothing is to be done" if not planned.has_work else "goldsmith deploy does it")
    return WORK if planned.has_work else 0


def render_plan(planned: FleetPlan, changes: dict[str, tuple[PackageChange, ...]]) -> str:
    """Render a plan for a person: what is to be done for each server, and why."""
    rows = [(one.server.name, str(one.action), explain(one, changes[one.server.name])) for one in planned.servers]
    table = render_table(("SERVER", "ACTION", "WHY"), rows)
    strays = [
        f"guest {guest.vmid} {guest.name} on {guest.node} runs {guest.labels.version}: no server of the inventory"
        for guest in planned.strays
    ]
    return "\n".join([table, *strays])


def explain(one: ServerPlan, changes: tuple[PackageChange, ...]) -> str:
    """Return why, with the packages that change."""
    if not changes:
        return one.reason
    names = [change.name for change in changes[:MOST_PACKAGES]]
    more = f" and {len(changes) - len(names)} more" if len(changes) > len(names) else ""
    return f"{one.reason} (changes {', '.join(names)}{more})"


def describe_plan(planned: FleetPlan, changes: dict[str, tuple[PackageChange, ...]]) -> JsonValue:
    """Describe a plan for a program."""
    servers: list[JsonValue] = [
        {
            "server": one.server.name,
            "action": str(one.action),
            "reason": one.reason,
            "wanted": one.wanted.version if one.wanted.tag else None,
            "runs": one.guest.labels.version if one.guest is not None else None,
            "vmid": one.guest.vmid if one.guest is not None else None,
            "packages": [change.name for change in changes[one.server.name]],
        }
        for one in planned.servers
    ]
    strays: list[JsonValue] = [{"vmid": guest.vmid, "name": guest.name, "node": guest.node} for guest in planned.strays]
    return {"has_work": planned.has_work, "servers": servers, "strays": strays}


@click.command(cls=Command)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@pass_settings
def status(settings: Settings, servers: tuple[str, ...]) -> None:
    """Show the fleet at a glance: what runs where, how old it is, what it should be, what is kept for a rollback.

    DRIFT is what the last `goldsmith drift` on this machine has found. NOTE names versions that are revoked, and those
    whose base has a newer version by now.
    """
    with open_events(settings) as (events, _), ExitStack() as stack:
        yard = Yard(settings, stack, events)
        planned, guests, chosen = yard.plan(servers)
        told = [describe_server(one, chosen[one.server.name], guests, yard) for one in planned.servers]
    if settings.json:
        say_document({"servers": list(told)})
        return
    heads = ("SERVER", "GUEST", "STATE", "VERSION", "AGE", "WANTED", "KEPT", "LAST BACKUP", "DRIFT", "NOTE")
    say(render_table(heads, [tuple(str(cell) if cell else "-" for cell in one.values()) for one in told]))


def describe_server(one: ServerPlan, chosen: Chosen, guests: Guests, yard: Yard) -> dict[str, JsonValue]:
    """Describe a server as it is."""
    guest, previous = one.guest, guests.find(one.server.hostname, Role.PREVIOUS)
    age, fault = look_at_version(guest.labels.version, yard) if guest is not None else (None, "")
    return {
        "server": one.server.name,
        "guest": f"{guest.vmid} on {guest.node}" if guest is not None else None,
        "state": None if guest is None else "running" if guest.running else "stopped",
        "version": guest.labels.version if guest is not None else None,
        "age": age,
        "wanted": chosen.wanted.version if chosen.wanted.tag else None,
        "kept": f"{previous.labels.version} (guest {previous.vmid})" if previous is not None else None,
        "last_backup": find_last_backup(one, yard),
        "drift": find_last_look(one, yard),
        "note": "; ".join(filter(None, [fault, *_list_notes(one)])) or None,
    }


def _list_notes(one: ServerPlan) -> list[str]:
    return [] if one.action is Action.NOTHING else [f"{one.action}: {one.reason}"]


def find_last_look(one: ServerPlan, yard: Yard) -> str | None:
    """Return what the last look for drift has found in the guest that runs now, and how long ago that was."""
    guest = one.guest
    if guest is None:
        return None
    version = guest.labels.version
    look = find_look(state_directory(), yard.fleet.inventory, one.server.name, guest.vmid, version)
    return look.render(time.time()) if look is not None else None


def look_at_version(version: str, yard: Yard) -> tuple[str | None, str]:
    """Return how old a version is (None where it is not stored any more), and what is wrong with it, if anything."""
    if not version:
        return None, ""
    try:
        stored = yard.get_stored(version)
    except RepositoryError as error:
        return None, error.message
    age = f"{(datetime.now(UTC) - stored.version.created).days} d"
    try:
        check_not_revoked(stored.repository, stored.version)
    except RepositoryError as error:
        return age, error.message
    return age, explain_base(stored, yard)


def explain_base(stored: Stored, yard: Yard) -> str:
    """Say whether what a version was built upon has a newer version: the channel's that its image names."""
    image = next((one for place in yard.places for one in place.known if one.name == stored.version.name), None)
    if image is None or not is_version(image.variables.base_image) or not stored.version.base_digest:
        return ""
    try:
        head = get_base_version(image.variables.base_image, stored.repository)
    except RepositoryError:
        return ""
    return "" if head.digest == stored.version.base_digest else f"its base is outdated: {head} is there"


def find_last_backup(one: ServerPlan, yard: Yard) -> str | None:
    """Return when the newest backup of a server was made, and when one was tried out last."""
    plan = one.server.variables.backup
    if plan is None or one.guest is None:
        return None
    volumes = yard.list_backup_volumes(yard.find_site(one.server, one.guest.node), plan.storage)
    backups = select_backups(one.server, volumes)
    if not backups:
        return "never"
    drilled = find_drill(backups)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(backups[0].created))
    return f"{made}, drill {drilled}" if drilled else made
