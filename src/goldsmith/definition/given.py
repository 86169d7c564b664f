"""What is given for an image, and where: its vars.yml, its vault.yml and the environment, in one mapping.

The environment wins over vault.yml, and that over vars.yml. Nothing is rendered or judged here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from goldsmith.base.errors import DefinitionError, Problem
from goldsmith.base.secrets import Secret
from goldsmith.definition.image import VARS_FILE, VAULT_FILE, Origin
from goldsmith.definition.source import Source, UnsafeText, VaultText, parse_source, read_text
from goldsmith.definition.variables import SECRETS
from goldsmith.definition.vault import NoPassword, Vault, VaultError, is_encrypted

SHORTEST_SECRET_NUMBER = 4
"""Digits. Shorter numbers of an encrypted file are no secrets: to mask every 22 would make all messages unreadable."""


@dataclass(frozen=True)
class Given:
    """A value as given: plain, with `UnsafeText` and (decrypted) `Secret` in it, which are no templates."""

    value: Any
    origin: Origin
    encrypted: bool = False
    """It must not be shown: it comes from an encrypted file or from the environment."""
    variable: str = ""
    """The environment variable that it comes from."""


@dataclass
class Collected:
    """Everything given, by name, and the mistakes found on the way."""

    values: dict[str, Given] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    """Names whose values could not be decrypted."""
    complete: bool = True
    """Whether every file could be read; otherwise nothing can be said to be missing."""


def collect_given(directory: Path, environment: Mapping[str, str], vault: Vault) -> Collected:
    """Read all that is given for the image in a folder. Mistakes are collected, never raised.

    A value that another one wins over is not decrypted: with both secrets in the environment, no password is needed.
    """
    collected = Collected()
    _add_file(collected, directory / VARS_FILE, vault)
    if (directory / VAULT_FILE).exists():
        _add_file(collected, directory / VAULT_FILE, vault)
    _add_environment(collected, environment, Origin(directory / VARS_FILE))
    _decrypt_values(collected, vault)
    return collected


def _add_file(collected: Collected, file: Path, vault: Vault) -> None:
    try:
        source, encrypted = _read_source(file, vault)
    except DefinitionError as error:
        collected.problems += error.problems
        collected.complete = False
        return
    for name, value in source.values.items():
        collected.values[name] = Given(value, Origin(file, source.line(name)), encrypted)


def _add_environment(collected: Collected, environment: Mapping[str, str], origin: Origin) -> None:
    for name in sorted(SECRETS):
        value = environment.get(name.upper(), "")
        if value:
            collected.values[name] = Given(UnsafeText(value), origin, encrypted=True, variable=name.upper())


def _decrypt_values(collected: Collected, vault: Vault) -> None:
    """Decrypt the `!vault` values; without a password that is one mistake of each file, shown at the first of them."""
    without_password: set[Path] = set()
    for name, given in list(collected.values.items()):
        try:
            collected.values[name] = replace(given, value=_decrypt(given.value, vault))
        except VaultError as error:
            del collected.values[name]
            collected.unreadable.add(name)
            file = given.origin.file
            if not isinstance(error, NoPassword) or file not in without_password:
                collected.problems.append(_vault_problem(file, given.origin.line, f"{name} ", error))
            if isinstance(error, NoPassword):
                without_password.add(file)


def _read_source(file: Path, vault: Vault) -> tuple[Source, bool]:
    """Read a file, decrypted where the whole of it is encrypted; tells whether it was."""
    text = read_text(file)
    if not is_encrypted(text):
        return parse_source(text, file), False
    try:
        plain = vault.decrypt(text)
    except VaultError as error:
        raise DefinitionError([_vault_problem(file, 1, "", error)]) from None
    try:
        return parse_source(plain, file), True
    except DefinitionError as error:  # a YAML error may quote what it stumbles over
        problems = [
            Problem(file, problem.line, "is not an Ansible vars file (line of the decrypted text)")
            for problem in error.problems
        ]
    raise DefinitionError(problems)


def _vault_problem(file: Path, line: int, what: str, error: VaultError) -> Problem:
    if isinstance(error, NoPassword):
        return Problem(file, line, f"{what}is encrypted with ansible-vault, and {error}", error.accepted)
    return Problem(file, line, f"{what}{error}", error.accepted)


def _decrypt(value: Any, vault: Vault) -> Any:
    if isinstance(value, VaultText):
        return Secret(vault.decrypt(value.text))
    if isinstance(value, list):
        return [_decrypt(item, vault) for item in value]
    if isinstance(value, dict):
        return {key: _decrypt(item, vault) for key, item in value.items()}
    return value


def find_texts(value: Any) -> list[str | UnsafeText | Secret]:
    """Return all texts in a value, of every kind, in order."""
    if isinstance(value, list):
        return [text for item in value for text in find_texts(item)]
    if isinstance(value, dict):
        return [text for item in value.values() for text in find_texts(item)]
    return [value] if isinstance(value, str | UnsafeText | Secret) else []


def render_for_ansible(given: Given) -> Any:
    """Return a value for the playbook: templates as they are, which Ansible renders, and secrets as `Secret`s.

    `!unsafe` text is put into a raw block, which Ansible renders to the text itself.
    """
    return _for_ansible(given.value, given.encrypted)


def _for_ansible(value: Any, encrypted: bool) -> Any:
    if isinstance(value, list):
        return [_for_ansible(item, encrypted) for item in value]
    if isinstance(value, dict):
        return {key: _for_ansible(item, encrypted) for key, item in value.items()}
    if isinstance(value, UnsafeText):
        value = f"{{% raw %}}{value.text}{{% endraw %}}" if is_template(value.text) else value.text
    if encrypted and _is_secret(value):
        return Secret(str(value))
    return value


def _is_secret(value: Any) -> bool:
    if isinstance(value, bool) or value is None or isinstance(value, Secret):
        return False
    return isinstance(value, str) or len(str(value)) >= SHORTEST_SECRET_NUMBER


def is_template(text: str) -> bool:
    """Tell whether Jinja would see more than text."""
    return any(mark in text for mark in ("{{", "{%", "{#"))
