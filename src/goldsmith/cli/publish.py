"""`goldsmith publish`: tested versions into the storages of nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import click

from goldsmith.artifacts.proof import check_proven
from goldsmith.artifacts.repository import check_has_files
from goldsmith.artifacts.revocation import check_not_revoked
from goldsmith.artifacts.signature import check_signed
from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import GoldsmithError, PveError, RepositoryError, UsageError
from goldsmith.base.units import render_bytes
from goldsmith.build.carry import Cargo, open_cargo
from goldsmith.build.publish.plan import Action, Publication, plan_publish
from goldsmith.build.publish.run import Published, run_publish
from goldsmith.build.repositories import open_image_repository
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, say_json, tell
from goldsmith.cli.project import state_directory
from goldsmith.cli.publishing import (
    Group,
    Where,
    Yards,
    choose_current,
    choose_images,
    choose_named,
    node_option,
    storage_option,
)
from goldsmith.cli.table import render_table
from goldsmith.cli.terminal import open_events
from goldsmith.cli.versions import Chosen


@click.command(cls=Command)
@click.argument("references", nargs=-1, metavar="[REF]...")
@node_option
@storage_option
@click.option("--untested", is_flag=True, help="Also versions that have not passed their tests.")
@click.option("--check", is_flag=True, help="Only show what would be brought where, and why.")
@pass_settings
def publish(
    settings: Settings,
    references: tuple[str, ...],
    nodes: tuple[str, ...],
    storages: tuple[str, ...],
    untested: bool,
    check: bool,
) -> None:
    """Bring tested versions into the storages of nodes, as templates.

    Where to, `publish` in an image's vars.yml says, or --storage. A shared storage gets a version once, one that each
    node has for itself gets it on each. It goes by the node's shell, or through the API where there is none, into
    several places at a time, and is compared with its checksum when it has arrived. With proxmox_pull the nodes pull it
    from the registry themselves, where they can. What is there already is not brought again, and nothing is
    overwritten: a template's name holds day, number and digest of its version.

    A REF is NAME:TAG, NAME:CHANNEL, or NAME for the newest version. Without one, each image that says where it is
    published is meant: what its channel stable names, or its newest version where it has no such channel. What fails at
    one place does not keep the others from being done; the exit code tells.

    On standard output: each version with the volume and the node.
    """
    where = Where(nodes, storages).check()
    with open_events(settings, several=True) as (events, interrupts), ExitStack() as stack, interrupts.work():
        yards = Yards(settings, stack, events)
        groups = prepare(references, settings, where, yards)
        errors = {str(one.version): error for group in groups for one in group.chosen
                  if (error := find_refusal(one, untested=untested)) is not None}  # fmt: skip
        plans = [(group, plan_group(group, yards, errors)) for group in groups]
        if check:
            show([one for _, plan in plans for one in plan], settings)
            return
        done: list[Published] = []
        try:
            for group, plan in plans:
                done.extend(run_group(group, plan, yards, stack))
        finally:
            report(done, settings)
    check_done(done, errors)


def prepare(references: Sequence[str], settings: Settings, where: Where, yards: Yards) -> list[Group]:
    """Return the versions that are meant, with the places that they are for.

    :raises UsageError: none are, or nobody says where they are to go.
    """
    if references:
        chosen = choose_named(references, settings)
    else:
        found = [(image, choose_current(image)) for image in choose_images((), settings, where)]
        chosen = [Chosen(image, version, open_image_repository(image)) for image, version in found if version]
        if not chosen:
            raise UsageError("no version has been built yet of the images that are to be published")
    groups = yards.group(list({one.image.name: one.image for one in chosen}.values()), where)
    for group in groups:
        names = [image.name for image in group.images]
        group.chosen += [one for one in chosen if one.image.name in names]
    return groups


def find_refusal(chosen: Chosen, *, untested: bool) -> RepositoryError | None:
    """Return why a version must not be published; None when it may."""
    try:
        check_has_files(chosen.version)
        check_not_revoked(chosen.repository, chosen.version)
        if not untested:
            check_proven(chosen.repository, chosen.version)
        if chosen.image.variables.require_signature:
            check_signed(chosen.repository, chosen.version, chosen.image.signers_file)
    except RepositoryError as error:
        return error
    return None


def plan_group(group: Group, yards: Yards, errors: dict[str, RepositoryError]) -> tuple[Publication, ...]:
    """Plan the versions of a group."""
    lying = dict(yards.read_places(group))
    refused = {reference: error.message for reference, error in errors.items()}
    ways = {(str(one.version), place): yards.choose_way(group, one, place) for one in group.chosen for place in lying}
    brought = {place: yards.list_brought(group, place, volumes) for place, volumes in lying.items()}
    versions = [one.version for one in group.chosen]
    return plan_publish(versions, list(lying), lying, refused, ways=ways, brought=brought)


def run_group(group: Group, plan: Sequence[Publication], yards: Yards, stack: ExitStack) -> Iterator[Published]:
    """Carry a group's plan out. Each version is digested, or fetched from its registry, once, and only if need be."""
    acting = {Action.SEND, Action.PULL} | ({Action.NOTHING} if group.site.has_shell else set())
    wanted = {(str(one.version), one.is_archive) for one in plan if one.action in acting}
    cargo: dict[str, Cargo] = {
        str(one.version): stack.enter_context(open_cargo(one.repository, one.version))
        for one in group.chosen
        if (str(one.version), False) in wanted
    }
    pulled = {str(one.version): one.repository for one in group.chosen if (str(one.version), True) in wanted}
    opener = yards.make_opener(group, {one.place for one in plan if one.action is not Action.REFUSE})
    yield from run_publish(plan, cargo, opener, state=state_directory(), events=yards.events, pulled=pulled)


def check_done(done: Sequence[Published], errors: dict[str, RepositoryError]) -> None:
    """Raise the first failure.

    :raises GoldsmithError: a version is not where it was to be.
    """
    for one in done:
        if not one.is_well:
            raise one.error or errors.get(str(one.publication.version)) or _refuse(one)


def _refuse(one: Published) -> GoldsmithError:
    return PveError(f"{one.publication.version} is not on {one.publication.place}: {one.message}")


def show(plan: Sequence[Publication], settings: Settings) -> None:
    """Show a plan."""
    if settings.json:
        say_document({"plan": [{**_describe(one), "action": one.action.value, "reason": one.reason} for one in plan]})
        return
    rows = [(str(one.version), str(one.place), one.action.value, one.reason) for one in plan]
    say(render_table(("VERSION", "PLACE", "", "WHY"), rows))
    tell("nothing was changed")


def _describe(one: Publication) -> dict[str, JsonValue]:
    return {
        "version": str(one.version),
        "digest": one.version.digest,
        "node": one.place.node,
        "storage": one.place.storage,
        "volid": one.volid,
    }


def report(done: Sequence[Published], settings: Settings) -> None:
    """Say what was done."""
    if settings.json:
        for one in done:
            how: dict[str, JsonValue] = {"state": one.state, "message": one.message, "seconds": round(one.seconds, 3)}
            say_json({"event": "published", **_describe(one.publication), **how})
        return
    for one in done:
        if one.is_well:
            say(f"{one.publication.version} {one.publication.volid} {one.publication.place.node}")
        elif one.state == "refused":
            tell(f"{one.publication.version} is not on {one.publication.place}: {one.message}")
    for state in ("sent", "pulled"):
        if these := [one for one in done if one.state == state]:
            tell(f"{len(these)} {state}, {render_bytes(sum(one.publication.version.size for one in these))}")
