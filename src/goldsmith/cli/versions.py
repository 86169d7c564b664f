"""Stored versions as a person names them, found in the repositories that the project's images use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from goldsmith.artifacts.record import BuildRecord
from goldsmith.artifacts.repository import Repository, Version, open_repository
from goldsmith.base.errors import DefinitionError, UsageError, VersionNotFound
from goldsmith.cli.options import Settings
from goldsmith.cli.reading import make_surroundings
from goldsmith.definition.image import Image
from goldsmith.definition.images import find_image_directory, list_images
from goldsmith.definition.load import load_image

DEFAULT_REPOSITORY = "repository"
repository_option = click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Another repository than those of the project's images.",
)


@dataclass(frozen=True)
class Stored:
    """A version, where it is, and what it was made of (None: nobody has recorded that)."""

    repository: Repository
    version: Version
    record: BuildRecord | None


@dataclass(frozen=True)
class Chosen:
    """A version with the image of the project that it was built from, or would be built from again."""

    image: Image
    version: Version
    repository: Repository


def find_repositories(settings: Settings, named: Path | None) -> list[Repository]:
    """Return the repositories that are meant: the one that is named, or all that the project's images use."""
    if named is not None:
        return [open_repository(named)]
    found = [settings.project / DEFAULT_REPOSITORY, *(image.repository for image in _list_readable(settings))]
    return [open_repository(path) for path in dict.fromkeys(found)]


def _list_readable(settings: Settings) -> Iterator[Image]:
    """Yield the project's images; `validate` tells of those that cannot be read, and their versions are there still."""
    for directory in list_images(settings.project):
        try:
            yield load_image(directory, make_surroundings(settings))
        except DefinitionError:
            continue


def find_stored(settings: Settings, named: Path | None) -> Iterator[Stored]:
    """Find all versions, with their records."""
    for repository in find_repositories(settings, named):
        for version in repository.list_versions():
            yield Stored(repository, version, _find_record(repository, version))


def _find_record(repository: Repository, version: Version) -> BuildRecord | None:
    try:
        return repository.read_record(version)
    except VersionNotFound:
        return None


def get_stored(reference: str, settings: Settings, named: Path | None) -> Stored:
    """Return a version by NAME:TAG or NAME.

    :raises VersionNotFound: no repository has it.
    """
    repositories = find_repositories(settings, named)
    for repository in repositories:
        version = repository.find_version(reference)
        if version is not None:
            return Stored(repository, version, _find_record(repository, version))
    first = repositories[0]
    return Stored(first, first.get_version(reference), None)  # raises, and says what comes near


def choose_version(word: str, settings: Settings) -> Chosen:
    """Return a version and its image: by NAME:TAG, by NAME, or by the folder of the image, whose newest is meant.

    :raises DefinitionError: the image cannot be read.
    :raises VersionNotFound: no version has that name.
    :raises UsageError: the project has no image of the version's name, so nobody knows how it is to be tested.
    """
    directory = _find_folder(word, settings.project)
    if directory is not None:
        image = load_image(directory, make_surroundings(settings))
        repository = open_repository(image.repository)
        return Chosen(image, _get_newest(repository, image), repository)
    stored = get_stored(word, settings, None)
    for image in _list_readable(settings):
        if image.name == stored.version.name:
            return Chosen(image, stored.version, stored.repository)
    raise UsageError(
        f"no image of {settings.project} is called '{stored.version.name}', whose version {stored.version} is",
        hint="its folder says how it is tested, and on which node; `goldsmith validate` tells what cannot be read",
    )


def _find_folder(word: str, project: Path) -> Path | None:
    if ":" in word:
        return None
    try:
        return find_image_directory(word, project)
    except UsageError:
        return None


def _get_newest(repository: Repository, image: Image) -> Version:
    version = repository.find_version(image.name)
    if version is None:
        hint = f"goldsmith build {image.directory.name}"
        raise VersionNotFound(f"no version of {image.name} has been built yet", hint=hint)
    return version
