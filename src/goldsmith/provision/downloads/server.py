"""The socket at which a guest's proxy listens, a thread for each connection to it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from goldsmith.provision.downloads.handler import Handler
from goldsmith.provision.downloads.mirror import Connect, connect_mirror
from goldsmith.provision.downloads.proxy import Proxy
from goldsmith.provision.downloads.store import Store

POLL = 0.05


@contextmanager
def open_proxy(store: Store, path: Path, connect: Connect = connect_mirror) -> Iterator[Proxy]:
    """Listen while the block runs; nothing of it is left afterwards.

    :param path: of the socket; who may open it is for its directory to say.
    :param connect: how mirrors are reached.
    """
    proxy = Proxy(store, connect)
    with _Server(path, proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL,), name="downloads")
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
            proxy.end()
            path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Waits for all its threads when it is closed."""

    request_queue_size = 64

    def __init__(self, path: Path, proxy: Proxy) -> None:
        super().__init__(str(path), partial(Handler, proxy))

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the other side has gone, and apt tells what that means to it."""
