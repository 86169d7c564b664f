"""`goldsmith images promote`, `channels`, `demote`, `override`, `revoke`: what a version may be used for."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Sequence

import click

from goldsmith.artifacts.channels import Channel, check_channel, list_channels, remove_channel
from goldsmith.artifacts.channels import promote as promote_version
from goldsmith.artifacts.proof import Override, put_override
from goldsmith.artifacts.repository import Version
from goldsmith.artifacts.revocation import check_not_revoked, list_ancestors
from goldsmith.artifacts.revocation import revoke as revoke_version
from goldsmith.artifacts.signature import check_signed
from goldsmith.artifacts.verdicts import TestState, get_state
from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import RepositoryError, UsageError
from goldsmith.cli.catalog import describe
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.standing import read_standing
from goldsmith.cli.table import render_table
from goldsmith.cli.versions import Place, Stored, find_places, get_from, get_stored, order_places, repository_option

CANNOT_FORGET = (400, 404, 405)
"""What registries answer that cannot delete a tag (distribution-spec 1.1: 400, 405; docker's 2.8)."""


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.argument("channel", metavar="CHANNEL")
@click.option(
    "--override",
    "reason",
    metavar="REASON",
    help="Also when it has not passed its tests. The reason and your name are recorded with the version.",
)
@repository_option
@pass_settings
def promote(settings: Settings, reference: str, channel: str, reason: str | None, repository: str | None) -> None:
    """Let a channel name a version.

    A channel is a movable name, as `candidate` or `stable`: NAME:stable is the version that it names. Only versions
    that have passed their tests and were not revoked are promoted; where the image's vars.yml has require_signature,
    only signed ones.
    """
    with catch_signals():
        stored = get_stored(reference, settings, repository)
        before = promote_stored(stored, channel, reason)
    version = stored.version
    if settings.json:
        said: JsonValue = None if before is None else f"{before.image}:{before.tag}" if before.tag else before.digest
        say_document({"channel": f"{version.name}:{channel}", "before": said, **_describe(stored)})
    else:
        was = f" (before: {before.tag or before.digest})" if before is not None and before.tag != version.tag else ""
        tell(f"{version.name}:{channel} is {version} from now on{was}")


def promote_stored(stored: Stored, channel: str, reason: str | None = None) -> Channel | None:
    """Let a channel name a version; return what it named before.

    :param reason: why it is promoted although it has not passed its tests.
    :raises RepositoryError: it may not be promoted; the message says why.
    """
    repository, version = stored.repository, stored.version
    check_channel(channel)
    check_not_revoked(repository, version)
    _check_signature(stored)
    if reason is not None:
        _override(stored, reason)
    before = [known for known in list_channels(repository, version.name) if known.name == channel]
    promote_version(repository, channel, version)
    return before[0] if before else None


def _check_signature(stored: Stored) -> None:
    """Ask for a signature where the image's definition does.

    :raises NotSigned: it has none that counts.
    """
    for image in stored.place.known:
        if image.name == stored.version.name and image.variables.require_signature:
            check_signed(stored.repository, stored.version, image.signers_file)


def _override(stored: Stored, reason: str) -> None:
    if get_state(stored.repository, stored.version) is TestState.PASSED:
        tell(f"{stored.version} has passed its tests; no override is needed, and none was recorded")
        return
    _tell_override(stored.version, put_override(stored.repository, stored.version, reason=reason, who=name_person()))


def _tell_override(version: Version, recorded: Override) -> None:
    tell(f"{version} may be used from now on: {recorded.reason} ({recorded.who})")


def name_person() -> str:
    """Return who is at work, as others will recognise him: `jane@ops`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _describe(stored: Stored) -> dict[str, JsonValue]:
    version = stored.version
    return {"version": str(version), "digest": version.digest, "repository": stored.repository.location}


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@repository_option
@pass_settings
def channels(settings: Settings, names: tuple[str, ...], repository: str | None) -> None:
    """List the channels and what they name.

    All of them, or those of the images that are named.
    """
    with catch_signals():
        found = [
            (place, channel)
            for place in find_places(settings, repository)
            for name in names or place.list_names()
            for channel in list_channels(place.repository, name)
        ]
    if settings.json:
        listed: list[JsonValue] = [_describe_channel(place, channel) for place, channel in found]
        say_document({"channels": listed})
    elif found:
        rows = [(str(channel), _name_target(channel), place.repository.location) for place, channel in found]
        say(render_table(("CHANNEL", "VERSION", "REPOSITORY"), rows))
    else:
        tell("no version has been promoted yet: goldsmith images promote REF CHANNEL")


def _name_target(channel: Channel) -> str:
    return f"{channel.image}:{channel.tag}" if channel.tag else channel.digest


def _describe_channel(place: Place, channel: Channel) -> JsonValue:
    return {
        "channel": str(channel),
        "image": channel.image,
        "name": channel.name,
        "version": f"{channel.image}:{channel.tag}" if channel.tag else None,
        "digest": channel.digest,
        "repository": place.repository.location,
    }


@click.command(cls=Command)
@click.argument("reference", metavar="NAME:CHANNEL")
@repository_option
@pass_settings
def demote(settings: Settings, reference: str, repository: str | None) -> None:
    """Forget a channel; its version stays.

    Older registries cannot do that: there a channel can be moved to another version only.
    """
    name, _, channel = reference.partition(":")
    if not channel:
        raise UsageError(f"'{reference}' names no channel", hint="NAME:CHANNEL; `goldsmith images channels` lists them")
    check_channel(channel)
    with catch_signals():
        stored = get_from(order_places(name, find_places(settings, repository)), reference)
        _forget(stored, channel)
    if settings.json:
        say_document({"channel": reference, **_describe(stored)})
    else:
        tell(f"{reference} is no channel any more; {stored.version} stays")


def _forget(stored: Stored, channel: str) -> None:
    """Forget a channel.

    :raises RepositoryError: the registry cannot.
    """
    try:
        remove_channel(stored.repository, stored.version.name, channel)
    except RepositoryError as error:
        if getattr(error, "status", None) not in CANNOT_FORGET:
            raise
        said = f"the registry does not forget {stored.version.name}:{channel}; many cannot"
        raise RepositoryError(said, hint="promote another version to that channel") from error


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.option("--reason", required=True, metavar="TEXT", help="Why it may be used all the same; others will read it.")
@repository_option
@pass_settings
def override(settings: Settings, reference: str, reason: str, repository: str | None) -> None:
    """Let a version be used although it has failed its tests, or has not been tested.

    The reason is recorded with the version, and who gave it. It holds until the version is tested again.
    """
    with catch_signals():
        stored = get_stored(reference, settings, repository)
        recorded = put_override(stored.repository, stored.version, reason=reason, who=name_person())
    if settings.json:
        say_document(describe(stored, read_standing(stored)))
    else:
        _tell_override(stored.version, recorded)


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.option("--reason", required=True, metavar="TEXT", help="Why it must not be used; others will read it.")
@repository_option
@pass_settings
def revoke(settings: Settings, reference: str, reason: str, repository: str | None) -> None:
    """Forbid the use of a version and of all that is built on it.

    The reason is recorded with the version, and who gave it. It cannot be taken back: a version that was revoked by
    mistake is built again. Channels stay where they are, and are refused; those that name a revoked version are listed.
    """
    with catch_signals():
        stored = get_stored(reference, settings, repository)
        found = revoke_version(stored.repository, stored.version, reason=reason, who=name_person())
        hit = [stored.version, *find_built_on(stored)]
        named = [channel for channel in _list_all(stored) if channel.digest in {one.digest for one in hit}]
    if settings.json:
        others: list[JsonValue] = [str(version) for version in hit[1:]]
        affected: list[JsonValue] = [str(channel) for channel in named]
        told: dict[str, JsonValue] = {"reason": found.reason, "who": found.who}
        say_document({**_describe(stored), **told, "built_on_it": others, "channels": affected})
    else:
        _tell_revoked(hit, named, found.reason)


def find_built_on(stored: Stored) -> list[Version]:
    """Return the versions of a repository that are built on a version, as far as its images are known."""
    repository = stored.repository
    versions = [version for name in _list_names(stored) for version in repository.list_versions(name)]
    return [one for one in versions if stored.version.digest in {base.digest for base in list_ancestors(one, versions)}]


def _list_names(stored: Stored) -> list[str]:
    """Return the images that there are, at least that of a version: not every registry tells."""
    try:
        return stored.place.list_names()
    except RepositoryError:
        return [stored.version.name]


def _list_all(stored: Stored) -> list[Channel]:
    return [channel for name in _list_names(stored) for channel in list_channels(stored.repository, name)]


def _tell_revoked(hit: Sequence[Version], named: Sequence[Channel], reason: str) -> None:
    tell(f"{hit[0]} is revoked: {reason}")
    if len(hit) > 1:
        tell(f"built on it, and refused as well: {', '.join(map(str, hit[1:]))}")
    for channel in named:
        tell(f"{channel} names {channel.image}:{channel.tag} still; promote a sound version to it")
