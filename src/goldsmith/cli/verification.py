"""`goldsmith images verify`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from goldsmith.artifacts.damage import list_damage
from goldsmith.artifacts.repository import Repository
from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import RepositoryDamaged, RepositoryError
from goldsmith.base.events import Events
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document
from goldsmith.cli.progress import open_progress
from goldsmith.cli.versions import Stored, find_places, get_stored, repository_option


@dataclass(frozen=True)
class Verified:
    """What was read back, and what is wrong with it."""

    what: str
    problems: tuple[str, ...]


@click.command(cls=Command)
@click.argument("references", nargs=-1, metavar="[REF]...")
@repository_option
@pass_settings
def verify(settings: Settings, references: tuple[str, ...], repository: str | None) -> int:
    """Read everything back and compare it with its digests.

    Of the versions that are named, with all that belongs to them; or everything in the project's repositories. All
    that is damaged or missing is named, and the exit code is 8 then.
    """
    with open_progress(settings) as events:
        if references:
            found = [_verify_version(get_stored(word, settings, repository), events) for word in references]
        else:
            found = list(_verify_all(settings, repository, events))
    if settings.json:
        checked: list[JsonValue] = [{"checked": one.what, "problems": list(one.problems)} for one in found]
        say_document({"verified": checked})
        return RepositoryDamaged.exit_code if any(one.problems for one in found) else 0
    for one in found:
        if not one.problems:
            say(f"ok {one.what}")
    check_sound(found)
    return 0


def check_sound(found: list[Verified]) -> None:
    """Check that nothing is wrong.

    :raises RepositoryDamaged: something is.
    """
    damaged = [one for one in found if one.problems]
    if damaged:
        told = "\n".join(f"{one.what}: {problem}" for one in damaged for problem in one.problems)
        hint = "`goldsmith images pull` (or push) from a repository that has them whole mends versions"
        raise RepositoryDamaged(f"{', '.join(one.what for one in damaged)} damaged", detail=told, hint=hint)


def _verify_all(settings: Settings, named: str | None, events: Events) -> Iterator[Verified]:
    for place in find_places(settings, named):
        repository = place.repository
        if repository.is_local and not repository.path.exists():
            if named is not None:
                raise RepositoryError(f"there is no repository {repository.location}")
            continue
        yield Verified(repository.location, _find_damage(repository, events))


def _find_damage(repository: Repository, events: Events) -> tuple[str, ...]:
    if repository.is_local and not (repository.path / "index.json").is_file() and any(repository.path.iterdir()):
        return ("index.json is missing: nothing says which versions there are",)
    return tuple(repository.verify(events.watch(f"read {repository.location}")))


def _verify_version(stored: Stored, events: Events) -> Verified:
    watch = events.watch(f"read {stored.version}", stored.version.size)
    return Verified(str(stored.version), tuple(list_damage(stored.repository, stored.version, watch)))
