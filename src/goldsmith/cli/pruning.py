"""`goldsmith images prune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import click

from goldsmith.artifacts.channels import list_channels
from goldsmith.artifacts.retention import Prune, Pruned, PrunePolicy, measure_prune, plan_prune, run_prune
from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import UsageError
from goldsmith.base.units import render_bytes
from goldsmith.cli.consent import check_consent
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.standing import find_revoked
from goldsmith.cli.table import render_table
from goldsmith.cli.versions import Place, find_places, get_from, repository_option
from goldsmith.definition.layers import read_period


@dataclass(frozen=True)
class Pruning:
    """What is to become of a repository's versions, and what has been done (nothing yet: None)."""

    place: Place
    plan: list[Prune]
    done: Pruned | None = None

    @property
    def going(self) -> list[Prune]:
        """What goes."""
        return [step for step in self.plan if step.goes]


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--keep-last", type=int, default=3, show_default=True, metavar="N", help="Of each image, this many stay.")
@click.option("--older-than", metavar="AGE", help="Younger ones stay, too: 30d, 8w.")
@click.option("--in-use", multiple=True, metavar="REF", help="A version that a server runs from: it stays. Repeatable.")
@click.option("--dry-run", is_flag=True, help="Only say what would become of each version, and why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@repository_option
@pass_settings
def prune(
    settings: Settings,
    names: tuple[str, ...],
    keep_last: int,
    older_than: str | None,
    in_use: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    repository: str | None,
) -> None:
    """Remove old versions that nothing needs.

    Of each image, or of those that are named, the newest versions stay, what a channel names, what a server uses, and
    what any of these is built on. Why each stays or goes is said first; then you are asked. Everything that belongs to
    a version goes with it, and every blob that nothing needs any more; a registry frees the room itself, by its garbage
    collection.
    """
    policy = PrunePolicy(keep_last, read_age(older_than))
    if settings.json and not (dry_run or yes):
        raise UsageError("with --json nobody is asked", hint="--dry-run says what would go; --yes removes it")
    with catch_signals():
        places = find_places(settings, repository)
        used = {str(get_from(places, word).version.digest) for word in in_use}
        prunings = [plan_pruning(place, names, policy, used) for place in places]
        if not settings.json:
            _say_plan(prunings)
        if not dry_run:
            prunings = _run(prunings, yes=yes)
    if settings.json:
        described: list[JsonValue] = [_describe(one) for one in prunings if one.plan]
        say_document({"repositories": described, "dry_run": dry_run})
    else:
        _tell_done(prunings)


def read_age(text: str | None) -> timedelta:
    """Parse the age from which on versions may go; none is no time at all.

    :raises UsageError: it is none, or shorter than a day.
    """
    if text is None:
        return timedelta(0)
    try:
        seconds = read_period(text)
    except ValueError as error:
        raise UsageError(f"--older-than: '{text}' is no age", hint="days or weeks: 30d, 8w") from error
    if seconds < timedelta(days=1).total_seconds():
        raise UsageError(f"--older-than: {text} is shorter than a day", hint="days or weeks: 30d, 8w")
    return timedelta(seconds=seconds)


def plan_pruning(place: Place, names: Sequence[str], policy: PrunePolicy, in_use: set[str]) -> Pruning:
    """Decide about a repository's versions. All are looked at: those of one image may be what others are built on."""
    repository, images = place.repository, place.list_names()
    versions = [version for image in images for version in repository.list_versions(image)]
    channels = [channel for image in images for channel in list_channels(repository, image)]
    revoked = find_revoked(place, versions, whole=True)
    plan = plan_prune(versions, channels, in_use, policy, datetime.now(UTC), revoked)
    return Pruning(place, [_spare_unnamed(step, names) for step in plan])


def _spare_unnamed(step: Prune, names: Sequence[str]) -> Prune:
    if not names or step.version.name in names or not step.goes:
        return step
    return replace(step, goes=False, reason=f"of {step.version.name}, which is not named")


def _say_plan(prunings: Sequence[Pruning]) -> None:
    rows = [
        (str(step.version), "goes" if step.goes else "stays", step.reason, one.place.repository.location)
        for one in prunings
        for step in one.plan
    ]
    if rows:
        say(render_table(("VERSION", "", "WHY", "REPOSITORY"), rows))


def _run(prunings: Sequence[Pruning], *, yes: bool) -> list[Pruning]:
    """Carry plans out, once somebody has agreed."""
    going = [step for one in prunings for step in one.going]
    if going and not yes:
        size = sum(measure_prune(one.plan) for one in prunings)
        check_consent(f"Remove {_count(len(going))} and what belongs to them, at least {render_bytes(size)}?")
    return [Pruning(one.place, one.plan, run_prune(one.place.repository, one.plan)) for one in prunings]


def _count(number: int) -> str:
    return f"{number} version{'s' if number != 1 else ''}"


def _tell_done(prunings: Sequence[Pruning]) -> None:
    if not any(one.going for one in prunings):
        tell("nothing is to be removed")
    for one in (one for one in prunings if one.going):
        where = one.place.repository.location
        if one.done is None:
            tell(f"{where}: {_count(len(one.going))} would go, {render_bytes(measure_prune(one.plan))} of layers")
            continue
        room = (
            f"{render_bytes(one.done.freed)} are free" if one.place.repository.is_local else "its room is freed there"
        )
        tell(f"{where}: {_count(len(one.done.versions))} removed, {room}")
        for version in one.done.spared:
            tell(f"{version} stays: a channel names it by now, or somebody has removed it already")


def _describe(one: Pruning) -> JsonValue:
    versions: list[JsonValue] = [
        {"version": str(step.version), "digest": step.version.digest, "goes": step.goes, "reason": step.reason}
        for step in one.plan
    ]
    done = one.done
    return {
        "repository": one.place.repository.location,
        "versions": versions,
        "layers_size": measure_prune(one.plan),
        "removed": [str(version) for version in done.versions] if done else [],
        "spared": [str(version) for version in done.spared] if done else [],
        "freed": done.freed if done else 0,
    }
