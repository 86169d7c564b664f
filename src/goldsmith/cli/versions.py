"""Stored versions as a person names them, found in the repositories that the project's images use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from goldsmith.artifacts.record import BuildRecord
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.errors import DefinitionError, UsageError, VersionNotFound
from goldsmith.build.repositories import open_image_repository, open_location
from goldsmith.cli.options import Settings
from goldsmith.cli.surroundings import make_surroundings
from goldsmith.definition.image import REPOSITORY, SIGNERS_FILE, Image
from goldsmith.definition.images import find_image_directory, list_images
from goldsmith.definition.load import load_image

AT_ONCE = 6
"""Questions to a registry at the same time."""
T = TypeVar("T")
R = TypeVar("R")
repository_option = click.option(
    "--repository",
    metavar="WHERE",
    help="Another repository than those of the project's images: a directory, or oci://host[:port]/path.",
)


@dataclass(frozen=True)
class Place:
    """A repository, and the project's images whose versions go there."""

    repository: Repository
    images: tuple[Image, ...] = ()
    known: tuple[Image, ...] = ()
    """All images of the project: what they ask of their versions counts wherever these lie."""
    signers: Path | None = None
    """Who may sign versions that are none of these images'."""

    def list_names(self) -> list[str]:
        """Return the names of the images that have versions there.

        Those of the project's images where a registry does not tell what it holds, as public ones do not.
        """
        if self.repository.is_local:
            return self.repository.list_names()
        from goldsmith.artifacts.http import RegistryError  # HTTP takes a while to import

        try:
            return self.repository.list_names()
        except RegistryError as error:
            if not error.status or not self.images:
                raise
            return sorted({image.name for image in self.images})

    def spread(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Ask about each of many; several at a time where each question is a request that takes a while."""
        if self.repository.is_local:
            return [work(item) for item in items]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(work, items))

    def find_signers(self, name: str) -> Path | None:
        """Return the allowed signers file for an image's versions, where there is one."""
        files = [*(image.signers_file for image in self.known if image.name == name), self.signers]
        return next((file for file in files if file is not None and file.is_file()), None)


@dataclass(frozen=True)
class Stored:
    """A version, where it is, and what it was made of (None: nobody has recorded that)."""

    place: Place
    version: Version
    record: BuildRecord | None

    @property
    def repository(self) -> Repository:
        """Where it is."""
        return self.place.repository


@dataclass(frozen=True)
class Chosen:
    """A version with the image of the project that it was built from, or would be built from again."""

    image: Image
    version: Version
    repository: Repository


def find_places(settings: Settings, named: str | None) -> list[Place]:
    """Return the repositories that are meant: the one that is named, or all that the project's images use.

    The project's own directory comes first.

    :raises UsageError: there is no project, and none is named; or a name is no place in a registry.
    """
    project = settings.find_project() if named is not None else settings.project
    images = () if project is None else tuple(list_readable(settings))
    signers = None if project is None else project / SIGNERS_FILE
    if named is not None:
        return [Place(open_location(named), images, images, signers)]
    assert project is not None
    locations = dict.fromkeys([str(project / REPOSITORY), *(image.repository for image in images)])
    return [
        Place(open_location(where), tuple(image for image in images if image.repository == where), images, signers)
        for where in locations
    ]


def list_readable(settings: Settings) -> Iterator[Image]:
    """Yield the project's images; `validate` tells of those that cannot be read, and their versions are there still."""
    for directory in list_images(settings.project):
        try:
            yield load_image(directory, make_surroundings(settings))
        except DefinitionError:
            continue


def find_stored(places: Iterable[Place], names: Iterable[str] = ()) -> Iterator[Stored]:
    """Find all versions, or those of some images, with their records."""
    wanted = list(names)
    for place in places:
        for name in wanted or place.list_names():
            yield from place.spread(partial(_describe, place), place.repository.list_versions(name))


def _describe(place: Place, version: Version) -> Stored:
    return Stored(place, version, _find_record(place.repository, version))


def _find_record(repository: Repository, version: Version) -> BuildRecord | None:
    try:
        return repository.read_record(version)
    except VersionNotFound:
        return None


def get_stored(reference: str, settings: Settings, named: str | None) -> Stored:
    """Return a version by NAME:TAG, NAME:CHANNEL or NAME.

    :raises VersionNotFound: no repository has it.
    """
    return get_from(order_places(reference, find_places(settings, named)), reference)


def order_places(reference: str, places: Iterable[Place]) -> list[Place]:
    """Return repositories in the order in which a version is looked for: first where its image's versions go."""
    name = reference.partition(":")[0]
    return sorted(places, key=lambda place: name not in (image.name for image in place.images))


def get_from(places: list[Place], reference: str) -> Stored:
    """Return a version from the first repository that has it.

    :raises VersionNotFound: none has.
    """
    for place in places:
        version = place.repository.find_version(reference)
        if version is not None:
            return Stored(place, version, _find_record(place.repository, version))
    first = places[0]
    return Stored(first, first.repository.get_version(reference), None)  # raises, and says what comes near


def choose_version(word: str, settings: Settings) -> Chosen:
    """Return a version and its image: by NAME:TAG, NAME:CHANNEL, NAME, or the image's folder, whose newest is meant.

    :raises DefinitionError: the image cannot be read.
    :raises VersionNotFound: no version has that name.
    :raises UsageError: the project has no image of the version's name, so nobody knows how it is to be tested.
    """
    directory = _find_folder(word, settings.project)
    if directory is not None:
        image = load_image(directory, make_surroundings(settings))
        repository = open_image_repository(image)
        return Chosen(image, _get_newest(repository, image), repository)
    stored = get_stored(word, settings, None)
    for image in list_readable(settings):
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
