"""The names of variables: known ones, the playbook's own, and those that are a known one mistyped."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from goldsmith.definition.variables import KNOWN

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
NAME_FORM = "letters, digits and _, not beginning with a digit"
OURS = frozenset(
    {
        "ansible_connection", "ansible_host", "ansible_port", "ansible_user",
        "ansible_ssh_host", "ansible_ssh_port", "ansible_ssh_user", "ansible_ssh_private_key_file",
        "ansible_private_key_file", "ansible_password", "ansible_ssh_pass", "ansible_strategy_plugins",
        "inventory_hostname",
    }
)  # fmt: skip
"""How the build guest is reached is goldsmith's to say: with another host here, the playbook would run elsewhere."""
RESERVED_WORDS = frozenset({*keyword.kwlist, "environment", "hostvars", "group_names", "groups", "omit", "vars"})
CLOSE = 0.8
"""How alike (difflib's ratio) a name must be to count as a known one mistyped."""
OTHER_WORDS = frozenset(
    {
        "template_dir", "template_email", "template_gid", "template_group", "template_home", "template_key",
        "template_port", "template_shell",
    }
)  # fmt: skip
"""Names that lie near a known one but mean something of their own."""


@dataclass(frozen=True)
class NameFault:
    """What is wrong with a name, and the known one that was probably meant."""

    message: str
    meant: str | None = None

    def __str__(self) -> str:
        return self.message + (f"; did you mean '{self.meant}'?" if self.meant else "")


def find_name_fault(name: str, value: Any) -> NameFault | None:
    """Return what is wrong with a name that is not known, or None where it is one of the playbook's own."""
    if not IDENTIFIER.match(name):
        return NameFault(f"'{name}' is no name of a variable", find_meant(re.sub(r"[-. ]", "_", name), value))
    if name in RESERVED_WORDS:
        return NameFault(f"'{name}' is a word of Ansible or Python and cannot name a variable")
    if name in OURS:
        return NameFault(f"'{name}' is set by goldsmith itself for the build guest")
    meant = find_meant(name, value)
    return NameFault(f"unknown variable '{name}'", meant) if meant else None


def find_meant(name: str, value: Any, known_names: Iterable[str] = KNOWN) -> str | None:
    """Return the known variable that a name was probably meant to be.

    Not meant are: a known name with words added (`apps_extra`, `git_email_2`, `my_apps`), a plural that holds a list
    where the known one holds none, a singular the other way round (`template_users`, `app`), and `OTHER_WORDS`.
    """
    small = name.lower()
    names = tuple(known_names)
    if small in names or small in OTHER_WORDS:
        return small if small in names else None
    near = get_close_matches(small, names, n=3, cutoff=CLOSE)
    return next((known for known in near if not _is_deliberate(small, known, value)), None)


def _is_deliberate(name: str, known: str, value: Any) -> bool:
    if name.startswith(f"{known}_") or name.endswith(f"_{known}"):
        return True
    if name not in _plurals(known) and known not in _plurals(name):
        return False
    return not isinstance(value, list) if known == "apps" else isinstance(value, list | dict)


def _plurals(word: str) -> tuple[str, ...]:
    return (f"{word}s", f"{word}es", f"{word.removesuffix('y')}ies")
