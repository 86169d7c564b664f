"""How a trial enters its guests: over SSH, through their node, or by their console: as `test_connection` says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from goldsmith.base.process import Argument
from goldsmith.build.facts import Site
from goldsmith.build.guest import CONSOLE_HINT, TempGuest, await_readiness, open_guest
from goldsmith.definition.image import Image
from goldsmith.pve.attach import render_login_shell
from goldsmith.pve.shell import Shell
from goldsmith.pve.ssh import render_login
from goldsmith.pve.target import ConsoleTarget, DirectTarget, Enterable, Target

HINTS = {
    "direct": "test_connection is direct: `lxc-attach` on the node has to work, and the guest's init to start",
    "console": CONSOLE_HINT,
}


def choose_target(image: Image, site: Site, guest: TempGuest) -> Enterable:
    """Return a guest as tests of its image see it."""
    if image.variables.test_connection == "direct":
        return DirectTarget(guest.hostname, guest.ip, guest.vmid, site.shell, site.lxc_path)
    return guest.target


@contextmanager
def open_entrance(image: Image, site: Site, guest: TempGuest, timeout: float) -> Iterator[Shell]:
    """Wait until a guest lets us in, and use its shell while the block runs.

    One that is entered without ssh is ready when its systemd answers; where its init is another, when that runs.

    :param timeout: seconds.
    :raises GuestUnready: it does not in time; says how far it came.
    """
    target = choose_target(image, site, guest)
    if not isinstance(target, Target):
        await_readiness(target.shell, guest.vmid, timeout, HINTS[image.variables.test_connection])
        yield target.shell
        return
    with open_guest(guest, timeout) as shell:
        yield shell


def render_entry(target: Enterable, words: Sequence[str] = (), *, terminal: bool) -> list[Argument]:
    """Return the command line by which a person gets into a guest, or runs a command there.

    :param terminal: whether there is one for what runs there.
    """
    match target:
        case ConsoleTarget():
            return target.shell.get_way().wrap(render_login_shell(words))
        case Target():
            return render_login(target.access, words, terminal=terminal)
        case DirectTarget():
            return target.shell.get_way(terminal=terminal).wrap(render_login_shell(words))
