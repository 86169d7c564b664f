"""Values encrypted by ansible-vault. The one door to Ansible's own vault library, imported only when something is.

The password comes from a file, or from a program that prints it, as with `ansible-playbook --vault-password-file`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.errors import ProgramError
from goldsmith.base.process import run
from goldsmith.base.secrets import Secret

HEADER = "$ANSIBLE_VAULT;"
PASSWORD_VARIABLE = "ANSIBLE_VAULT_PASSWORD_FILE"  # noqa: S105 - the name of a variable, not a password
PASSWORD_FORM = (
    f"the path of a file with the vault password, in the environment variable {PASSWORD_VARIABLE} or with "
    "--vault-password-file"
)


WRONG_PASSWORD = "cannot be decrypted: the vault password is a wrong one"  # noqa: S105 - a message
DAMAGED = "cannot be decrypted: it is not what ansible-vault writes"


class VaultError(Exception):
    """Something cannot be decrypted; says why, never what."""

    accepted = PASSWORD_FORM


class NoPassword(VaultError):
    """There is no vault password, or it cannot be had: nothing at all can be decrypted."""


class AnsibleUnusable(NoPassword):
    """Ansible itself refuses to start: it reads its ansible.cfg and makes ~/.ansible/tmp as soon as it is imported."""

    accepted = "a home directory and an ansible.cfg with which `ansible-vault view` works"


@dataclass(frozen=True)
class PasswordSource:
    """Where the vault password comes from. `environment` is what a password program gets to see."""

    file: Path | None
    environment: Mapping[str, str]

    def read(self) -> Secret:
        """Return the password: the file's content, or what it prints where it is executable, without white space.

        :raises NoPassword: there is none, or it cannot be had; says why.
        """
        if self.file is None:
            raise NoPassword("no vault password is given")
        try:
            executable = self.file.is_file() and os.access(self.file, os.X_OK)
            text = self._ask(self.file) if executable else self.file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise NoPassword(f"the vault password file {self.file} cannot be read: {reason}") from error
        if not text.strip():
            raise NoPassword(f"the vault password file {self.file} gives no password")
        return Secret(text.strip())

    def _ask(self, program: Path) -> str:
        """Run a password program as Ansible does: one whose name ends in `-client` is told which id is wanted."""
        client = ["--vault-id", "default"] if program.stem.endswith("-client") else []
        try:
            done = run([program.absolute(), *client], env=self.environment, timeout=120, check=False)
        except ProgramError as error:
            raise NoPassword(f"the vault password program {program}: {error.message}") from None
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise NoPassword(f"the vault password program {program} ended with code {done.returncode}: {said}")
        return done.stdout


def is_encrypted(text: str) -> bool:
    """Tell whether a whole file is encrypted."""
    return text.startswith(HEADER)


class Vault:
    """Decrypts texts with one password, which is asked for once, when the first text needs it."""

    def __init__(self, source: PasswordSource) -> None:
        self._source = source
        self._password: Secret | None = None
        self._failure: NoPassword | None = None

    def decrypt(self, text: str) -> str:
        """Return the text that was encrypted.

        :raises NoPassword: there is no password; the same error for every text.
        :raises VaultError: the password is a wrong one, or the text is damaged or holds no text.
        """
        password = self._get_password()
        plain = _decrypt(text, password)
        try:
            return plain.decode()
        except UnicodeDecodeError:
            raise VaultError("what is encrypted is not UTF-8 text") from None

    def _get_password(self) -> Secret:
        if self._failure is not None:
            raise self._failure
        if self._password is None:
            try:
                self._password = self._source.read()
            except NoPassword as failure:
                self._failure = failure
                raise
        return self._password


def _decrypt(text: str, password: Secret) -> bytes:
    from ansible.errors import AnsibleError  # type: ignore[import-untyped]  # here: 0.2 s that few images need

    try:
        from ansible.parsing.vault import VaultLib, VaultSecret  # type: ignore[import-untyped]
    except AnsibleError as error:
        raise AnsibleUnusable(f"Ansible cannot start: {' '.join(str(error).split())}") from error
    library = VaultLib([("default", VaultSecret(password.reveal().encode()))])
    lines = "\n".join(line.strip() for line in text.strip().splitlines())
    try:
        plain: bytes = library.decrypt(lines.encode())
    except AnsibleError as error:
        wrong = "Decryption failed" in str(error)
        raise VaultError(WRONG_PASSWORD if wrong else DAMAGED) from None
    return plain
