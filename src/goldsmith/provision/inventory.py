"""Any inventory that Ansible understands, as Ansible reads it: files, folders, plugins, group_vars and host_vars."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.errors import DefinitionError, Problem, ProgramTimedOut, ProvisionError
from goldsmith.base.process import Argument, run
from goldsmith.provision.syntax import MESSAGE, ORIGIN

TIMEOUT = 120.0
NO_GROUPS = frozenset({"all", "ungrouped"})
"""Groups that say nothing about a host."""


@dataclass(frozen=True)
class Host:
    """A host, with the variables of its groups merged in by Ansible's precedence; templates are not rendered."""

    name: str
    variables: Mapping[str, Any]
    groups: tuple[str, ...]


def read_inventory(inventory: Path, project: Path, vault_password_file: Path | None = None) -> list[Host]:
    """Let Ansible read an inventory; hosts in its order. Takes half a second.

    :param inventory: a file or a folder.
    :param project: group_vars, ansible.cfg and plugins beside it count, as they do for a playbook there.
    :raises DefinitionError: Ansible refuses it, or part of it.
    :raises ProvisionError: Ansible does not come to an end.
    """
    argv: list[Argument] = [sys.executable, "-P", "-m", "ansible", "inventory", "-i", inventory, "--list"]
    if vault_password_file is not None:
        argv += ["--vault-password-file", vault_password_file]
    # a file that cannot be read is a warning to Ansible, and its hosts would silently be none
    environment = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true", "ANSIBLE_NOCOLOR": "true", "LC_ALL": "C.UTF-8"}
    try:
        done = run(argv, env=environment, cwd=project, timeout=TIMEOUT, check=False)
    except ProgramTimedOut as error:
        raise ProvisionError(f"Ansible did not finish reading {inventory}", detail=error.detail) from error
    if done.returncode != 0:
        raise DefinitionError([_find_problem(inventory, done.stderr + done.stdout)])
    return parse_inventory(json.loads(done.stdout))


def parse_inventory(listed: Mapping[str, Any]) -> list[Host]:
    """Parse the answer of `ansible-inventory --list`."""
    variables: Mapping[str, Any] = listed.get("_meta", {}).get("hostvars", {})
    groups = {name: group for name, group in listed.items() if name != "_meta"}
    found: dict[str, list[str]] = {}
    for name in groups:
        for host in _list_hosts(name, groups, frozenset()):
            found.setdefault(host, []).append(name)
    return [Host(host, variables.get(host, {}), tuple(sorted(set(names) - NO_GROUPS))) for host, names in found.items()]


def _list_hosts(group: str, groups: Mapping[str, Any], above: frozenset[str]) -> list[str]:
    """Return the hosts of a group and of those below it."""
    known = groups.get(group, {})
    below = [child for child in known.get("children", []) if child not in above]
    listed = [*known.get("hosts", [])]
    return [*listed, *(host for child in below for host in _list_hosts(child, groups, above | {group}))]


def _find_problem(inventory: Path, output: str) -> Problem:
    messages = [" ".join(found["message"].split()) for found in MESSAGE.finditer(output)]
    message = messages[-1] if messages else (output.strip().splitlines() or ["Ansible refuses it without a word"])[-1]
    place = ORIGIN.search(output)
    return Problem(Path(place["file"]), int(place["line"]), message) if place else Problem(inventory, 0, message)
