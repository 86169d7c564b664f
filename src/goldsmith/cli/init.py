"""`goldsmith init`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from goldsmith.base.errors import UsageError
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document, shorten_path, tell

SKELETON = "skeleton"
"""Folder of this package. Its image and inventory are links to those of goldsmith's own repository."""
RENAMED = {"gitignore": ".gitignore"}
"""Files whose own names would mean something in the source tree."""


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@pass_settings
def init(settings: Settings, directory: Path) -> None:
    """Make a new project.

    DIR gets an image (images/lxc), an inventory, a Makefile, requirements.yml, a README and a .gitignore. No file is
    ever overwritten: when one of them is there already, nothing is written at all.
    """
    written = [str(path) for path in write_skeleton(directory.absolute())]
    if settings.json:
        say_document({"project": str(directory.absolute()), "files": list(written)})
        return
    for path in written:
        say(shorten_path(Path(path)))
    tell(f"next: cd {shlex.quote(str(directory))} && goldsmith build lxc")


def write_skeleton(directory: Path) -> list[Path]:
    """Write a new project and return its files.

    :raises UsageError: one of them is there already; nothing was written.
    """
    wanted = {directory / name: source for name, source in list_skeleton()}
    taken = [path for path in wanted if path.exists() or path.is_symlink()]
    if taken:
        listed = "\n".join(shorten_path(path) for path in taken)
        raise UsageError(
            f"{directory} has {len(taken)} of a new project's files already",
            detail=listed,
            hint="nothing was written; choose an empty directory, or move these away",
        )
    for path, source in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(source.read_bytes())
    return list(wanted)


def list_skeleton() -> list[tuple[str, Traversable]]:
    """Return the files of a new project, by their path in it."""
    return sorted(_walk(files("goldsmith.cli") / SKELETON, ""), key=lambda item: item[0])


def _walk(folder: Traversable, above: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{above}{entry.name}/")
        else:
            yield above + RENAMED.get(entry.name, entry.name), entry
