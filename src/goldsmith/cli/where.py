"""`goldsmith images where` and `images withdraw`: templates in the storages of nodes, listed and removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from goldsmith.artifacts.channels import list_channels
from goldsmith.artifacts.retention import PrunePolicy
from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import UsageError
from goldsmith.base.events import Events
from goldsmith.base.units import render_bytes
from goldsmith.build.publish.lying import Lying, State
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.withdraw import Withdrawal, plan_withdraw, run_withdraw
from goldsmith.cli.consent import check_consent
from goldsmith.cli.fleet import Yard
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.progress import open_progress
from goldsmith.cli.project import state_directory
from goldsmith.cli.pruning import read_age
from goldsmith.cli.publishing import (
    Group,
    Where,
    Yards,
    choose_current,
    choose_images,
    node_option,
    open_repositories,
    storage_option,
)
from goldsmith.cli.reading import INVENTORY
from goldsmith.cli.standing import find_revoked
from goldsmith.cli.table import render_table
from goldsmith.cli.versions import Place as Home
from goldsmith.fleet.marks import parse_labels

INCOMPLETE = 4
"""Exit code where something is missing, or not what it is called."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@node_option
@storage_option
@pass_settings
def where(settings: Settings, names: tuple[str, ...], nodes: tuple[str, ...], storages: tuple[str, ...]) -> int:
    """List the templates at the places where images are published: whose they are, and which are missing.

    A template is a version's when name, digest and size agree with the repository (published), or when it was brought
    from this machine and its version has left the repository since (forgotten); the same goes for what a node has
    pulled. What is called like a version and has another size is broken. All others are strangers, and are never
    touched. Missing is what `goldsmith publish` would bring.

    The exit code is 4 when something is missing or broken.
    """
    chosen = Where(nodes, storages).check()
    with open_progress(settings) as events, ExitStack() as stack:
        yards = Yards(settings, stack, events)
        listed: list[tuple[Place, list[Lying]]] = []
        for group in yards.group(choose_images(names, settings, chosen), chosen):
            wanted = [version for image in group.images if (version := choose_current(image)) is not None]
            listed += yards.look(group, wanted)
    if settings.json:
        say_document({"places": [_describe_place(place, found) for place, found in listed]})
    else:
        say_lying(listed)
    bad = (State.MISSING, State.BROKEN)
    has_fault = any(place.fault or any(one.state in bad for one in found) for place, found in listed)
    return INCOMPLETE if has_fault else 0


def say_lying(listed: Sequence[tuple[Place, list[Lying]]]) -> None:
    """Say what lies where."""
    rows = [
        (str(place), one.state.value, one.reference or "-", render_bytes(one.size) if one.size else "-", one.volid)
        for place, found in listed
        for one in found
    ]
    if rows:
        say(render_table(("PLACE", "STATE", "VERSION", "SIZE", "VOLUME"), rows))
    for place, _ in listed:
        if place.fault:
            tell(f"{place}: {place.fault}")


def _describe_place(place: Place, found: Iterable[Lying]) -> JsonValue:
    templates: list[JsonValue] = [
        {"volid": one.volid, "state": one.state.value, "version": one.reference or None, "size": one.size}
        for one in found
    ]
    return {
        "node": place.node,
        "storage": place.storage,
        "shared": place.shared,
        "fault": place.fault or None,
        "templates": templates,
    }


