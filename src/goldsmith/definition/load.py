"""From a folder under `images/` to an `Image`: read, render, judge; every mistake of every file in one error.

Changes nothing on disk, and looks at nothing but the folder, the files that it names, and its `Surroundings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from goldsmith.base.errors import DefinitionError, Problem
from goldsmith.definition.bases import LocalFile, parse_base
from goldsmith.definition.checks import Situation, find_base_fault, find_ca_fault, find_mistakes, get_form
from goldsmith.definition.given import Given, collect_given, render_for_ansible
from goldsmith.definition.image import PLAYBOOK_FILE, VARS_FILE, Image, Origin
from goldsmith.definition.images import IMAGES_FOLDER
from goldsmith.definition.keys import find_default_key, load_public_key
from goldsmith.definition.names import NAME_FORM, find_name_fault
from goldsmith.definition.resolve import Resolver
from goldsmith.definition.values import NAME, RenderError, UnknownName
from goldsmith.definition.variables import KNOWN, SECRETS, Variables
from goldsmith.definition.vault import PASSWORD_VARIABLE, PasswordSource, Vault

TEMPLATE_FORM = "a template of other variables in vars.yml and vault.yml, and of lookup('env', NAME)"
REFERENCE = re.compile(r"\{\{\s*[A-Za-z_][A-Za-z0-9_]*\s*\}\}\s*\Z")
PATH_VARIABLES = ("base_image", "proxmox_ca_file", "ssh_key_file", "repository", "signers_file")
"""Variables in which `~` is the user's home."""


UNRENDERED = ("layers",)
"""Variables that hold variables for Ansible: it is Ansible that renders their templates."""


@dataclass(frozen=True)
class Surroundings:
    """What counts besides the image's folder; the command line fills it in."""

    environment: Mapping[str, str]
    home: Path
    vault_password_file: Path | None = None
    """Without it, ANSIBLE_VAULT_PASSWORD_FILE of the environment counts."""

    @property
    def password_source(self) -> PasswordSource:
        """Where the vault password comes from."""
        named = self.environment.get(PASSWORD_VARIABLE, "")
        file = self.vault_password_file or (Path(named) if named else None)
        return PasswordSource(file and self.expand(file), self.environment)

    def expand(self, path: Path) -> Path:
        """Return a path with `~` at its beginning replaced by the home directory."""
        return self.home.joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path


def load_image(directory: Path, surroundings: Surroundings) -> Image:
    """Read everything about one image and check it.

    :param directory: a folder with vars.yml and playbook.yml; its variables are described in docs/variables.md.
    :raises DefinitionError: with every mistake in what is written, with file and line.
    """
    directory = directory.resolve() if ".." in directory.parts else directory.absolute()
    _check_folder(directory)
    loading = _Loading(directory, surroundings)
    image = loading.load()
    if loading.problems:
        raise DefinitionError(loading.problems)
    return image


def _check_folder(directory: Path) -> None:
    if not directory.is_dir():
        reason = "is no folder" if directory.exists() else "does not exist"
        raise DefinitionError([Problem(directory, 0, reason, f"an image's folder, with {VARS_FILE} in it")])


