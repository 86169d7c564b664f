"""What one stage of a provisioning can read on this machine: files and variables; and whether it reads anything else.

A stage's result may be used again only when nothing of it has changed, so in doubt more is counted, never less: a name
that occurs in a text counts as used; where a name is put together while the playbook runs, everything counts; and what
reads past files and variables (the network, this machine's own programs) is not to be used again at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldsmith.base.digest import Digest
from goldsmith.base.errors import DefinitionError, Problem
from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText, VaultText, parse_document
from goldsmith.provision.content import describe_requirements, list_content, list_unlisted
from goldsmith.provision.installed import (
    digest_collection,
    find_unknown_action,
    list_collections,
    list_needed,
    list_plugin_folders,
    list_plugins,
    list_roles,
    list_tree,
)
from goldsmith.provision.play import Play
from goldsmith.provision.texts import READS, WORD, Reading

ALWAYS = re.compile(
    r"(^|/)(ansible\.cfg$|group_vars|host_vars|library|module_utils|\w+_plugins|plugins|collections)(/|$)"
)
"""What Ansible takes by itself, whatever a playbook says."""
IN_COLLECTION = re.compile(r"(^|/)ansible_collections/")
"""What is counted as a collection."""
CODE_HERE = re.compile(r"(^|/)(plugins/)?(action|lookup|filter|test|vars|inventory|become|shell)(_plugins)?/[^/]+\.py$")
"""Plugins whose code runs on this machine and reaches the guest by what it returns."""
GENERIC = frozenset(
    {"tasks", "handlers", "vars", "defaults", "meta", "files", "templates", "roles", "images", "tests", "molecule", "."}
)
"""Folders whose names are words of every playbook: they count where they stand as a path of their own."""
STARTS = ("", "files", "templates", "vars", "tasks", "handlers")
"""Folders beside a playbook or in a role that a relative path may start from (ansible-core, parsing/dataloader.py)."""
UPWARDS = re.compile(r"(?:\.\.?/+)*\.\./[^\s'\"{}\[\]|,;]+")
OF_THE_GUEST = {
    "template_name": re.compile(r"\b(inventory_)?hostname|nodename|fqdn|ansible_play_(hosts|batch)|\bgroups\s*[\[.]"),
    "temp_hostname": re.compile(r"\b(inventory_)?hostname|nodename|fqdn|ansible_play_(hosts|batch)|\bgroups\s*[\[.]"),
    "temp_ip_address": re.compile(r"ipv4|ip_addresses|ansible_host\b|interfaces|ansible_eth"),
}
"""Variables that are in what the guest says of itself, by which of its words."""
PLAIN_PARTS = frozenset({"files", "templates"})
"""Folders whose YAML files may be templates, or nothing of Ansible's."""
TASK_PARTS = frozenset({"tasks", "handlers"})
YAML = (".yml", ".yaml")
VAULT = "$ANSIBLE_VAULT"
LARGEST_TEXT = 4 << 20
MOST_OUTSIDE = 2000
"""Files and folders outside of the project that one path may bring in."""


@dataclass
class Inputs:
    """What a stage can read."""

    files: dict[str, Path] = field(default_factory=dict)
    """By the path seen from the project; of an installed role, by `role NAME/...`."""
    variables: dict[str, Any] = field(default_factory=dict)
    collections: dict[str, Digest] = field(default_factory=dict)
    """Installed collections that may be used, with a digest of what they can do."""
    requirements: Any = None
    whole: str = ""
    """Why everything counts; empty where only what is named does."""
    outside: str = ""
    """What it reads that is neither file nor variable: it must run each time."""


def find_inputs(play: Play) -> Inputs:
    """Return what a play can read.

    :param play: with `text`, that counts in place of its playbook.
    :raises DefinitionError: something cannot be read.
    """
    try:
        search = _Search(play)
        search.follow()
        search.inputs.requirements = describe_requirements(play)
    except OSError as error:
        file = Path(os.fsdecode(error.filename)) if error.filename else play.playbook
        raise DefinitionError([Problem(file, 0, f"cannot be read: {error.strerror}")]) from error
    search.inputs.whole, search.inputs.outside = search.reading.whole, search.reading.outside
    return search.inputs


