"""What every command takes: the options that may stand before or after a command's name, and what they came to.

Light on purpose: `goldsmith --help` imports this and click, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import update_wrapper
from importlib import import_module
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from goldsmith.base.secrets import Masker
from goldsmith.cli.project import find_project, get_project

P = ParamSpec("P")
R = TypeVar("R")
_META = "goldsmith."


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the options said. `masker` is the one of this run: whoever learns a secret adds it."""

    named_project: Path | None = None
    json: bool = False
    color: bool = True
    verbose: bool = False
    vault_password_file: Path | None = None
    ask_become_pass: bool = False
    masker: Masker = field(default_factory=Masker)

    @property
    def project(self) -> Path:
        """The project that is meant.

        :raises UsageError: there is none.
        """
        return get_project(self.named_project, Path.cwd())

    def find_project(self) -> Path | None:
        """Return the project, for commands that can do without one."""
        return find_project(Path.cwd()) if self.named_project is None else self.project


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option where every level of the command line finds it; the last one given counts."""
    assert parameter.name is not None
    if context.get_parameter_source(parameter.name) is not click.core.ParameterSource.DEFAULT:
        context.meta[_META + parameter.name] = value


def _make_options(*, hidden: bool) -> list[click.Option]:
    """Make the common options: shown with `goldsmith --help`, accepted by every command."""
    path = click.Path(path_type=Path)
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    listed: list[tuple[list[str], dict[str, Any]]] = [
        (
            ["--project"],
            {
                "type": path,
                "metavar": "DIR",
                "help": "The project; by default the nearest folder upward from here that has images/.",
            },
        ),
        (["--json"], {"is_flag": True, "hidden": False, "help": "JSON on standard output instead of text."}),
        (["--no-color"], {"is_flag": True, "help": "No colors, as with NO_COLOR in the environment."}),
        (["--verbose", "-v"], {"is_flag": True, "help": "Show what the node's tasks write to their logs, too."}),
        (
            ["--vault-password-file"],
            {"type": file, "metavar": "FILE", "help": "Password of vault.yml, as Ansible takes it."},
        ),
        (
            ["--ask-become-pass"],
            {"is_flag": True, "help": "Read the sudo password for the Proxmox node from standard input."},
        ),
    ]
    common: dict[str, Any] = {"expose_value": False, "callback": _remember, "hidden": hidden}
    return [click.Option(names, **{**common, **attributes}) for names, attributes in listed]


class Command(click.Command):
    """A command that takes the common options too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own options, then the common ones."""
        return [*super().get_params(ctx), *_make_options(hidden=True)]


class Group(click.Group):
    """A group of commands that takes the common options too."""

    command_class = Command

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own options, then the common ones."""
        return [*super().get_params(ctx), *_make_options(hidden=ctx.parent is not None)]


@dataclass(frozen=True)
class Lazy:
    """A command that is imported when it is called. `help` is the first sentence of its own help text."""

    where: str
    help: str

    def load(self) -> click.Command:
        """Import it."""
        module, _, name = self.where.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(Group):
    """A group that lists its commands without importing them: what they need takes longer than the list."""

    def __init__(self, *args: Any, lazy: dict[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return the names in the order in which they were declared."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        return self.lazy[cmd_name].load() if cmd_name in self.lazy else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.lazy.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, and say which one was probably meant where there is none of that name."""
        if args and args[0] not in self.lazy and not args[0].startswith("-"):
            raise click.UsageError(_no_such_command(args[0], self.lazy), ctx)
        return super().resolve_command(ctx, args)


def _no_such_command(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f"there is no command '{name}'" + (f"; did you mean '{near[0]}'?" if near else "")


def read_settings(context: click.Context, masker: Masker) -> Settings:
    """Return what the common options said, on whichever level they were given."""

    def said(name: str) -> Any:
        return context.meta.get(_META + name)

    return Settings(
        named_project=said("project"),
        json=bool(said("json")),
        color=not (said("no_color") or os.environ.get("NO_COLOR")),
        verbose=bool(said("verbose")),
        vault_password_file=said("vault_password_file"),
        ask_become_pass=bool(said("ask_become_pass")),
        masker=masker,
    )


def pass_settings(function: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
    """Give a command its `Settings` as the first argument."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        context = click.get_current_context()
        masker = context.find_root().obj
        return function(read_settings(context, masker if isinstance(masker, Masker) else Masker()), *args, **kwargs)

    return update_wrapper(call, function)
