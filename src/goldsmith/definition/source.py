"""YAML exactly as Ansible reads it, with the line of every key: for errors about a user's file. The one door to PyYAML.

Ansible reads YAML 1.1 with PyYAML: `yes` is a truth value, `0755` is 493, `12:30` is 750. A reader of another YAML
version would give the playbook other values than Ansible itself does. Ansible's tags `!vault` and `!unsafe` are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from goldsmith.base.errors import DefinitionError, Problem

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
Place = tuple[str | int, ...]
"""Where a value stands: the keys and indices that lead to it."""


@dataclass(frozen=True)
class VaultText:
    """A value encrypted by ansible-vault (the `!vault` tag), not yet decrypted."""

    text: str


@dataclass(frozen=True)
class UnsafeText:
    """Text that is no template, whatever it looks like (Ansible's `!unsafe` tag)."""

    text: str


@dataclass(frozen=True)
class Document:
    """Any YAML file: plain values (see `load_document`) and the line (from 1) of each mapping key and list item."""

    file: Path
    value: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def problem(self, place: Place, message: str, accepted: str = "") -> Problem:
        """Return a mistake at a place."""
        return Problem(self.file, self.lines.get(place, 0), message, accepted)


@dataclass(frozen=True)
class Source:
    """A mapping read from a YAML file: plain values, and the line (from 1) of each top-level key."""

    file: Path
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)

    def line(self, key: str) -> int:
        """Return the line of a key; 0 where it does not stand in the file (it has its default)."""
        return self.lines.get(key, 0)

    def problem(self, key: str, message: str, accepted: str = "") -> Problem:
        """Return a mistake in the value of a key."""
        return Problem(self.file, self.line(key), message, accepted)


def load_source(file: Path) -> Source:
    """Read a YAML file whose top level is a mapping (an empty file is an empty mapping).

    :raises DefinitionError: the file cannot be read, is no YAML, or is no mapping; with the line.
    """
    return parse_source(read_text(file), file)


def parse_source(text: str, file: Path) -> Source:
    """Read YAML text as `load_source` does; `file` is what errors name."""
    document = parse_document(text, file)
    if document.value is None:
        return Source(file, {})
    if not isinstance(document.value, dict):
        raise DefinitionError([Problem(file, 1, "is not a list of `name: value` lines", "an Ansible vars file")])
    lines = {str(place[0]): line for place, line in document.lines.items() if len(place) == 1}
    return Source(file, document.value, lines)


def load_document(file: Path) -> Document:
    """Read any YAML file into dict, list, str, int, float, bool, None, `VaultText` and `UnsafeText`.

    Dates stay the text that they are written as; keys become text.

    :raises DefinitionError: it cannot be read, is no YAML, or holds what has no such form; every value at once.
    """
    return parse_document(read_text(file), file)


def parse_document(text: str, file: Path) -> Document:
    """Read YAML text as `load_document` does; `file` is what errors name."""
    node = _compose(text, file)
    builder = _Builder(file)
    value = None if node is None else builder.build(node, ())
    if builder.problems:
        raise DefinitionError(builder.problems)
    return Document(file, value, builder.lines)


def read_text(file: Path) -> str:
    """Read a file of UTF-8 text.

    :raises DefinitionError: it does not exist, cannot be read, or is no UTF-8; with the line.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DefinitionError([Problem(file, 0, "does not exist")]) from error
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise DefinitionError([Problem(file, line, "is not UTF-8 text")]) from error
    except OSError as error:
        raise DefinitionError([Problem(file, 0, f"cannot be read: {error.strerror}")]) from error


def _compose(text: str, file: Path) -> Any:
    """Return the tree of nodes. Nothing of the text reaches the error's cause: it may be decrypted."""
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part).strip() for part in (error.context, error.problem) if part)
        problem = Problem(file, mark.line + 1 if mark else 0, f"is not YAML: {said}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position if isinstance(error.position, int) else 0) + 1
        problem = Problem(file, line, f"is not YAML: {error.reason}")
    except RecursionError:
        problem = Problem(file, 0, "is nested too deeply")
    raise DefinitionError([problem])


class _Unusable(Exception):
    """A value that has no plain form; says why."""


class _Builder:
    """Turns nodes into plain values; remembers the line of each key, and every mistake, by the way."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []
        self._scalars = yaml.constructor.SafeConstructor()
        self._open: set[int] = set()
        self._checked: set[int] = set()

    def build(self, node: Any, place: Place, unsafe: bool = False) -> Any:
        """Return the plain value of a node; a mistake becomes a problem and gives None."""
        if id(node) in self._open:
            return self._refuse(node, "holds itself (an alias inside its own anchor)")
        self._open.add(id(node))
        try:
            return self._build(node, place, unsafe or node.tag == "!unsafe")
        except _Unusable as unusable:
            return self._refuse(node, str(unusable))
        finally:
            self._open.remove(id(node))

    def _refuse(self, node: Any, message: str) -> None:
        self.problems.append(Problem(self.file, _line(node), message))

    def _build(self, node: Any, place: Place, unsafe: bool) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, unsafe)
        known = (_TAG + "map", _TAG + "seq", "!unsafe")
        if node.tag not in known:
            raise _Unusable(f"the tag {_name(node.tag)} is not known here")
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*place, index)] = _line(item)
            return [self.build(item, (*place, index), unsafe) for index, item in enumerate(node.value)]
        return {key: self.build(item, (*place, key), unsafe) for key, item in self._items(node, place)}

    def _items(self, node: Any, place: Place) -> Iterator[tuple[str, Any]]:
        if id(node) not in self._checked:  # an anchor is met again at each of its aliases, then merged already
            self._check_once(node)
            self._merge(node)
        for key_node, item in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or (not place and key_node.tag != _TAG + "str"):
                self._refuse(key_node, f"the name {key_node.value!r} is no text")
                continue
            key = str(self._scalar(key_node, unsafe=False))
            self.lines[(*place, key)] = _line(key_node)
            yield key, item

    def _check_once(self, node: Any) -> None:
        """Refuse a key written twice; one that is merged in (`<<`) may be written again."""
        self._checked.add(id(node))
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen and key_node.tag != _TAG + "merge":
                self._refuse(key_node, f"{key!r} was given on line {seen[key]} already")
            seen[key] = _line(key_node)

    def _merge(self, node: Any) -> None:
        try:
            self._scalars.flatten_mapping(node)
        except (yaml.MarkedYAMLError, RecursionError) as error:
            raise _Unusable("`<<` merges something that is no mapping") from error

    def _scalar(self, node: Any, unsafe: bool) -> Any:
        text = str(node.value)
        if node.tag in ("!vault", "!vault-encrypted"):
            return VaultText(text)
        if unsafe and node.tag in ("!unsafe", _TAG + "str"):
            return UnsafeText(text)
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "value"):
            return text
        if kind not in ("null", "bool", "int", "float"):
            raise _Unusable(f"the tag {_name(node.tag)} is not known here")
        return self._number(node, kind)

    def _number(self, node: Any, kind: str) -> Any:
        try:
            value = self._scalars.construct_object(node)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise _Unusable(f"{node.value!r} is no {kind}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise _Unusable(f"{node.value!r} is not a finite number")
        return value


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _name(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
