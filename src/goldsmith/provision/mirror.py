"""A playbook that is no file of the user's, run as if it stood in the image's folder.

The project is mirrored by symbolic links down to that folder, so that every relative path, role and template is found
where it would be; nothing is written beside the user's files.
"""

from __future__ import annotations

from pathlib import Path

from goldsmith.base.private import write_private
from goldsmith.provision.play import Play

FOLDER = "mirror"


def place_playbook(play: Play, root: Path) -> Path:
    """Return the file to be run: the user's own, or one with the play's text in a mirror of the project.

    :param root: a private directory; it and the mirror in it go together.
    """
    if not play.text:
        return play.playbook
    place, source = root / FOLDER, play.project
    for part in (*play.playbook.relative_to(play.project).parts[:-1], ""):
        place.mkdir(mode=0o700)
        _link(source, place, {part, play.playbook.name if not part else ""})
        place, source = place / part, source / part
    return write_private(place / play.playbook.name, play.text)


def _link(source: Path, place: Path, left_out: set[str]) -> None:
    for path in source.iterdir():
        if path.name not in left_out:
            (place / path.name).symlink_to(path)


def find_original(file: Path, play: Play, root: Path) -> Path:
    """Return the user's file that a path in the mirror stands for; other paths as they are."""
    mirror = root / FOLDER
    return play.project / file.relative_to(mirror) if file.is_relative_to(mirror) else file
