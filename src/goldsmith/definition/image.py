"""An image: what a folder under `images/` describes. A folder with a `vars.yml` is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from goldsmith.base.errors import Problem
from goldsmith.base.secrets import Secret, find_secrets
from goldsmith.definition.bases import Base, LocalFile, parse_base
from goldsmith.definition.values import REGISTRY
from goldsmith.definition.variables import Variables

VARS_FILE = "vars.yml"
VAULT_FILE = "vault.yml"
PLAYBOOK_FILE = "playbook.yml"
POOL = range(900, 1000)
"""The vmids of temporary guests, where an image says nothing else."""
REPOSITORY, SIGNERS_FILE = "repository", "allowed_signers"
"""Beside `images/`, where vars.yml names no others."""


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a file, and the line from 1 (0: the file as a whole, or the environment)."""

    file: Path
    line: int = 0


@dataclass(frozen=True)
class Image:
    """What the user wrote about one image, complete and checked. Paths are absolute."""

    name: str
    """`template_name`, or the folder's name: names versions and templates."""
    directory: Path
    project: Path
    """The folder that holds `images/` (or, for a folder elsewhere, the one it lies in)."""
    variables: Variables
    """The known variables, with secrets from the environment and the vault filled in."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """All other variables, for the playbook: plain values, unrendered Jinja; decrypted vault values are `Secret`s."""
    ssh_key: str | None = None
    """The public key line that may log in to the new account; None where none is named and the user has none."""
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)
    """Where each variable was written, for errors that are found later; a default has no origin."""

    def problem(self, name: str, message: str, accepted: str = "") -> Problem:
        """Return a mistake in a variable, at the line where it was written."""
        origin = self.origins.get(name, Origin(self.vars_file))
        return Problem(origin.file, origin.line, message, accepted)

    @property
    def playbook(self) -> Path:
        """The image's playbook."""
        return self.directory / PLAYBOOK_FILE

    @property
    def vars_file(self) -> Path:
        """The image's variables as written."""
        return self.directory / VARS_FILE

    @property
    def repository(self) -> str:
        """Where its versions are stored: an absolute path, or `oci://host/path`."""
        named = self.variables.repository or REPOSITORY
        return named if named.startswith(REGISTRY) else str(self.project / named)

    @property
    def signers_file(self) -> Path:
        """Who may sign its versions; whether the file is there is not known."""
        return self.project / (self.variables.signers_file or SIGNERS_FILE)

    @property
    def vmids(self) -> range:
        """From which its temporary guests get their vmids, where it names none."""
        named = self.variables.proxmox_vmids
        return POOL if named is None else named.vmids

    @property
    def fixed_address(self) -> IPv4Interface | None:
        """`temp_ip_address` where it is one; None where one is chosen or given by the network."""
        address = self.variables.temp_ip_address
        return address if isinstance(address, IPv4Interface) else None

    @property
    def ca_file(self) -> Path | None:
        """`proxmox_ca_file` as an absolute path."""
        named = self.variables.proxmox_ca_file
        return None if named is None else self.directory / named

    @property
    def base(self) -> Base:
        """What `base_image` names. The path of a file is absolute."""
        base = parse_base(self.variables.base_image)
        return LocalFile(str(self.directory / base.path)) if isinstance(base, LocalFile) else base

    @property
    def private(self) -> Path:
        """Where what goldsmith makes for this project alone is kept: passwords and keys it has generated."""
        return self.project / ".goldsmith"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All secret values, for the masker of events."""
        known = [getattr(self.variables, name) for name in Variables.model_fields]
        return tuple(find_secrets([*known, *self.extra.values()]))
