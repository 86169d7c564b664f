"""`goldsmith variables`."""

from __future__ import annotations

from dataclasses import asdict

import click

from goldsmith.base.errors import UsageError
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.output import say, say_document
from goldsmith.cli.table import render_pairs
from goldsmith.definition.describe import VariableDescription, describe_variables


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@pass_settings
def variables(settings: Settings, names: tuple[str, ...]) -> None:
    """Say what the variables of vars.yml mean.

    Also which form each takes, and what is taken where it is missing. With NAMEs only those.
    """
    chosen = choose_variables(names)
    if settings.json:
        say_document([asdict(one) for one in chosen])
    else:
        say("\n\n".join(render_variable(one) for one in chosen))


def choose_variables(names: tuple[str, ...]) -> list[VariableDescription]:
    """Return the named variables, or all.

    :raises UsageError: there is no such variable.
    """
    known = {one.name: one for one in describe_variables()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"goldsmith knows no variable {', '.join(unknown)}", hint=f"it knows {', '.join(known)}")
    return [known[name] for name in names or known]


def render_variable(one: VariableDescription) -> str:
    """Render one variable for a terminal."""
    rows = {"accepted": one.accepted, "default": one.default.replace("`", ""), "example": "\n".join(one.examples)}
    told = click.wrap_text(one.meaning.replace("`", ""), 100, "  ", "  ")
    pairs = render_pairs({f"  {name}": text for name, text in rows.items() if text})
    return f"{one.name}\n{told}\n{pairs}"
