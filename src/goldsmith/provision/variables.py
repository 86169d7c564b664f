"""The variables of a play as Ansible reads them: a YAML file of mode 0600, never an argument.

They are given as extra variables (`-e @file`), which win over everything that a playbook or a role sets itself. That
is what somebody expects of `vars.yml`, who calls `ansible-playbook -e @vars.yml` by hand; in `group_vars/all` of our
inventory, a `vars:` in the playbook would silently win over them.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from goldsmith.base.errors import ProvisionError
from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText, VaultText

OURS = re.compile(
    r"ansible_(connection|host|port|user|password|private_key(_\w+)?|control_path(_dir)?|host_key_checking"
    r"|(ssh|paramiko|scp|sftp|sshpass)_\w+)\Z"
)
"""Variables that say how a host is reached. The build guest's are ours: extra variables would win over them, also for
`delegate_to: localhost`."""
SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


def split_variables(variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the variables that go to Ansible, and the names of those that do not because they are ours."""
    given = {name: value for name, value in variables.items() if not OURS.match(name)}
    return given, sorted(set(variables) - set(given))


def render_variables(variables: Mapping[str, Any]) -> str:
    """Render a YAML mapping for `-e @file`, secrets in clear.

    A `Secret` is `!unsafe`: whatever is in a password, Ansible takes it as it is. Other texts may hold Jinja.

    :raises ProvisionError: a value is of a type that YAML does not know.
    """
    lines = [f"{_render_text(name)}: {_render(value, name)}\n" for name, value in variables.items()]
    return "---\n" + ("".join(lines) or "{}\n")


def _render(value: Any, name: str) -> str:
    match value:
        case Secret():
            return f"!unsafe {_render_text(value.reveal())}"
        case UnsafeText():
            return f"!unsafe {_render_text(value.text)}"
        case VaultText():  # Ansible decrypts it, if it comes to be used
            return f"!vault {_render_text(value.text)}"
        case None | bool() | int():
            return json.dumps(value)
        case float():
            return json.dumps(value) if math.isfinite(value) else _render_special(value)
        case str() | PurePath():
            return _render_text(str(value))
        case datetime.date():  # a datetime is one too; YAML's own form gives it back as what it was
            return value.isoformat()
        case Mapping():
            pairs = [f"{_render_text(str(key))}: {_render(item, name)}" for key, item in value.items()]
            return "{" + ", ".join(pairs) + "}"
        case list() | tuple() | set() | frozenset():
            return "[" + ", ".join(_render(item, name) for item in value) + "]"
    raise ProvisionError(f"the variable {name} holds a {type(value).__name__}, which Ansible cannot be given")


def _render_special(value: float) -> str:
    return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")


def _render_text(text: str) -> str:
    r"""Render a double-quoted scalar: JSON's is YAML's, except that a character beyond U+FFFF is one `\U` escape."""
    return SURROGATES.sub(_join_surrogates, json.dumps(text))


def _join_surrogates(found: re.Match[str]) -> str:
    character = json.loads(f'"{found[0]}"')
    return f"\\U{ord(character):08x}"
