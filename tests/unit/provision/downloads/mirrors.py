"""A mirror on the loopback address that does what the test says, and an apt that asks it through a proxy of ours."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from goldsmith.provision.downloads.proxy import Proxy
from goldsmith.provision.downloads.rules import MAGIC, Url
from goldsmith.provision.downloads.server import open_proxy
from goldsmith.provision.downloads.store import Store

HOST = "mirror.example.org"
PACKAGE = "/debian/pool/main/t/tree/tree_2.1.0-1_amd64.deb"
CONTENT = MAGIC + b"   " + bytes(range(256)) * 2000
WAIT = 20.0


@dataclass
class Mirror:
    """Its files, how it treats them, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=lambda: {PACKAGE: CONTENT})
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    cut: int | None = None
    """Bytes after which it breaks off."""
    chunked: bool = False
    gate: threading.Event | None = None
    """It sends the first kilobyte, and the rest when this is set."""
    is_down: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    received: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def connect(self, url: Url) -> socket.socket:
        """As `connect_mirror`: this mirror, whatever its name is."""
        if self.is_down:
            raise ConnectionRefusedError(f"{url.host} refuses")
        self.connections += 1
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)

    def count(self, method: str = "GET") -> int:
        return sum(asked == method for asked, _ in self.asked)


@contextmanager
def open_mirror(mirror: Mirror) -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            mirror.asked.append((self.command, self.path))
            mirror.received.append({name.lower(): value for name, value in self.headers.items()})
            content = mirror.files.get(self.path)
            self.send_response(404 if content is None else mirror.status)
            for name, value in mirror.headers.items():
                self.send_header(name, value)
            content = content or b"nothing here"
            self.send_header(
                *(("Transfer-Encoding", "chunked") if mirror.chunked else ("Content-Length", str(len(content))))
            )
            self.end_headers()
            if self.command == "GET":
                self.send(content)

        do_HEAD = do_GET  # noqa: N815

        def send(self, content: bytes) -> None:
            if mirror.gate is not None:
                self.wfile.write(content[:1024])
                assert mirror.gate.wait(WAIT)
                content = content[1024:]
            if mirror.cut is not None:
                self.close_connection = True
                content = content[: mirror.cut]
            if mirror.chunked:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
                self.wfile.write(b"" if mirror.cut is not None else b"0\r\n\r\n")
            else:
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        mirror.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()


class ViaProxy(HTTPConnection):
    """One connection of apt to the proxy."""

    def __init__(self, path: Path) -> None:
        super().__init__(HOST, timeout=WAIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT)
        self.sock.connect(str(self._path))

    def ask(self, url: str = f"http://{HOST}{PACKAGE}", method: str = "GET", **headers: str) -> HTTPResponse:
        self.request(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return self.getresponse()

    def read(self, url: str = f"http://{HOST}{PACKAGE}", **headers: str) -> bytes:
        answer = self.ask(url, **headers)
        content = answer.read()
        assert answer.status == 200, answer.reason
        return content


@dataclass
class Setting:
    """A mirror, and a store; proxies of any number of guests."""

    mirror: Mirror
    store: Store
    folder: Path
    number: int = 0

    @contextmanager
    def guest(self) -> Iterator[tuple[ViaProxy, Proxy]]:
        """A guest's connection, and its proxy."""
        self.number += 1
        path = self.folder / f"s{self.number}"
        with open_proxy(self.store, path, self.mirror.connect) as proxy:
            connection = ViaProxy(path)
            try:
                yield connection, proxy
            finally:
                connection.close()

    def fetch(self, url: str = f"http://{HOST}{PACKAGE}", **headers: Any) -> tuple[bytes, str]:
        """Fetch as a guest of its own; return the content, and what was counted."""
        with self.guest() as (connection, proxy):
            return connection.read(url, **headers), proxy.tally.render()