@dataclass
class _Loading:
    """One image on its way; collects mistakes instead of stopping at the first."""

    directory: Path
    surroundings: Surroundings
    problems: list[Problem] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    """Names with a mistake: nothing more is said about them."""
    given: dict[str, Given] = field(default_factory=dict)
    complete: bool = True
    """Whether every file could be read: otherwise nothing can be said to be missing."""
    unreadable: frozenset[str] = frozenset()
    """Names whose values could not be decrypted."""

    def load(self) -> Image:
        """Return the image; it is to be used only when there are no problems."""
        self._collect()
        self._check_names()
        resolver = Resolver(self.given, self._defaults(), self.surroundings.environment)
        variables = self._validate(self._resolve_known(resolver), resolver)
        self._check_playbooks(variables)
        self._check_together(variables)
        self._check_ca_file(variables)
        self._check_base_file(variables)
        return Image(
            name=self._find_name(variables),
            directory=self.directory,
            project=self._find_project(),
            variables=variables,
            extra={name: render_for_ansible(given) for name, given in self.given.items() if name not in KNOWN},
            ssh_key=self._find_key(variables),
            origins={name: given.origin for name, given in self.given.items()},
        )

    def _collect(self) -> None:
        vault = Vault(self.surroundings.password_source)
        collected = collect_given(self.directory, self.surroundings.environment, vault)
        self.problems += collected.problems
        self.complete, self.unreadable = collected.complete, frozenset(collected.unreadable)
        self.faulty |= collected.unreadable
        self.given = collected.values

    def _defaults(self) -> dict[str, Any]:
        """Return the defaults that templates may use: those of the model, and the image's name."""
        defaults = {name: known.default for name, known in Variables.model_fields.items() if known.default is not None}
        return {**defaults, "apps": [], "template_name": self.directory.name}

    def _refuse(self, name: str, message: str, accepted: str = "") -> None:
        """Note a mistake in a variable, at its line, and that nothing more is to be said about it."""
        given = self.given.get(name)
        origin = given.origin if given else Origin(self.directory / VARS_FILE)
        if given and given.variable:
            message = message.replace(name, f"{name} (environment variable {given.variable})", 1)
        self.problems.append(Problem(origin.file, origin.line, message, accepted))
        self.faulty.add(name)

    def _check_playbooks(self, variables: Variables) -> None:
        if "layers" in self.faulty:
            return
        layers = [layer.playbook for layer in variables.layers if layer.playbook is not None]
        for named in layers if variables.layers else [PurePosixPath(PLAYBOOK_FILE)]:
            playbook = self.directory / named
            if not playbook.is_file():
                reason = "is no file" if playbook.exists() else "does not exist"
                self.problems.append(Problem(playbook, 0, reason, "an Ansible playbook with `hosts: all`"))

    def _check_names(self) -> None:
        for name, given in self.given.items():
            fault = None if name in KNOWN else find_name_fault(name, given.value)
            if fault:
                self._refuse(name, str(fault), get_form(fault.meant) if fault.meant else NAME_FORM)

    def _resolve_known(self, resolver: Resolver) -> dict[str, Any]:
        """Return the known variables that are given and can be rendered; an empty one has its default."""
        values: dict[str, Any] = {}
        for name in (known for known in KNOWN if known in self.given and self.given[known].value is not None):
            if name in UNRENDERED:
                values[name] = render_for_ansible(self.given[name])
                continue
            try:
                values[name] = resolver.resolve(name)
            except RenderError as error:
                self._refuse_template(name, error, resolver)
            else:
                self._check_leak(name, resolver)
        return {name: value for name, value in values.items() if value is not None and name not in self.faulty}

    def _refuse_template(self, name: str, error: RenderError, resolver: Resolver) -> None:
        if isinstance(error, UnknownName) and (self.unreadable or not self.complete):
            self.faulty.add(name)  # what it uses may be in what could not be read, of which there is a problem already
        elif resolver.is_hidden(name) or (name in SECRETS and not self._is_reference(name)):
            advice = "put `!unsafe` before it if it is no template"
            self._refuse(name, f"{name} cannot be rendered as a template ({advice})", TEMPLATE_FORM)
        else:
            self._refuse(name, f"{name} {error}", TEMPLATE_FORM)

    def _is_reference(self, name: str) -> bool:
        """Tell whether a value is nothing but the name of another variable, which may be shown whatever is in that."""
        value = self.given[name].value
        return isinstance(value, str) and REFERENCE.match(value) is not None

    def _check_leak(self, name: str, resolver: Resolver) -> None:
        leaked = sorted((resolver.find_used(name) & SECRETS) - {name})
        if leaked and name not in SECRETS:
            self._refuse(name, f"{name} would show the secret {leaked[0]}", "a value without secrets in it")

    def _validate(self, values: dict[str, Any], resolver: Resolver) -> Variables:
        """Return the variables without those that are refused, which become problems."""
        values = {name: self._expand(name, value) for name, value in values.items()}
        try:
            return Variables.model_validate(values)
        except ValidationError as error:
            found = {str(part["loc"][0]): part["msg"] for part in reversed(error.errors(include_input=False))}
        for name in sorted(found):
            self._refuse(name, self._explain(name, found[name], resolver), get_form(name))
        return Variables.model_validate({name: value for name, value in values.items() if name not in found})

    def _expand(self, name: str, value: Any) -> Any:
        if name not in PATH_VARIABLES or not isinstance(value, str) or not value.startswith("~"):
            return value
        return str(self.surroundings.expand(Path(value)))

    def _explain(self, name: str, message: str, resolver: Resolver) -> str:
        said = message.removeprefix("Value error, ")
        if said.startswith(("is ", "holds ")):
            return f"{name} {said}"
        if name in SECRETS or resolver.is_hidden(name):
            return f"{name}: what is encrypted there is not accepted"
        return f"{name}: {said}"

    def _check_together(self, variables: Variables) -> None:
        origins = {name: given.origin for name, given in self.given.items()}
        for mistake in find_mistakes(Situation(variables, origins, frozenset(self.faulty), self.complete)):
            self._refuse(mistake.name, mistake.message, get_form(mistake.name))

    def _check_ca_file(self, variables: Variables) -> None:
        name = variables.proxmox_ca_file
        fault = find_ca_fault(self.directory / name) if name else None
        if fault:
            self._refuse("proxmox_ca_file", f"proxmox_ca_file: {self.directory / str(name)} {fault}",
                         get_form("proxmox_ca_file"))  # fmt: skip

    def _check_base_file(self, variables: Variables) -> None:
        base = parse_base(variables.base_image)
        if isinstance(base, LocalFile) and "base_image" not in self.faulty:
            file = self.directory / base.path
            if fault := find_base_fault(file):
                self._refuse("base_image", f"base_image: {file} {fault}", get_form("base_image"))

    def _find_key(self, variables: Variables) -> str | None:
        if "ssh_key_file" in self.faulty:
            return None
        if variables.ssh_key_file is None:
            return find_default_key(self.surroundings.home)
        file = self.directory / variables.ssh_key_file
        try:
            return load_public_key(file)
        except ValueError as error:
            self._refuse("ssh_key_file", f"ssh_key_file: {file} {error}", get_form("ssh_key_file"))
            return None

    def _find_name(self, variables: Variables) -> str:
        name = variables.template_name or self.directory.name
        if not NAME.match(name) and "template_name" not in self.faulty:
            message = f"the folder's name '{name}' cannot name a template; set template_name"
            self._refuse("template_name", message, get_form("template_name"))
        return name

    def _find_project(self) -> Path:
        parent = self.directory.parent
        return parent.parent if parent.name == IMAGES_FOLDER else parent
