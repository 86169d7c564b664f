"""One digest over everything that a playbook can reach: what changes the image changes the digest, nothing else does.

Counted are names, permission bits and contents of: the image's folder, the project's roles, collections, plugins and
variables, its ansible.cfg, installed roles and collections that its requirements.yml lists, and whatever a YAML file
among these names by a `../` path or a symbolic link leads to. Not counted are `vars.yml` and `vault.yml` (variables are
digested by those who know which are secret), tests and texts about things (README, LICENSE, CHANGELOG at the top of an
image or role), `.git`, and anything of time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from goldsmith.base.digest import Digest, JsonValue, digest_bytes, digest_file, digest_json
from goldsmith.base.errors import DefinitionError
from goldsmith.base.files import describe_entry, digest_tree
from goldsmith.definition.source import load_document
from goldsmith.provision.play import Play
from goldsmith.provision.workspace import read_ansible_cfg

IGNORED = frozenset({".git", "__pycache__"})
IGNORED_AT_TOP = frozenset({"vars.yml", "vault.yml", "tests", "molecule", *IGNORED})
TEXTS = ("README", "LICENSE", "CHANGELOG")
SHARED = (
    "ansible.cfg", "roles", "collections", "group_vars", "host_vars", "files", "templates", "tasks", "handlers", "vars",
    "library", "module_utils", "action_plugins", "callback_plugins", "filter_plugins", "lookup_plugins", "test_plugins",
    "vars_plugins", "strategy_plugins", "connection_plugins", "plugins",
)  # fmt: skip
"""What of the project's top is Ansible's by name."""
CONFIGURED = re.compile(r"(roles|collections)_paths?\Z|library\Z|module_utils\Z|\w+_plugins\Z")
"""Settings of ansible.cfg that say where content is."""
UPWARDS = re.compile(r"(?:\.\./)+[^\s'\"{}\[\]|,;]+")
"""A path that leaves its folder, as in `import_tasks: ../common/tasks.yml` or `{{ playbook_dir }}/../common`."""
LARGEST_TEXT = 1 << 20


def digest_content(play: Play) -> Digest:
    """Return the digest of all content of a play. Where the project lies does not matter."""
    entries: dict[str, JsonValue] = {name: describe_entry(path) for name, path in list_content(play).items()}
    return digest_json({"files": entries, "requirements": describe_requirements(play)})


def list_content(play: Play) -> dict[str, Path]:
    """Return every file, folder and link that a play's content consists of, by its path seen from the project."""
    image = play.playbook.parent
    roots = [*_list_top(image), *(play.project / name for name in SHARED), *_list_configured(play.project)]
    found: dict[str, Path] = {}
    waiting = [root for root in roots if os.path.lexists(root)]
    while waiting:
        root = waiting.pop()
        entries = {os.path.relpath(path, play.project): path for path in _list_entries(root)}
        fresh = {name: path for name, path in entries.items() if name not in found}
        found |= fresh
        waiting += _list_led_to(fresh.values(), play)
    return found


def list_unlisted(play: Play) -> dict[str, Path]:
    """Return what is no content unless a playbook names it: texts about things, tests, vars.yml and vault.yml."""
    tops = [
        play.playbook.parent,
        *_list_folders(play.project / "roles"),
        *_list_folders(play.playbook.parent / "roles"),
    ]
    left_out = [path for top in tops for path in top.iterdir() if path not in _list_top(top)]
    found = [path for root in left_out if root.name not in IGNORED for path in _walk(root)]
    return {os.path.relpath(path, play.project): path for path in found}


def _list_folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _list_configured(project: Path) -> list[Path]:
    """List the folders of roles, collections and plugins that the project's ansible.cfg names inside the project."""
    settings = read_ansible_cfg(project / "ansible.cfg")
    texts = [text for name, value in settings.items() if CONFIGURED.match(name) for text in value.split(":")]
    paths = [project / text.strip() for text in texts if text.strip()]
    return [path for path in paths if project in path.parents and ".." not in path.parts]


def _list_top(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in IGNORED_AT_TOP and not path.name.startswith(TEXTS)]