@dataclass(frozen=True)
class Step:
    """What is to become of a template, and where it is."""

    group: Group
    what: Withdrawal


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@node_option
@storage_option
@click.option("--keep-last", type=int, default=3, show_default=True, metavar="N", help="Of each image, this many stay.")
@click.option("--older-than", metavar="AGE", help="Younger ones stay, too: 30d, 8w.")
@click.option("--dry-run", is_flag=True, help="Only say what would become of each template, and why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_settings
def withdraw(
    settings: Settings,
    names: tuple[str, ...],
    nodes: tuple[str, ...],
    storages: tuple[str, ...],
    keep_last: int,
    older_than: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove old templates from the places where images are published.

    At each place the newest of an image stay, what a channel names, what servers run from, and what the inventory wants
    them to run from. Only what `images where` calls published or forgotten is ever removed; versions stay in the
    repository. Containers do not need the template that they were made from. Why each stays or goes is said first; then
    you are asked.
    """
    policy, chosen = PrunePolicy(keep_last, read_age(older_than)), Where(nodes, storages).check()
    if settings.json and not (dry_run or yes):
        raise UsageError("with --json nobody is asked", hint="--dry-run says what would go; --yes removes it")
    with open_progress(settings) as events, ExitStack() as stack:
        yards = Yards(settings, stack, events)
        wanted = find_wanted(settings, stack, events)
        steps = [
            step
            for group in yards.group(choose_images(names, settings, chosen), chosen)
            for step in plan_group(group, yards, wanted | find_running(group), policy, names)
        ]
        if not settings.json:
            say_steps(steps)
        going = [step for step in steps if step.what.goes]
        if not dry_run:
            run_all(going, yards, events, yes=yes)
    if settings.json:
        say_document({"templates": [_describe_step(step) for step in steps], "dry_run": dry_run})
    elif not going:
        tell("nothing is to be removed")


def find_wanted(settings: Settings, stack: ExitStack, events: Events) -> set[str]:
    """Return the digests of what servers of the inventory are to run from."""
    if not (settings.project / INVENTORY).exists():
        return set()
    yard = Yard(settings, stack, events)
    chosen = [yard.choose(server) for server in yard.fleet.servers]
    return {str(one.wanted.digest) for one in chosen if one.stored is not None}


def find_running(group: Group) -> set[str]:
    """Return what the servers of a Proxmox run from, or are kept from, whoever's inventory they are in: `NAME:TAG`."""
    labels = [parse_labels(guest.tags) for guest in group.site.pve.list_guests()]
    return {one.version for one in labels if one.version}


def plan_group(group: Group, yards: Yards, used: set[str], policy: PrunePolicy, names: Sequence[str]) -> list[Step]:
    """Decide about what lies at a group's places."""
    repositories = open_repositories(group)
    versions = [(repository, repository.list_versions()) for repository in repositories]
    channels = [
        channel for repository in repositories for name in repository.list_names()
        for channel in list_channels(repository, name)
    ]  # fmt: skip
    revoked = {digest for one, found in versions for digest in find_revoked(Home(one), found, whole=True)}
    meant = names or [image.name for image in group.images]
    return [
        Step(group, what)
        for _, found in yards.look(group)
        for what in plan_withdraw(
            found, channels, used, policy, datetime.now(UTC), revoked=revoked, names=meant
        )
    ]  # fmt: skip


def run_all(going: Sequence[Step], yards: Yards, events: Events, *, yes: bool) -> None:
    """Remove templates, once somebody has agreed."""
    if going and not yes:
        size = render_bytes(sum(step.what.lying.size for step in going))
        check_consent(f"Remove {len(going)} template{'s' if len(going) != 1 else ''}, {size}?")
    for step in going:
        run_withdraw(step.what, yards.find_site(step.group, step.what.lying.place), state_directory(), events)


def say_steps(steps: Sequence[Step]) -> None:
    """Say what becomes of each template, and why."""
    rows = [
        (str(step.what.lying.place), "goes" if step.what.goes else "stays", step.what.reason, step.what.lying.volid)
        for step in steps
    ]
    if rows:
        say(render_table(("PLACE", "", "WHY", "VOLUME"), rows))


def _describe_step(step: Step) -> JsonValue:
    lying = step.what.lying
    return {
        "node": lying.place.node,
        "storage": lying.place.storage,
        "volid": lying.volid,
        "version": lying.reference or None,
        "state": lying.state.value,
        "goes": step.what.goes,
        "reason": step.what.reason,
    }