class _Search:
    """Follows names from text to text until nothing new is named."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.inputs = Inputs()
        self.reading = Reading()
        self.own = os.path.relpath(play.playbook, play.project)
        self.content = {name: path for name, path in list_content(play).items() if not IN_COLLECTION.search(name)}
        self.unlisted = {name: path for name, path in list_unlisted(play).items() if name not in self.content}
        self.roles, self.collections = list_roles(play), list_collections(play)
        self.plugins = {name: list_plugins(path) for name, path in self.collections.items()}
        self._read(play.read_text(), play.playbook, self.own)
        for folder in list_plugin_folders(play):
            self._count(list_tree(folder) if folder.is_dir() else [])

    def follow(self) -> None:
        """Add what is named, and what is named there, until nothing is added."""
        while True:
            before = self._measure()
            self._add_named()
            self._add_roles()
            self._add_collections()
            self._add_variables()
            for path in sorted(self.reading.paths | self.reading.find_candidates()):
                self._count_absolute(path)
            if self._measure() == before:
                return

    def _measure(self) -> tuple[object, ...]:
        found, reading = self.inputs, self.reading
        reasons = (reading.whole, reading.everything, reading.any_role, reading.all_variables, len(reading.text))
        return (len(found.files), len(found.variables), len(found.collections), len(reading.paths), *reasons)

    # Files

    def _add_named(self) -> None:
        unlisted = {name: path for name, path in self.unlisted.items() if self._is_wanted_too(name)}
        named = {name: path for name, path in self.content.items() if self._is_named(name)}
        for name, path in {**named, **unlisted}.items():
            self._add(name, path)

    def _is_named(self, name: str) -> bool:
        if name == self.own:  # what is run of it is the stage's own text, which the caller counts
            return Path(name).name in self.reading.text
        return bool(self.reading.whole or ALWAYS.search(name)) or self._is_in_text(name)

    def _is_wanted_too(self, name: str) -> bool:
        exact = rf"(?<![\w.-]){re.escape(Path(name).name)}(?![\w.-])"
        is_named = re.search(exact, self.reading.text) is not None
        folders = set(Path(name).parts[:-1]) & {"tests", "molecule"}
        return self.reading.everything or is_named or any(map(self._names_folder, folders))

    def _is_in_text(self, name: str) -> bool:
        parts = Path(name).parts
        is_named = self._names_folder(parts[-1]) if parts[-1] in GENERIC else parts[-1] in self.reading.text
        return is_named or any(self._names_folder(part) for part in parts[:-1])

    def _names_folder(self, name: str) -> bool:
        if name not in self.reading.text:
            return False
        quoted = re.escape(name)
        if name in GENERIC or name == "..":
            return re.search(rf"[:=\s'\"/]{quoted}/?['\"]?\s*($|[,\]\n])", self.reading.text) is not None
        return re.search(rf"(?<![\w-]){quoted}(?![\w-])", self.reading.text) is not None

    def _add(self, name: str, path: Path) -> None:
        """Count a file, folder or link, what a link leads to, and what a text names."""
        if name in self.inputs.files:
            return
        self.inputs.files[name] = path
        if path.is_symlink():
            self._count_target(path)
        elif path.is_file():
            self._read_file(name, path)

    def _count_target(self, link: Path) -> None:
        target, project = Path(os.path.realpath(link)), self.play.project.resolve()
        if project.is_relative_to(target):
            self.reading.leave(f"a link leads to a folder around the project: {link.name}")
        elif target.exists():
            self._count(_list_bounded(target, self.reading))

    def _count_absolute(self, text: str) -> None:
        path = Path(text).expanduser()
        if path.exists() or path.is_symlink():
            self._count(_list_bounded(path, self.reading))

    def _count(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self._add(os.path.relpath(path, self.play.project), path)

    def _read_file(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(8192)
            if b"\0" in head:
                return
            text = (head + file.read(LARGEST_TEXT)).decode(errors="replace")
        if path.stat().st_size > LARGEST_TEXT:
            self.reading.read_unreadable(text, f"{path.name} is too large to be read as a text")
        if CODE_HERE.search(name):
            self._judge_plugin(path, text)
        self._read(text, path, name)

    def _read(self, text: str, path: Path, name: str) -> None:
        """Take a text into account; of YAML what it says, not its comments."""
        parts = set(Path(name).parts[:-1])
        ought = path.suffix in YAML or bool(parts & TASK_PARTS) or name == self.own
        value, is_readable = _parse(text, path) if ought or path.suffix in ("", ".json") else (None, True)
        if text.startswith(VAULT):
            self._read_vault(path, parts)
        elif isinstance(value, dict | list):
            self.reading.read_yaml(value)
        elif is_readable or not ought or parts & PLAIN_PARTS:
            self.reading.read_template(text)
        else:
            self.reading.read_unreadable(text, f"{path.name} cannot be read as YAML")
        self._add_upwards(text, path)

    def _read_vault(self, path: Path, parts: set[str]) -> None:
        why = f"{path.name} is encrypted"
        self.reading.all_variables = self.reading.all_variables or why
        if not parts & PLAIN_PARTS:
            self.reading.count_all(why)
        if parts & TASK_PARTS:
            self.reading.leave(f"{why}, so that nobody knows what its tasks read")

    def _add_upwards(self, text: str, path: Path) -> None:
        """Count what a `../` path leads to, from wherever it may start."""
        if "../" not in text or path == self.play.project / "ansible.cfg":
            return
        image, project = self.play.playbook.parent, self.play.project.resolve()
        folders = {path.parent, path.parent.parent, image, self.play.project}
        starts = [folder / start for folder in folders for start in STARTS]
        for words in {found[0] for found in UPWARDS.finditer(text)}:
            for start in starts:
                # ansible-core, parsing/dataloader.py: some candidates go through links, others do not
                for target in {Path(os.path.normpath(start / words)), Path(os.path.realpath(start / words))}:
                    if os.path.lexists(target) and not project.is_relative_to(os.path.realpath(target)):
                        self._count(_list_bounded(target, self.reading))

    # Installed content

    def _add_roles(self) -> None:
        for role, folder in self.roles.items():
            if self.reading.any_role or self._names_folder(role):
                for path in list_tree(folder):
                    self._add(f"role {role}/{os.path.relpath(path, folder)}", path)

    def _add_collections(self) -> None:
        words = set(WORD.findall(self.reading.text))
        for name in [name for name in self.collections if name not in self.inputs.collections]:
            if name in self.reading.text or self.reading.any_role or self.plugins[name] & words:
                self._add_collection(name, self.collections[name])

    def _add_collection(self, name: str, folder: Path) -> None:
        self.inputs.collections[name] = digest_collection(folder)
        if key := find_unknown_action(folder, self.reading.keys):
            self.reading.leave(f"a plugin of {name} works on this machine ({key})")
        if not (folder / "MANIFEST.json").is_file():
            self._judge_code(folder)
        self.reading.text += "\n" + "\n".join(list_needed(folder))
        for kind in ("roles", "playbooks"):
            for path in list_tree(folder / kind):
                if path.is_file() and not path.is_symlink():
                    self._add(f"collection {name}/{os.path.relpath(path, folder)}", path)

    def _judge_code(self, folder: Path) -> None:
        """Look at the plugins of a collection that nobody has published."""
        for path in sorted((folder / "plugins").rglob("*.py")):
            if CODE_HERE.search(f"plugins/{path.parent.name}/{path.name}"):
                self._judge_plugin(path, path.read_text(encoding="utf-8", errors="replace"))

    def _judge_plugin(self, path: Path, text: str) -> None:
        if found := READS.search(text):
            self.reading.leave(f"the plugin {path.name} reads more than it is given ({found[0]})")

    # Variables

    def _add_variables(self) -> None:
        words = set(WORD.findall(self.reading.text))
        for name, value in self.play.variables.items():
            named = self.reading.all_variables or name in words or name.startswith(("ansible_", "mitogen_"))
            if name not in self.inputs.variables and (named or self._is_told(name)):
                self.inputs.variables[name] = value
                self._read_variable(name, value)

    def _is_told(self, name: str) -> bool:
        """Tell whether a variable is in what the guest says of itself, and somebody reads that."""
        return name in OF_THE_GUEST and OF_THE_GUEST[name].search(self.reading.text) is not None

    def _read_variable(self, name: str, value: Any) -> None:
        self.reading.read_yaml({name: value})
        for item in _list_deep(value):
            if isinstance(item, Secret):
                self.reading.read_secret(name, item.reveal())
            else:
                text = item.text if isinstance(item, UnsafeText | VaultText) else item
                self._add_upwards(text, self.play.playbook)


def _parse(text: str, path: Path) -> tuple[Any, bool]:
    """Return what a YAML text says, and whether it is one."""
    try:
        return parse_document(text, path).value, True
    except DefinitionError:
        return None, False


def _list_bounded(path: Path, reading: Reading) -> list[Path]:
    """List a file or folder with all in it; not what nobody can have meant."""
    found: list[Path] = []
    for entry in list_tree(path) if path.is_dir() and not path.is_symlink() else [path]:
        if len(found) == MOST_OUTSIDE:
            reading.leave(f"a large folder outside of the project may be read: {path}")
            return []
        found.append(entry)
    return found


def _list_deep(value: Any) -> Iterator[str | Secret | UnsafeText | VaultText]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _list_deep(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _list_deep(item)
    elif isinstance(value, str | Secret | UnsafeText | VaultText):
        yield value
