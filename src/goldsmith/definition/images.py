"""The images of a project: every folder under `images/` with a `vars.yml`, and how a person names one."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from goldsmith.base.errors import UsageError
from goldsmith.definition.image import VARS_FILE

IMAGES_FOLDER = "images"


def list_images(project: Path) -> list[Path]:
    """Return the folders of a project's images, by name."""
    return sorted(file.parent for file in (project / IMAGES_FOLDER).glob(f"*/{VARS_FILE}") if file.is_file())


def find_image_directory(where: str, project: Path) -> Path:
    """Return the folder that a person means by `lxc`, `images/lxc`, `images/lxc/vars.yml` or an absolute path.

    :raises UsageError: there is none; the hint names the one that was probably meant, or those that there are.
    """
    for candidate in _candidates(where, project):
        if (candidate / VARS_FILE).is_file():
            return candidate
    raise _not_found(where, project)


def _candidates(where: str, project: Path) -> list[Path]:
    if not where or "\0" in where:
        return []
    path = Path(where)
    if path.name == VARS_FILE:
        path = path.parent
    return [project / IMAGES_FOLDER / path, project / path]


def _not_found(where: str, project: Path) -> UsageError:
    folders = [path for path in _candidates(where, project) if path.is_dir()]
    if folders:
        return UsageError(
            f"{folders[0]} has no {VARS_FILE}", hint=f"an image's folder has one; it may be empty. {_known(project)}"
        )
    names = [directory.name for directory in list_images(project)]
    near = get_close_matches(Path(where).name, names, n=1)
    hint = f"did you mean {IMAGES_FOLDER}/{near[0]}?" if near else _known(project)
    return UsageError(f"there is no image '{where}' in {project}", hint=hint)


def _known(project: Path) -> str:
    names = [f"{IMAGES_FOLDER}/{directory.name}" for directory in list_images(project)]
    if not names:
        return f"make one: a folder in {project / IMAGES_FOLDER} with a {VARS_FILE} and a playbook.yml"
    return f"images here: {', '.join(names)}"
