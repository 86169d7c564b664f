"""What one stage of a provisioning can read on this machine: files and variables; and whether it reads anything else.

A stage's result may be used again only when nothing of it has changed, so in doubt more is counted, never less: a name
that occurs in a text counts as used; where a name is put together while the playbook runs, everything counts; and what
reads past files and variables (the network, this machine's own programs) is not to be used again at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldsmith.base.errors import DefinitionError
from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText, VaultText, parse_document
from goldsmith.provision.content import describe_requirements, list_content
from goldsmith.provision.play import Play

ALWAYS = re.compile(
    r"(^|/)(ansible\.cfg$|group_vars|host_vars|library|module_utils|\w+_plugins|plugins|collections)(/|$)"
)
"""What Ansible takes by itself, whatever a playbook says."""
GENERIC = frozenset({"tasks", "handlers", "vars", "defaults", "meta", "files", "templates", "roles", "images", "."})
"""Folders whose names are words of every playbook: they count where they stand as a path of their own."""
PATH_KEY = re.compile(
    r"(^|_)(src|source|sources|file|files|template|templates|script|playbook|path_on_controller|include|role|roles|dir"
    r"|include_tasks|import_tasks|include_role|import_role|include_vars|vars_files|import_playbook|copy|unarchive|assemble"
    r"|tasks_from|vars_from|defaults_from|handlers_from|fileglob|first_found|filetree|local_path)$"
)
"""Keys whose value, where it is text or a list of texts, may be a path on this machine."""
COMPOSED = re.compile(r"\{\{|\{%|[*?\[]")
"""What makes a path that nobody can know beforehand: a template, or a pattern."""
JINJA_INCLUDE = re.compile(
    r"\{%-?\s*(?:include|import|extends|from)\s+(?!['\"][^'\"]*['\"]\s*(?:%|-%|import|ignore|with))"
)
LOOKUP = re.compile(r"\b(?:lookup|query|q)\s*\(\s*(?:(['\"])([\w.]+)\1)?\s*,?\s*([^)]*)")
LITERAL = re.compile(r"""\s*(['"])[^'"{}]*\1\s*(,|$)""")
ALL_VARIABLES = re.compile(r"\bhostvars\b|\bvars\b(?!\s*:|/|\w|\.ya?ml\b)|\bvarnames\b")
WORD = re.compile(r"[A-Za-z_]\w*")
LOOPS = frozenset(
    {
        "items", "dict", "list", "sequence", "nested", "together", "subelements", "indexed_items", "flattened",
        "cartesian", "vars", "varnames", "config",
    }
)  # fmt: skip
"""Lookups of values that are there already."""
FILES = frozenset({"file", "template", "fileglob", "first_found", "ini", "csvfile", "unvault", "filetree"})
"""Lookups of files on this machine."""
ELSEWHERE = frozenset({"delegate_to", "local_action"})
LARGEST_TEXT = 4 << 20


@dataclass
class Inputs:
    """What a stage can read."""

    files: dict[str, Path] = field(default_factory=dict)
    """By the path seen from the project."""
    variables: dict[str, Any] = field(default_factory=dict)
    requirements: Any = None
    whole: str = ""
    """Why everything counts; empty where only what is named does."""
    outside: str = ""
    """What it reads that is neither file nor variable: it must run each time."""


def find_inputs(play: Play) -> Inputs:
    """Return what a play can read.

    :param play: with `text`, that counts in place of its playbook.
    """
    content = list_content(play)
    playbook = os.path.relpath(play.playbook, play.project)
    content.pop(playbook, None)  # what is run of it is the stage's own text, which the caller counts
    search = _Search(play, content)
    search.read(play.read_text(), is_yaml=True)
    search.follow()
    inputs = search.inputs
    inputs.requirements = describe_requirements(play)
    return inputs


class _Search:
    """Follows names from text to text until nothing new is named."""

    def __init__(self, play: Play, content: Mapping[str, Path]) -> None:
        self.play, self.content = play, content
        self.inputs = Inputs()
        self.text = ""
        self.all_variables = ""

    def read(self, text: str, *, is_yaml: bool) -> None:
        """Take a text into account; of YAML what it says, not its comments."""
        if is_yaml:
            try:
                value = parse_document(text, self.play.playbook).value
            except DefinitionError:  # encrypted, or a template: nobody knows what it names
                self._count_all("a file cannot be read as YAML")
                self.all_variables = self.all_variables or "an unreadable file"
            else:
                self._judge_yaml(value)
                text = "\n".join(_flatten(value))
        self.text += f"\n{text}"
        self._judge_text(text)

    def follow(self) -> None:
        """Add what is named, and what is named there, until nothing is added."""
        while True:
            before = (len(self.inputs.files), len(self.inputs.variables))
            self._add_files()
            self._add_variables()
            if (len(self.inputs.files), len(self.inputs.variables)) == before:
                return

    def _judge_text(self, text: str) -> None:
        if found := JINJA_INCLUDE.search(text):
            self._count_all(f"a template includes what only it knows: {_shorten(text, found.start())}")
        if found := ALL_VARIABLES.search(text):
            self.all_variables = self.all_variables or found[0]
        for found in LOOKUP.finditer(text):
            self._judge_lookup(found[2] or "", found[3], _shorten(text, found.start()))

    def _judge_lookup(self, name: str, argument: str, shown: str) -> None:
        kind = name.rpartition(".")[2]
        if kind in LOOPS:
            self.all_variables = self.all_variables or ("lookup" if kind in ("vars", "varnames") else "")
        elif kind in FILES:
            if not LITERAL.match(argument):
                self._count_all(f"a path is put together: {shown}")
        else:
            self.inputs.outside = self.inputs.outside or f"it reads more than files and variables: {shown}"

    def _judge_yaml(self, value: Any) -> None:
        for key, item in _walk(value):
            self._judge_pair(key, item)
            if isinstance(item, VaultText):
                self.all_variables = self.all_variables or "an encrypted value"

    def _judge_pair(self, key: str, item: Any) -> None:
        name = key.rpartition(".")[2]
        if name in ELSEWHERE or (name == "connection" and item == "local"):
            self.inputs.outside = self.inputs.outside or f"a task runs on this machine ({key})"
        if name.startswith("with_"):
            self._judge_loop(name.removeprefix("with_"), key)
        if PATH_KEY.search(name):
            for text in _list_texts(item):
                self._judge_path(key, text)

    def _judge_loop(self, kind: str, key: str) -> None:
        if kind not in LOOPS | FILES:
            self.inputs.outside = self.inputs.outside or f"it reads more than files and variables: {key}"

    def _judge_path(self, key: str, text: str) -> None:
        if COMPOSED.search(text):
            self._count_all(f"a path is put together: {key}: {_shorten(text)}")
        elif not text.strip("./ "):
            self._count_all(f"a whole folder is named: {key}: {text}")
        elif text.startswith(("/", "~")) and (path := Path(text).expanduser()).exists():
            self.inputs.files |= {str(found): found for found in _list_tree(path)}

    def _count_all(self, why: str) -> None:
        self.inputs.whole = self.inputs.whole or why

    def _add_files(self) -> None:
        fresh = [name for name in self.content if name not in self.inputs.files and self._is_named(name)]
        for name in fresh:
            path = self.content[name]
            self.inputs.files[name] = path
            if path.is_file() and path.stat().st_size <= LARGEST_TEXT:
                data = path.read_bytes()
                is_text = b"\0" not in data[:8192]
                is_yaml = path.suffix in (".yml", ".yaml") and not path.match("files/*")
                self.read(data.decode(errors="replace") if is_text else "", is_yaml=is_text and is_yaml)

    def _is_named(self, name: str) -> bool:
        if self.inputs.whole or ALWAYS.search(name):
            return True
        parts = Path(name).parts
        return parts[-1] in self.text or any(self._names_folder(part) for part in parts[:-1])

    def _names_folder(self, name: str) -> bool:
        quoted = re.escape(name)
        if name in GENERIC or name == "..":
            return re.search(rf"[:=\s'\"/]{quoted}/?['\"]?\s*($|[,\]\n])", self.text) is not None
        return re.search(rf"(?<![\w-]){quoted}(?![\w-])", self.text) is not None

    def _add_variables(self) -> None:
        words = set(WORD.findall(self.text))
        for name, value in self.play.variables.items():
            named = self.all_variables or name in words or name.startswith("ansible_")
            if named and name not in self.inputs.variables:
                self.inputs.variables[name] = value
                for text in _list_texts_deep(value):
                    self.read(text, is_yaml=False)
                    if "{{" in text:
                        words |= set(WORD.findall(text))


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from _walk(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item)


def _flatten(value: Any) -> Iterator[str]:
    """Yield every key and every value as a line."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{key}:"
            yield from _flatten(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _flatten(item)
    elif isinstance(value, UnsafeText | VaultText):
        yield value.text
    else:
        yield str(value)


def _list_texts(item: Any) -> Iterator[str]:
    """Yield a text, or the texts of a list; what is in mappings has keys of its own."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _list_texts(part)


def _list_texts_deep(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _list_texts_deep(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _list_texts_deep(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, UnsafeText | VaultText):
        yield value.text


def _list_tree(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for directory, folders, files in os.walk(path):
            yield from (Path(directory, name) for name in [*folders, *files])


def _shorten(text: str, start: int = 0, longest: int = 60) -> str:
    line = text[start:].split("\n", 1)[0].strip()
    return line if len(line) <= longest else line[: longest - 3] + "..."
