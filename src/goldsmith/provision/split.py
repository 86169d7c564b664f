"""A playbook is divided in two where that is safe: the packages that it installs first, and everything else.

Installing is what takes long and changes seldom; so who changes the rest need not wait for it. Safe means that nothing
of the first part reaches the second but by the guest: no registered variables, handlers, roles, or imported playbooks,
and no facts that only the first part gathers. In each part the other's lines are empty, so that what Ansible says of a
line is true of the user's file. Both parts are read again, and compared with the whole: else it is not divided.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goldsmith.base.errors import DefinitionError
from goldsmith.definition.source import Document, Place, parse_document, read_text

INSTALLING = frozenset({"apt", "package", "dnf", "yum", "apk", "apt_repository", "apt_key", "deb822_repository", "pip"})
"""Modules whose work is packages."""
PLAY_KEYS = frozenset(
    {
        "name", "hosts", "become", "become_user", "become_method", "gather_facts", "vars", "vars_files", "environment",
        "any_errors_fatal", "strategy", "tags", "tasks", "module_defaults",
    }
)  # fmt: skip
TASK_KEYS = frozenset(
    {
        "name", "become", "become_user", "when", "loop", "with_items", "vars", "environment", "retries", "delay",
        "tags", "changed_when", "failed_when", "args",
    }
)  # fmt: skip
"""What a task of the first part may have: nothing that is heard of later."""
EVERYONE = ("all", "*")
ODD_BREAKS = re.compile(r"[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""Line breaks about which YAML and Python differ."""
BOUND = re.compile(r"\b(playbook_dir|ansible_play_\w+|ansible_run_tags|ansible_skip_tags)\b")
"""What tells a part from the whole."""


def split_playbook(file: Path) -> tuple[str, ...]:
    """Return the two parts of a playbook as texts, or one where it is not divided.

    :raises DefinitionError: the file cannot be read, or is no UTF-8.
    """
    text = read_text(file)
    try:
        document = parse_document(text, file)
    except DefinitionError:
        return (text,)  # Ansible says what is wrong with it
    count = _count_installing(document, text)
    if not count:
        return (text,)
    parts = _divide(document, text, count)
    return parts if _is_the_whole(document, parts, count) else (text,)


def _count_installing(document: Document, text: str) -> int:
    """Return how many tasks at the beginning only install packages; 0 where a division would not be safe."""
    plays = document.value
    if not isinstance(plays, list) or not plays or BOUND.search(text) or ODD_BREAKS.search(text):
        return 0
    if any(not isinstance(play, Mapping) or "hosts" not in play for play in plays):
        return 0
    first, *later = plays
    tasks = first.get("tasks")
    if not set(first) <= PLAY_KEYS or first["hosts"] not in EVERYONE or not isinstance(tasks, list):
        return 0
    count = next((number for number, task in enumerate(tasks) if not _is_installing(task, document.file)), len(tasks))
    return count if count < len(tasks) or (later and _begins_alike(first, later[0])) else 0


def _begins_alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Tell whether a play that is a part's first then knows all facts that it knew as the whole's second."""
    if second["hosts"] not in EVERYONE or {"gather_subset", "fact_path"} & set(second):
        return False
    wanted, has = first.get("gather_facts"), second.get("gather_facts")
    return wanted is False or has is True or (wanted is None and "gather_facts" not in second)


def _is_installing(task: Any, file: Path) -> bool:
    if not isinstance(task, Mapping):
        return False
    modules = [str(key).removeprefix("ansible.builtin.") for key in task if key not in TASK_KEYS]
    return len(modules) == 1 and modules[0] in INSTALLING and not _is_replaced(modules[0], file)


def _is_replaced(module: str, file: Path) -> bool:
    """Tell whether the user has a module of his own of that name."""
    return any((file.parent / folder / f"{module}.py").exists() for folder in ("library", "action_plugins"))


def _is_the_whole(document: Document, parts: tuple[str, ...], count: int) -> bool:
    """Tell whether two parts say together what the whole says, at the same lines."""
    try:
        read = [parse_document(part, document.file) for part in parts]
    except DefinitionError:
        return False
    first, *later = document.value
    installs, rest = first["tasks"][:count], first["tasks"][count:]
    wanted = [[{**first, "tasks": installs}], [{**first, "tasks": rest}, *later] if rest else later]
    moved = [(0, count) if rest else (1, 0), (0, 0)]  # plays and tasks by which the second part counts less
    return [part.value for part in read] == wanted and all(
        document.lines.get(_find_place(place, *by)) == line
        for part, by in zip(read, reversed(moved), strict=True)
        for place, line in part.lines.items()
    )


def _find_place(place: Place, plays: int, tasks: int) -> Place:
    """Return where in the whole something of a part stands."""
    match place:
        case (0, "tasks", int(number), *deeper):
            return (plays, "tasks", number + tasks, *deeper)
        case (int(number), *deeper):
            return (number + plays, *deeper)
    return place


def _divide(document: Document, text: str, count: int) -> tuple[str, ...]:
    lines, tasks = text.split("\n"), document.value[0]["tasks"]
    starts = [_find_dash(lines, document.lines.get((0, "tasks", number), 0)) for number in range(len(tasks))]
    if 0 in starts or len(set(starts)) < len(starts) or not _is_block(lines, starts):
        return (text,)
    play_end = _find_play_end(document, lines)
    tasks_end = _find_tasks_end(document, play_end)
    later_plays = range(play_end, len(lines) + 1)
    if count == len(tasks):
        return _blank(lines, later_plays), _blank(lines, range(1, play_end))
    installing, others = range(starts[0], starts[count]), range(starts[count], tasks_end)
    return _blank(lines, others, later_plays), _blank(lines, installing)


def _find_dash(lines: Sequence[str], line: int) -> int:
    """Return the line of a list item's dash, which may stand above its first key; 0 where there is none."""
    while 0 < line <= len(lines) and not lines[line - 1].lstrip().startswith("-"):
        line -= 1
    return max(line, 0)


def _find_play_end(document: Document, lines: Sequence[str]) -> int:
    """Return the line after the first play."""
    return _find_dash(lines, document.lines[(1,)]) if len(document.value) > 1 else len(lines) + 1


def _find_tasks_end(document: Document, play_end: int) -> int:
    """Return the line after the last task of the first play: where its next key stands, or the next play."""
    begin = document.lines[(0, "tasks")]
    return min([play_end, *(line for key in document.value[0] if (line := document.lines[(0, key)]) > begin)])


def _is_block(lines: Sequence[str], starts: Sequence[int]) -> bool:
    """Tell whether each item begins its own line, at one indentation."""
    return len({len(lines[start - 1]) - len(lines[start - 1].lstrip()) for start in starts}) == 1


def _blank(lines: Sequence[str], *ranges: range) -> str:
    return "".join("\n" if any(n in part for part in ranges) else f"{line}\n" for n, line in enumerate(lines, 1))
