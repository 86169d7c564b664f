"""`goldsmith images push` and `pull`: versions from one repository to another."""

from __future__ import annotations

from pathlib import Path

import click

from goldsmith.artifacts.channels import check_channel
from goldsmith.artifacts.repository import Repository
from goldsmith.artifacts.transfer import Transfer, copy_version
from goldsmith.base.errors import UsageError
from goldsmith.base.events import Events, Notice, OnBytes
from goldsmith.base.units import render_bytes
from goldsmith.build.repositories import open_location
from goldsmith.cli.channels import promote_stored
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document
from goldsmith.cli.progress import open_progress
from goldsmith.cli.versions import Place, Stored, find_places, get_from, order_places, repository_option

channel_option = click.option(
    "--channel", metavar="CHANNEL", help="Let a channel name it there, if it may be promoted; see `images promote`."
)


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.argument("target", metavar="TARGET")
@channel_option
@repository_option
@pass_settings
def push(settings: Settings, reference: str, target: str, channel: str | None, repository: str | None) -> None:
    """Copy a version into another repository.

    TARGET is a directory, or oci://host[:port]/path in a registry. The version arrives as it is, with its digest and
    all that belongs to it; only what is missing there is sent, and what is damaged there is mended. Channels stay
    behind. Broken off, it goes on where it was when it is called again. On standard output: the version's name.
    """
    with open_progress(settings) as events:
        (goal,) = find_places(settings, target)
        places = order_places(reference, find_places(settings, repository))
        sources = [place for place in places if not is_same(place.repository, goal.repository)]
        if not sources:
            where = goal.repository.location
            raise UsageError(f"{where} is where versions are pushed from", hint="another one: --repository")
        _copy("push", get_from(sources, reference), goal, channel, settings, events)


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.argument("source", metavar="SOURCE")
@channel_option
@repository_option
@pass_settings
def pull(settings: Settings, reference: str, source: str, channel: str | None, repository: str | None) -> None:
    """Copy a version from another repository into the project's.

    SOURCE is a directory, or oci://host[:port]/path in a registry; REF is looked for there. It goes where the versions
    of the project's image of that name are stored, otherwise into the project's own directory, or to --repository. It
    arrives as it is, with all that belongs to it; only what is missing is fetched. On standard output: its name.
    """
    with open_progress(settings) as events:
        origin = open_location(source)
        places = order_places(reference, find_places(settings, repository))
        goals = [place for place in places if not is_same(place.repository, origin)]
        if not goals:
            raise UsageError(f"{origin.location} is where versions are pulled to", hint="another one: --repository")
        stored = get_from([Place(origin)], reference)
        _copy("pull", stored, goals[0], channel, settings, events)


def is_same(one: Repository, other: Repository) -> bool:
    """Tell whether two repositories are one."""
    if one.is_local and other.is_local:
        return Path(one.path).resolve() == Path(other.path).resolve()
    return one.location == other.location


def _copy(
    verb: str, stored: Stored, goal: Place, channel: str | None, settings: Settings, events: Events
) -> None:  # fmt: skip
    if channel is not None:
        check_channel(channel)
    version = stored.version

    def watch(plan: Transfer) -> OnBytes:
        events.emit(Notice(message=f"{verb} {version} to {goal.repository.location}: {render_transfer_plan(plan)}"))
        return events.watch(f"{verb} {version}", plan.size)

    done = copy_version(version, stored.repository, goal.repository, watch=watch)
    if channel is not None:
        promote_stored(Stored(goal, version, stored.record), channel)
    if settings.json:
        say_document(
            {
                "version": str(version),
                "digest": version.digest,
                "from": stored.repository.location,
                "to": goal.repository.location,
                "channel": channel,
                "sent": {"blobs": len(done.missing), "size": done.size, "attached": len(done.new_referrers)},
                "present": {"blobs": len(done.present), "size": sum(blob.size for blob in done.present)},
            }
        )
    else:
        say(str(version))


def render_transfer_plan(plan: Transfer) -> str:
    """Say what a transfer has to send."""
    there = render_bytes(sum(blob.size for blob in plan.present))
    if not plan.missing:
        return f"all of it is there already ({there})"
    blobs = f"{len(plan.missing)} blob{'s' if len(plan.missing) != 1 else ''}"
    return f"{blobs}, {render_bytes(plan.size)}; {there} are there already"
