"""How a trial enters its guests: over SSH, or directly through their node, as the image's `test_connection` says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from goldsmith.base.errors import GuestUnready
from goldsmith.base.process import Argument
from goldsmith.build.facts import Site
from goldsmith.build.guest import TempGuest, open_guest
from goldsmith.definition.image import Image
from goldsmith.pve.attach import render_login_shell
from goldsmith.pve.shell import Shell
from goldsmith.pve.ssh import render_login
from goldsmith.pve.target import DirectTarget, Enterable, Target
from goldsmith.verify.settle import find_unreadiness

POLL = 0.03
"""Seconds between two attempts to enter a guest."""


def choose_target(image: Image, site: Site, guest: TempGuest) -> Enterable:
    """Return a guest as tests of its image see it."""
    if image.variables.test_connection == "direct":
        return DirectTarget(guest.hostname, guest.ip, guest.vmid, site.shell, site.lxc_path)
    return guest.target


@contextmanager
def open_entrance(image: Image, site: Site, guest: TempGuest, timeout: float) -> Iterator[Shell]:
    """Wait until a guest lets us in, and use its shell while the block runs.

    One that is entered directly is ready when its systemd answers; where its init is another, when that runs.

    :param timeout: seconds.
    :raises GuestUnready: it does not in time; says how far it came.
    """
    target = choose_target(image, site, guest)
    if isinstance(target, DirectTarget):
        _await_ready(target, timeout)
        yield target.shell
        return
    with open_guest(guest, timeout) as shell:
        yield shell


def _await_ready(target: DirectTarget, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while (lacking := find_unreadiness(target.shell)) is not None:
        if time.monotonic() > deadline:
            raise GuestUnready(
                f"guest {target.vmid} could not be entered within {timeout:g} s: {lacking}",
                hint="test_connection is direct: `lxc-attach` on the node has to work, and the guest's init to start",
            )
        time.sleep(POLL)


def render_entry(target: Enterable, words: Sequence[str] = (), *, terminal: bool) -> list[Argument]:
    """Return the command line by which a person gets into a guest, or runs a command there.

    :param terminal: whether there is one for what runs there.
    """
    match target:
        case Target():
            return render_login(target.access, words, terminal=terminal)
        case DirectTarget():
            return target.shell.get_way(terminal=terminal).wrap(render_login_shell(words))