def _list_entries(root: Path) -> Iterator[Path]:
    """Yield a file or folder and all in it; of a folder of roles, each role without the texts about it."""
    if root.name != "roles" or not root.is_dir() or root.is_symlink():
        yield from _walk(root)
        return
    yield root
    for role in root.iterdir():
        if role.name in IGNORED:
            continue
        yield role
        if role.is_dir() and not role.is_symlink():
            for part in _list_top(role):
                yield from _walk(part)


def _list_led_to(paths: Iterable[Path], play: Play) -> list[Path]:
    """List what is elsewhere and is reached from here: targets of links, `../` paths in YAML files."""
    found = []
    for path in paths:
        if path.is_symlink():
            found.append(Path(os.path.realpath(path)))
        elif path.suffix in (".yml", ".yaml") and path.is_file() and path.stat().st_size <= LARGEST_TEXT:
            found += _list_upwards(path, play)
    image, project = play.playbook.parent.resolve(), play.project.resolve()
    # A folder around the image or project would take in everything, results and repositories too.
    return [
        path for path in found if path.exists() and not (image.is_relative_to(path) or project.is_relative_to(path))
    ]


def _walk(root: Path) -> Iterator[Path]:
    yield root
    if root.is_dir() and not root.is_symlink():
        for directory, folders, files in os.walk(root):
            # A folder that is copied as a whole takes its .git with it
            ignored = IGNORED - {".git"} if {"files", "templates"} & set(Path(directory).parts) else IGNORED
            folders[:] = [name for name in folders if name not in ignored]
            yield from (Path(directory, name) for name in [*folders, *files] if name not in ignored)


def _list_upwards(file: Path, play: Play) -> list[Path]:
    text = file.read_text(encoding="utf-8", errors="replace")
    starts = (file.parent, play.playbook.parent)
    return [(start / found[0]).resolve() for found in UPWARDS.finditer(text) for start in starts]


def describe_requirements(play: Play) -> JsonValue:
    """Return what requirements.yml lists, with what of it is installed."""
    file = play.project / "requirements.yml"
    try:
        listed = load_document(file).value if file.is_file() else None
    except DefinitionError:  # it is no YAML: ansible-galaxy says so
        return digest_file(file)
    if not listed:
        return None
    roles, collections = (listed, []) if isinstance(listed, list) else _split(listed)
    return {
        "roles": {_name_of(role): [_describe(role), _digest_role(_name_of(role))] for role in roles},
        "collections": {
            _name_of(entry): [_describe(entry), _digest_collection(_name_of(entry), play)] for entry in collections
        },
    }


def _split(listed: Any) -> tuple[list[Any], list[Any]]:
    plain = listed if isinstance(listed, dict) else {}
    return list(plain.get("roles") or []), list(plain.get("collections") or [])


def _name_of(entry: Any) -> str:
    return str(entry.get("name") or entry.get("src") or entry.get("source")) if isinstance(entry, dict) else str(entry)


def _describe(entry: Any) -> str:
    return str(digest_bytes(repr(sorted(entry.items()) if isinstance(entry, dict) else entry).encode()))


def _digest_role(name: str) -> JsonValue:
    """Digest an installed role; galaxy's note of when it was installed is no content."""
    for folder in _search("ANSIBLE_ROLES_PATH", "roles"):
        if (folder / name).is_dir():
            return digest_tree(folder / name, ignore=IGNORED | {".galaxy_install_info"})
    return None


def _digest_collection(name: str, play: Play) -> JsonValue:
    """Digest an installed collection by its manifest, which holds its version and the checksum of its files."""
    beside = [play.project / "collections", play.playbook.parent / "collections"]
    for folder in [*beside, *_search("ANSIBLE_COLLECTIONS_PATH", "collections")]:
        manifest = folder / "ansible_collections" / name.replace(".", "/") / "MANIFEST.json"
        if manifest.is_file():
            return digest_file(manifest)
    return None


def _search(variable: str, kind: str) -> list[Path]:
    """Return the folders in which Ansible looks for installed content."""
    named = [Path(text).expanduser() for text in os.environ.get(variable, "").split(":") if text]
    return named or [Path.home() / ".ansible" / kind, Path("/usr/share/ansible", kind), Path("/etc/ansible", kind)]
