"""YAML with the line of every key: for errors about a user's file. Understands Ansible's `!vault` and `!unsafe`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from goldsmith.base.errors import DefinitionError, Problem


@dataclass(frozen=True)
class VaultText:
    """A value encrypted by ansible-vault (the `!vault` tag), not yet decrypted."""

    text: str


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
    return parse_source(_read(file), file)


def parse_source(text: str, file: Path) -> Source:
    """Read YAML text as `load_source` does; `file` is what errors name."""
    document = _parse(text, file)
    if document is None:
        return Source(file, {})
    if not isinstance(document, CommentedMap):
        raise DefinitionError([Problem(file, 1, "is not a list of `name: value` lines", "an Ansible vars file")])
    names = {key: _line_of(document, key) for key in document}
    wrong = [Problem(file, line, f"the name {key!r} is no text") for key, line in names.items() if not _is_text(key)]
    if wrong:
        raise DefinitionError(wrong)
    return Source(file, {str(key): to_plain(value) for key, value in document.items()}, names)


def load_document(file: Path) -> Any:
    """Read any YAML file into plain values.

    :raises DefinitionError: it cannot be read or is no YAML.
    """
    return to_plain(_parse(_read(file), file))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DefinitionError([Problem(file, 0, "does not exist")]) from error
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise DefinitionError([Problem(file, line, "is not UTF-8 text")]) from error
    except OSError as error:
        raise DefinitionError([Problem(file, 0, f"cannot be read: {error.strerror}")]) from error


def _parse(text: str, file: Path) -> Any:
    try:
        return YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        mark = error.problem_mark
        said = str(error.problem).splitlines()[0]
        raise DefinitionError([Problem(file, mark.line + 1 if mark else 0, said, "each name once")]) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part).strip() for part in (error.context, error.problem) if part)
        raise DefinitionError([Problem(file, mark.line + 1 if mark else 0, f"is not YAML: {said}")]) from error
    except YAMLError as error:
        raise DefinitionError([Problem(file, 0, f"is not YAML: {error}")]) from error


def _line_of(mapping: CommentedMap, key: Any) -> int:
    return int(mapping.lc.key(key)[0]) + 1


def _is_text(key: Any) -> bool:
    return isinstance(key, str)


def to_plain(value: Any) -> Any:
    """Turn ruamel's annotated values into plain ones; `!vault` becomes `VaultText`, other tags keep their scalar."""
    if isinstance(value, CommentedMap):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, CommentedSeq):
        return [to_plain(item) for item in value]
    if isinstance(value, TaggedScalar):
        text = str(value.value)
        return VaultText(text) if value.tag.value == "!vault" else text
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value
