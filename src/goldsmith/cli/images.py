"""`goldsmith images`: what the repository holds."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from goldsmith.artifacts.export import choose_template_path, write_template
from goldsmith.artifacts.proof import put_override
from goldsmith.cli.catalog import describe, render_list, render_stored
from goldsmith.cli.options import Group, Settings, pass_settings
from goldsmith.cli.output import say, say_document, tell
from goldsmith.cli.signals import catch_signals
from goldsmith.cli.terminal import open_events
from goldsmith.cli.test import write_reports
from goldsmith.cli.versions import find_stored, get_stored, repository_option


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


@images.command()
@click.argument("reference", metavar="REF")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@repository_option
@pass_settings
def report(settings: Settings, reference: str, directory: Path, repository: Path | None) -> None:
    """Write the reports of a version's newest test into a directory.

    They are a page for people (HTML), JUnit XML for CI systems, and JSON. On standard output: the path of the page.
    """
    stored = get_stored(reference, settings, repository)
    page = write_reports(stored.repository, stored.version, directory)
    if settings.json:
        say_document(
            {"html": str(page), "junit": str(page.with_suffix(".xml")), "json": str(page.with_suffix(".json"))}
        )
    else:
        say(str(page))


@images.command()
@click.argument("reference", metavar="REF")
@click.option("--reason", required=True, metavar="TEXT", help="Why it may be used all the same; others will read it.")
@repository_option
@pass_settings
def override(settings: Settings, reference: str, reason: str, repository: Path | None) -> None:
    """Let a version be used although it has failed its tests, or has not been tested.

    The reason is recorded with the version, and who gave it. It holds until the version is tested again.
    """
    stored = get_stored(reference, settings, repository)
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    recorded = put_override(stored.repository, stored.version, reason=reason, who=who)
    if settings.json:
        say_document(describe(stored))
    else:
        tell(f"{stored.version} may be used from now on: {recorded.reason} ({recorded.who})")


@contextmanager
def _open_progress(settings: Settings, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a transfer is, a few times a second; with `--json`, where one document is wanted, not at all."""
    if settings.json:
        with catch_signals():
            yield lambda _: None
        return
    with open_events(settings) as (events, _):
        yield events.watch(what, total)
