"""The page about all commands, made of the commands themselves: `python -m goldsmith.cli.reference docs`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from goldsmith.base.files import write_atomic
from goldsmith.cli.main import goldsmith

PAGE = "commands.md"
INTRODUCTION = """\
# Commands

This page is made of the commands themselves (`python -m goldsmith.cli.reference docs`).

Standard output holds data, standard error the story of what happens: on a terminal live, with what goes on below what
has happened; in plain lines elsewhere and where `TERM` is `dumb`. With `--json` standard output holds JSON and nothing
else: commands that do something write one event per line, commands that show something one document. An error is then
the last object, `{"event": "error", "message": ..., "hint": ..., "detail": ..., "exit_code": ...}`; it has `problems`
(file, line, message, accepted form) where what you wrote is wrong.

Ctrl-C, SIGTERM and SIGHUP interrupt the work once; everything that was made is removed, and further ones are only
answered meanwhile. Exit codes are those of [the errors](errors.md); 70 is a fault of goldsmith itself, of which a file
with the traceback is left in the state directory.

| environment | |
| --- | --- |
| `GOLDSMITH_NODE_STATE` | directory of the embedded node; `/var/lib/goldsmith/node` by default |
| `XDG_STATE_HOME` | journals, keys of kept guests and crash reports lie below it; `~/.local/state` by default |
| `GOLDSMITH_DEBUG` | the traceback of a fault of goldsmith itself is shown |
| `NO_COLOR` | no colors, whatever it holds |
| `ANSIBLE_VAULT_PASSWORD_FILE` | password of `vault.yml`, where `--vault-password-file` is not given |
| `GOLDSMITH_SIGNING_KEY` | the SSH key that signs versions, where `--key` is not given |
| `GOLDSMITH_REGISTRY_USER`, `GOLDSMITH_REGISTRY_PASSWORD` | the login at [registries](repository.md#in-a-registry) |
| `GOLDSMITH_REGISTRY_CA_FILE` | a PEM file of the authorities that registries' certificates are checked against |
| `SSL_CERT_FILE`, `SSL_CERT_DIR` | where authorities are that this machine trusts, as OpenSSL has it |
| `GOLDSMITH_REGISTRY_PLAIN_HTTP` | `1`: registries are talked to without TLS |
| `SOURCE_DATE_EPOCH` | no file of an image is [newer](repository.md#the-same-layers-again): seconds since 1970 |
| `PROXMOX_API_TOKEN_SECRET`, `TEMPLATE_PASSWORD` | the [variables](variables.md) of these names |
"""


def render_page() -> str:
    """Render the page (Markdown)."""
    context = click.Context(goldsmith, info_name="goldsmith")
    return "\n".join([INTRODUCTION, *(_render_command(command) for command in _walk(context))])


def _walk(context: click.Context) -> Iterator[click.Context]:
    """Go through a command and all below it."""
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from _walk(click.Context(command, info_name=name, parent=context))


def _render_command(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", f"    {usage}", inspect.cleandoc(command.help or "")]
    options = _list_options(context)
    if options:
        parts.append("\n".join(["| option | |", "| --- | --- |", *options]))
    return "\n\n".join(parts) + "\n"


def _list_options(context: click.Context) -> list[str]:
    """Return a table row for each option that its help shows."""
    options = [item for item in context.command.get_params(context) if isinstance(item, click.Option)]
    records = [option.get_help_record(context) for option in options]
    rows = [(names, re.sub(r"\s+", " ", text)) for names, text in filter(None, records) if "--help" not in names]
    return [f"| `{names}` | {text.replace('|', '&#124;')} |" for names, text in rows]


def write_page(directory: Path) -> None:
    """Write the page into a directory."""
    write_atomic(directory / PAGE, render_page())


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
