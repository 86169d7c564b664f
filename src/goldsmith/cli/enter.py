"""`goldsmith enter`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import click

from goldsmith.base.errors import UsageError
from goldsmith.base.process import run_interactive
from goldsmith.build.facts import Site, check_consoles
from goldsmith.cli.options import Command, Settings, pass_settings
from goldsmith.cli.reading import list_proxmox_images
from goldsmith.cli.site import Sites
from goldsmith.cli.terminal import open_events
from goldsmith.pve.console.shell import ConsoleShell, open_agent, open_console
from goldsmith.pve.guests import Guest


@click.command(cls=Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("guest", metavar="GUEST")
@click.argument("words", nargs=-1, metavar="COMMAND...", type=click.UNPROCESSED, required=True)
@pass_settings
@click.pass_context
def enter(context: click.Context, settings: Settings, guest: str, words: tuple[str, ...]) -> None:
    """Run a command in a guest as root, by the API alone: no network leads there, and no ssh.

    GUEST is a vmid or a name, on the Proxmox that an image of the project names, else on the embedded node. A container
    is entered by its console, for which its option cmode has to be shell; a virtual machine by its guest agent, for
    which its option agent has to be on and qemu-guest-agent to run in it. Input, output and exit code are those of the
    COMMAND; there is no terminal. What runs is ended when you leave.
    """
    with open_events(settings, live=False) as (events, interrupts), ExitStack() as stack, interrupts.work():
        found = find_guest(guest, list_sites(Sites(stack, events, settings), settings))
        shell = stack.enter_context(open_way(found))
        code = run_interactive(shell.get_way().wrap(words))
    context.exit(code)


@dataclass(frozen=True)
class Found:
    """A guest, and where it was found."""

    site: Site
    guest: Guest


def list_sites(sites: Sites, settings: Settings) -> list[Site]:
    """Return the nodes of the project's images that are built on a Proxmox, each once, else the embedded node."""
    found = {id(site): site for site in map(sites.of, list_proxmox_images(settings))}
    return list(found.values()) or [sites.embedded()]


def find_guest(named: str, sites: Iterable[Site]) -> Found:
    """Return the guest with a vmid or a name.

    :raises UsageError: there is none, or more than one.
    """
    places = {site.pve.endpoint.address: site for site in sites}  # a cluster is asked once
    seen = [Found(site, guest) for site in places.values() for guest in site.pve.list_guests()]
    found = [one for one in seen if named in (str(one.guest.vmid), one.guest.name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"there is no guest '{named}', or we may not see it", hint="a vmid, or a name as Proxmox shows it"
        )
    told = ", ".join(f"{one.guest.vmid} on {one.guest.node}" for one in found)
    raise UsageError(f"'{named}' is the name of several guests: {told}", hint="say its vmid")


def open_way(found: Found) -> AbstractContextManager[ConsoleShell]:
    """Return the way into a guest, to be used in a block.

    :raises ConsoleFailed: what we log in with opens no consoles.
    """
    pve, guest = found.site.pve, found.guest
    name = guest.name or str(guest.vmid)
    if guest.kind == "qemu":
        return open_agent(pve, guest.node, guest.vmid, name)
    check_consoles(found.site)
    return open_console(pve, guest.node, guest.vmid, name)
