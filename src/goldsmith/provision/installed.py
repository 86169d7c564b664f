"""Roles, collections and plugins that are no part of the project: where Ansible finds them, what they consist of."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Set
from pathlib import Path

from goldsmith.base.digest import Digest, JsonValue, digest_file, digest_json
from goldsmith.base.files import digest_tree
from goldsmith.provision.content import CONFIGURED
from goldsmith.provision.play import Play
from goldsmith.provision.workspace import read_ansible_cfg

IGNORED = frozenset({".git", "__pycache__", ".galaxy_install_info"})
CARRIED = ("plugins", "roles", "playbooks", "meta")
"""Folders of a collection that can change what a playbook does."""
KNOWN_ACTIONS = frozenset({"synchronize", "patch"})
"""Action plugins of collections that read what `src` names, and nothing else here."""
SYSTEM_PLUGINS = Path("/usr/share/ansible/plugins")
"""Where Ansible looks for plugins that belong to no collection (ansible-core, config/base.yml)."""


def list_role_folders(play: Play) -> list[Path]:
    """Return the folders in which Ansible looks for roles by the play's environment and settings, the project's first.

    The same as what `workspace.build_ansible_environment` sets.
    """
    named = _read_named(play, "ANSIBLE_ROLES_PATH", ("roles_path",))
    return named or [play.project / "roles", Path.home() / ".ansible/roles", Path("/usr/share/ansible/roles")]


def list_collection_folders(play: Play) -> list[Path]:
    """Return the folders in which Ansible looks for collections; Python's own paths are among them."""
    named = _read_named(play, "ANSIBLE_COLLECTIONS_PATH", ("collections_path", "collections_paths"))
    usual = [play.project / "collections", Path.home() / ".ansible/collections", Path("/usr/share/ansible/collections")]
    beside = [play.playbook.parent / "collections"]
    return [*beside, *(named or usual), *(Path(path) for path in sys.path if path)]


def list_plugin_folders(play: Play) -> list[Path]:
    """Return the folders of plugins and modules outside of the project: ansible.cfg's, and this machine's own."""
    settings = read_ansible_cfg(play.project / "ansible.cfg")
    kinds = [name for name in settings if CONFIGURED.match(name) and not name.startswith(("roles", "collections"))]
    return [*(path for name in kinds for path in _split(settings[name], play)), SYSTEM_PLUGINS]


def _read_named(play: Play, variable: str, settings: tuple[str, ...]) -> list[Path]:
    if os.environ.get(variable):
        return _split(os.environ[variable], play)
    given = read_ansible_cfg(play.project / "ansible.cfg")
    return [path for name in settings if name in given for path in _split(given[name], play)]


def _split(text: str, play: Play) -> list[Path]:
    """Split a list of paths as Ansible does: relative ones are so to ansible.cfg or the project, which is the same."""
    text = text.replace("{{CWD}}", str(play.project))
    parts = [os.path.expanduser(os.path.expandvars(part.strip())) for part in text.split(":")]  # noqa: PTH111
    return [play.project / part for part in parts if part]


def list_roles(play: Play) -> dict[str, Path]:
    """Return the installed roles outside of the project by their names; of two of a name, the one that is found first.

    A role of the project's comes first as well, but is counted with the project's content.
    """
    found: dict[str, Path] = {}
    for folder in list_role_folders(play):
        if folder.is_dir() and not folder.resolve().is_relative_to(play.project.resolve()):
            for role in sorted(folder.iterdir()):
                if role.is_dir():
                    found.setdefault(role.name, role)
    return found


def list_tree(folder: Path) -> Iterator[Path]:
    """Yield a folder and all in it, through a link where the folder itself is one."""
    yield folder
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in IGNORED)
        yield from (Path(directory, name) for name in [*folders, *sorted(files)] if name not in IGNORED)


def list_collections(play: Play) -> dict[str, Path]:
    """Return the installed collections by their names (`community.general`), wherever they are."""
    found: dict[str, Path] = {}
    for folder in list_collection_folders(play):
        for namespace in _list_folders(folder / "ansible_collections"):
            for collection in _list_folders(namespace):
                found.setdefault(f"{namespace.name}.{collection.name}", collection)
    return found


def _list_folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []


def list_plugins(collection: Path) -> frozenset[str]:
    """Return the names of a collection's plugins and modules; any of them may be used without the collection's name."""
    return frozenset(path.stem for path in (collection / "plugins").rglob("*.*") if path.stem != "__init__")


def find_unknown_action(collection: Path, tasks: Set[str]) -> str:
    """Return a task's key that runs a collection's code on this machine; empty where none does."""
    folder = collection / "plugins" / "action"
    own = {path.stem for path in folder.glob("*.py")} - KNOWN_ACTIONS - {"__init__"} if folder.is_dir() else set()
    return next((key for key in sorted(tasks) if key.rpartition(".")[2] in own), "")


def digest_collection(collection: Path) -> Digest:
    """Return the digest of what a collection can do: its version, plugins, roles and playbooks."""
    parts: dict[str, JsonValue] = {name: digest_tree(collection / name, ignore=IGNORED) for name in CARRIED
                                   if (collection / name).is_dir()}  # fmt: skip
    return digest_json({"manifest": _digest_manifest(collection), "parts": parts})


def _digest_manifest(collection: Path) -> JsonValue:
    files = [collection / name for name in ("MANIFEST.json", "galaxy.yml")]
    return [digest_file(file) if file.is_file() else None for file in files]


def read_version(collection: Path) -> str:
    """Return a collection's version; empty where it does not tell."""
    try:
        manifest = json.loads((collection / "MANIFEST.json").read_text(encoding="utf-8"))
        return str(manifest["collection_info"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def list_needed(collection: Path) -> frozenset[str]:
    """Return the names of the collections that one needs."""
    try:
        text = (collection / "MANIFEST.json").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(re.findall(r'"(\w+\.\w+)"\s*:', text))
