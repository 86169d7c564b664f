"""`goldsmith images`: what the repository holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from goldsmith.artifacts.export import choose_template_path, write_template
from goldsmith.artifacts.record import BuildRecord, render_record, render_time
from goldsmith.artifacts.repository import Repository, Version, open_repository
from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import DefinitionError, VersionNotFound
from goldsmith.base.units import render_bytes
from goldsmith.cli.options import Group, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.reading import make_surroundings
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.table import render_pairs, render_table
from goldsmith.cli.terminal import open_events
from goldsmith.cli.words import render_seconds
from goldsmith.definition.images import list_images
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


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def images(context: click.Context) -> None:
    """List, show and export the versions that were built.

    Without a command: list.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_versions, repository=None)


@images.command("list")
@repository_option
@pass_settings
def list_versions(settings: Settings, repository: Path | None) -> None:
    """List all versions, the newest of each image last."""
    stored = list(find_stored(settings, repository))
    if settings.json:
        say_document({"images": [describe(item) for item in stored]})
    elif stored:
        say(render_list(stored))
    else:
        tell("no version has been built yet: goldsmith build IMAGE")


@images.command()
@click.argument("reference", metavar="REF")
@repository_option
@pass_settings
def show(settings: Settings, reference: str, repository: Path | None) -> None:
    """Show what a version was made of.

    REF is NAME:TAG, or NAME for its newest version.
    """
    stored = get_stored(reference, settings, repository)
    if settings.json:
        say_document(describe(stored, whole=True))
    else:
        say(render_stored(stored))


@images.command()
@click.argument("reference", metavar="REF")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@repository_option
@pass_settings
def export(settings: Settings, reference: str, directory: Path, repository: Path | None) -> None:
    """Write a version as a template into a directory.

    Any Proxmox VE takes the file as a container template. No file is ever overwritten: a taken name gets a number. On
    standard output: the path of the file.
    """
    stored = get_stored(reference, settings, repository)
    version = stored.version
    target = choose_template_path(directory, version.name, version.tag.partition(".")[0])
    with _open_progress(settings, target.name, version.size) as watch:
        template = write_template(stored.repository, version, target, on_bytes=watch)
    if settings.json:
        say_document({"path": str(template.path.absolute()), "digest": template.digest, "size": template.size})
    else:
        say(str(template.path))


@contextmanager
def _open_progress(settings: Settings, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a transfer is, a few times a second; with `--json`, where one document is wanted, not at all."""
    if settings.json:
        with catch_signals():
            yield lambda _: None
        return
    with open_events(settings) as (events, _):
        yield events.watch(what, total)


def find_repositories(settings: Settings, named: Path | None) -> list[Repository]:
    """Return the repositories that are meant: the one that is named, or all that the project's images use."""
    if named is not None:
        return [open_repository(named)]
    found = [settings.project / DEFAULT_REPOSITORY]
    for directory in list_images(settings.project):
        try:
            found.append(load_image(directory, make_surroundings(settings)).repository)
        except DefinitionError:  # `validate` tells; what has been built can be looked at all the same
            continue
    return [open_repository(path) for path in dict.fromkeys(found)]


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


def render_list(stored: Iterable[Stored]) -> str:
    """Render versions as a table."""
    rows = [
        (
            str(item.version),
            f"{item.version.created.astimezone():%Y-%m-%d %H:%M}",
            render_bytes(item.version.size),
            item.record.base_name if item.record else "-",
            str(len(item.record.packages)) if item.record else "-",
        )
        for item in stored
    ]
    return render_table(("VERSION", "CREATED", "SIZE", "BASE", "PACKAGES"), rows)


def render_stored(stored: Stored) -> str:
    """Render a version with its record."""
    version, record = stored.version, stored.record
    pairs = {
        "version": str(version),
        "digest": version.digest,
        "created": f"{version.created.astimezone():%Y-%m-%d %H:%M:%S %z}",
        "size": render_bytes(version.size),
        "repository": str(stored.repository.path),
        "layers": "\n".join(f"{layer.digest}  {render_bytes(layer.size)}" for layer in version.layers),
    }
    return render_pairs({**pairs, **(_describe_record(record) if record else {"record": "none"})})


def _describe_record(record: BuildRecord) -> dict[str, str]:
    commit = f"{record.git.commit}{', with changes' if record.git.dirty else ''}" if record.git else "none"
    return {
        "image": record.image,
        "base": f"{record.base_name}\n{record.base_digest}",
        "playbook": record.playbook_digest,
        "commit": commit,
        "built": f"in {render_seconds(record.seconds)} on {record.node_kind} {record.node_version}".rstrip(),
        "build": record.build_id,
        "tools": "\n".join(f"{name} {version}" for name, version in sorted(record.tools.items())),
        "variables": "\n".join(f"{name}: {_render_value(value)}" for name, value in sorted(record.variables.items())),
        "packages": "\n".join(f"{package.name} {package.version}" for package in record.packages),
    }


def _render_value(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def describe(stored: Stored, *, whole: bool = False) -> JsonValue:
    """Return a version as JSON; `whole`: with everything that was recorded."""
    version, record = stored.version, stored.record
    short: dict[str, JsonValue] = {
        "version": str(version),
        "name": version.name,
        "tag": version.tag,
        "digest": version.digest,
        "created": render_time(version.created),
        "size": version.size,
        "repository": str(stored.repository.path),
        "base": record.base_name if record else None,
        "packages": len(record.packages) if record else None,
    }
    if not whole:
        return short
    layers: list[JsonValue] = [{"digest": layer.digest, "size": layer.size} for layer in version.layers]
    return {**short, "layers": layers, "record": json.loads(render_record(record)) if record else None}
