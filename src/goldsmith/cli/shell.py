"""`goldsmith shell`."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click

from goldsmith.base.events import Notice
from goldsmith.base.process import run_interactive
from goldsmith.build.trial.entrance import choose_target, render_entry
from goldsmith.build.trial.run import Subject, Surrounding, open_guest_of
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.project import state_directory
from goldsmith.cli.reading import read_images
from goldsmith.cli.site import Sites
from goldsmith.cli.terminal import open_events
from goldsmith.cli.versions import choose_version


@click.command(cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("version", metavar="VERSION")
@click.argument("words", nargs=-1, metavar="[COMMAND]...", type=click.UNPROCESSED)
@pass_settings
@click.pass_context
def shell(context: click.Context, settings: Settings, version: str, words: tuple[str, ...]) -> None:
    """Look around in a throw-away guest of a version.

    VERSION is NAME:TAG, NAME for the newest, or the folder of an image. A guest is made from it, booted, and entered as
    root over ssh, or through the node where test_connection in vars.yml is direct; with a COMMAND, that runs in it
    instead of a shell. When you leave, the guest is gone. The exit code is that of the shell, or of the COMMAND.
    """
    with open_events(settings, live=False) as (events, interrupts), ExitStack() as stack, interrupts.work():
        chosen = choose_version(version, settings)
        reading = read_images([chosen.image.directory], settings)
        reading.check()
        site = Sites(stack, events, settings).of(chosen.image)
        subject = Subject(chosen.image, chosen.version, chosen.repository, site)
        around = Surrounding(state_directory(), settings.project, events, reading.reserved)
        with open_guest_of(subject, around) as guest:
            if not words:
                events.emit(Notice(message=f"{guest.hostname}, a guest of {chosen.version}: it goes when you leave"))
            target = choose_target(chosen.image, site, guest)
            code = run_interactive(render_entry(target, words, terminal=sys.stdin.isatty()))
    context.exit(code)
