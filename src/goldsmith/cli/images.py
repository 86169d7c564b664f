"""`goldsmith images`: what the repository holds. What only some commands need is imported with those."""

from __future__ import annotations

from pathlib import Path

import click

from goldsmith.artifacts.export import choose_template_path, write_template
from goldsmith.base.digest import digest_file
from goldsmith.base.errors import RepositoryError
from goldsmith.cli.catalog import describe, render_list, render_stored
from goldsmith.cli.options import Command, Lazy, LazyGroup, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.progress import open_progress
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.standing import Standing, list_standings, read_standing
from goldsmith.cli.versions import Stored, find_places, get_stored, repository_option

COMMANDS = {
    "list": Lazy("goldsmith.cli.images:list_versions", "List versions, the newest of each image last."),
    "show": Lazy("goldsmith.cli.images:show", "Show what a version was made of, and how it stands."),
    "diff": Lazy("goldsmith.cli.comparison:diff", "Say what differs between two versions."),
    "report": Lazy("goldsmith.cli.images:report", "Write the reports of a version's newest test into a directory."),
    "promote": Lazy("goldsmith.cli.channels:promote", "Let a channel name a version."),
    "channels": Lazy("goldsmith.cli.channels:channels", "List the channels and what they name."),
    "demote": Lazy("goldsmith.cli.channels:demote", "Forget a channel; its version stays."),
    "override": Lazy(
        "goldsmith.cli.channels:override",
        "Let a version be used although it has failed its tests, or has not been tested.",
    ),
    "revoke": Lazy("goldsmith.cli.channels:revoke", "Forbid the use of a version and of all that is built on it."),
    "sign": Lazy("goldsmith.cli.attestations:sign", "Sign a version with your SSH key."),
    "sbom": Lazy("goldsmith.cli.attestations:sbom", "Print a version's bill of materials (CycloneDX)."),
    "provenance": Lazy(
        "goldsmith.cli.attestations:provenance", "Print how a version came to be (in-toto, with SLSA's provenance)."
    ),
    "export": Lazy("goldsmith.cli.images:export", "Write a version as a template into a directory."),
    "push": Lazy("goldsmith.cli.transfers:push", "Copy a version into another repository."),
    "pull": Lazy("goldsmith.cli.transfers:pull", "Copy a version from another repository into the project's."),
    "verify": Lazy("goldsmith.cli.verification:verify", "Read everything back and compare it with its digests."),
    "where": Lazy(
        "goldsmith.cli.where:where",
        "List the templates at the places where images are published: whose they are, and which are missing.",
    ),
    "withdraw": Lazy(
        "goldsmith.cli.where:withdraw", "Remove old templates from the places where images are published."
    ),
    "prune": Lazy("goldsmith.cli.pruning:prune", "Remove old versions that nothing needs."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, invoke_without_command=True)
@click.pass_context
def images(context: click.Context) -> None:
    """List, compare, promote, copy and remove the versions that were built.

    Without a command: list. A REF is NAME:TAG, NAME:CHANNEL, or NAME for the newest version. It is looked for in the
    repositories of the project's images, first where those of that name are stored; --repository names another one.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_versions, names=(), repository=None)


@click.command("list", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@repository_option
@pass_settings
def list_versions(settings: Settings, names: tuple[str, ...], repository: str | None) -> None:
    """List versions, the newest of each image last.

    All of them, or those of the images that are named. A registry that does not answer is an error, but the others'
    versions are listed first.
    """
    listed, failed = list[tuple[Stored, Standing]](), list[RepositoryError]()
    with catch_signals():
        for place in find_places(settings, repository):
            try:
                listed += list_standings([place], names)
            except RepositoryError as error:
                failed.append(error)
    if settings.json:
        say_document({"images": [describe(*one) for one in listed]})
    elif listed:
        say(render_list(listed))
    elif names and not failed:
        tell(f"there is no version of {', '.join(names)}")
    elif not failed:
        tell("no version has been built yet: goldsmith build IMAGE")
    if failed:
        raise failed[0]


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@repository_option
@pass_settings
def show(settings: Settings, reference: str, repository: str | None) -> None:
    """Show what a version was made of, and how it stands.

    REF is NAME:TAG, NAME:CHANNEL, or NAME for its newest version.
    """
    with catch_signals():
        stored = get_stored(reference, settings, repository)
        standing = read_standing(stored)
    if settings.json:
        say_document(describe(stored, standing, whole=True))
    else:
        say(render_stored(stored, standing))


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@repository_option
@pass_settings
def export(settings: Settings, reference: str, directory: Path, repository: str | None) -> None:
    """Write a version as a template into a directory.

    Any Proxmox VE takes the file as a container template. No file is ever overwritten: a taken name gets a number. On
    standard output: the path of the file.
    """
    with open_progress(settings) as events:
        stored = get_stored(reference, settings, repository)
        version = stored.version
        target = choose_template_path(directory, version.name, version.tag.partition(".")[0])
        watch = events.watch(target.name, version.size)
        template = write_template(stored.repository, version, target, on_bytes=watch)
    if settings.json:
        say_document(
            {"path": str(template.path.absolute()), "digest": digest_file(template.path), "size": template.size}
        )
    else:
        say(str(template.path))


@click.command(cls=Command)
@click.argument("reference", metavar="REF")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@repository_option
@pass_settings
def report(settings: Settings, reference: str, directory: Path, repository: str | None) -> None:
    """Write the reports of a version's newest test into a directory.

    They are a page for people (HTML), JUnit XML for CI systems, and JSON. On standard output: the path of the page.
    """
    from goldsmith.cli.test import write_reports  # testing brings Ansible with it

    with catch_signals():
        stored = get_stored(reference, settings, repository)
        page = write_reports(stored.repository, stored.version, directory)
    if settings.json:
        say_document(
            {"html": str(page), "junit": str(page.with_suffix(".xml")), "json": str(page.with_suffix(".json"))}
        )
    else:
        say(str(page))
