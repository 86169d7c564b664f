"""`goldsmith validate`."""

from __future__ import annotations

from pathlib import Path

import click

from goldsmith.base.errors import DefinitionError, UsageError
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import describe_problem, say, say_document, shorten_path
from goldsmith.cli.reading import Reading, collect_syntax, find_directories, open_syntax_checks, read_images
from goldsmith.cli.signals import catch_signals
from goldsmith.definition.images import list_images


@click.command(cls=Command)
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@pass_settings
def validate(settings: Settings, images: tuple[str, ...]) -> int:
    """Check everything that can be checked without a node.

    Reads the variables, secrets and playbooks of the IMAGEs (of all images where none is named) and the inventory, and
    lists every problem with file and line. Nothing is started and nothing is changed. The exit code is 2 when there is
    a problem.
    """
    with catch_signals():
        reading = read_all(images, settings)
    if settings.json:
        say_document(
            {
                "valid": [str(path) for path in _list_valid(reading)],
                "problems": [describe_problem(problem) for problem in sorted(reading.problems)],
            }
        )
        return DefinitionError.exit_code if reading.problems else 0
    for path in _list_valid(reading):
        say(f"ok {shorten_path(path)}")
    reading.check()
    return 0


def read_all(named: tuple[str, ...], settings: Settings) -> Reading:
    """Read and check what is named, or everything.

    :raises UsageError: there is nothing to check.
    """
    directories = find_directories(named, settings.project) if named else list_images(settings.project)
    if not directories:
        raise UsageError(f"{settings.project} has no image yet", hint="an image is a folder in images/ with a vars.yml")
    reading = read_images(directories, settings)
    with open_syntax_checks(reading.images) as checks:
        collect_syntax(checks, reading)
    return reading


def _list_valid(reading: Reading) -> list[Path]:
    faulty = [problem.file for problem in reading.problems]
    images = [image.directory for image in reading.images]
    sound = [folder for folder in images if not any(folder in file.parents for file in faulty)]
    return [*sound, *([reading.inventory] if reading.inventory is not None else [])]
