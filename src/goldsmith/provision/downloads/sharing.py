"""A guest's downloads are shared while a playbook runs: a proxy here, a way to it through ssh, apt there told so."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from goldsmith.base.errors import GoldsmithError, PlaybookFailed
from goldsmith.base.events import Events, Notice
from goldsmith.provision.downloads.guest import install_proxy, remove_proxy
from goldsmith.provision.downloads.mirror import Connect, connect_mirror
from goldsmith.provision.downloads.proxy import Proxy
from goldsmith.provision.downloads.server import open_proxy
from goldsmith.provision.downloads.store import Store
from goldsmith.provision.downloads.tally import Tally
from goldsmith.pve.ssh import SshShell

NEAR = 0.005
"""Seconds within which a guest answers that is near: farther ones are usually nearer to their mirror than to us."""
SOCKET = "downloads"


def is_near(address: str, port: int = 22) -> bool:
    """Tell whether a guest answers so fast that downloads through this machine are no detour."""
    try:
        return min(_measure(address, port) for _ in range(2)) < NEAR
    except OSError:
        return False


def _measure(address: str, port: int) -> float:
    begun = time.perf_counter()
    socket.create_connection((address, port), timeout=1.0).close()
    return time.perf_counter() - begun


@contextmanager
def open_sharing(shell: SshShell, store: Store, events: Events, connect: Connect = connect_mirror) -> Iterator[Tally]:
    """Share the guest's downloads while the block runs. Where that cannot be, a notice says why, and all is as without.

    :param shell: the guest's; it stays open.
    """
    with ExitStack() as stack:
        try:
            proxy = _open(stack, shell, store, connect)
        except (GoldsmithError, OSError, _NotShared) as error:
            told = error.message if isinstance(error, GoldsmithError) else str(error)
            events.emit(Notice(message=f"downloads of packages are not shared with other builds: {told}"))
            stack.close()
            yield Tally()
            return
        try:
            yield proxy.tally
        except PlaybookFailed:  # perhaps because a file was wrong
            proxy.doubt()
            raise


class _NotShared(Exception):
    """The guest has its own way."""


def _open(stack: ExitStack, shell: SshShell, store: Store, connect: Connect) -> Proxy:
    path = shell.directory / SOCKET
    proxy = stack.enter_context(open_proxy(store, path, connect))
    port = stack.enter_context(shell.open_forward(path))
    stack.callback(remove_proxy, shell)
    if reason := install_proxy(shell, port):
        raise _NotShared(reason)
    return proxy
