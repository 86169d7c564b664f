"""A terminal in a browser, as far as the node sees it: the protocol of pve-xtermjs' main.js, and nothing of our client.

A websocket by hand (RFC 6455): one handshake, masked frames, no fragments.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Refused(Exception):
    """The answer to the handshake was another than 101."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status, self.reason = status, reason


@dataclass
class Xterm:
    """One websocket to a console."""

    host: str
    port: int
    headers: dict[str, str]
    ca_file: str
    stream: ssl.SSLSocket = field(init=False)
    received: bytearray = field(default_factory=bytearray)
    shown: bytearray = field(default_factory=bytearray)
    protocol: str = ""

    def connect(self, path: str, answer: dict[str, Any], **changes: Any) -> Xterm:
        """Ask for a websocket to what `termproxy` has answered."""
        query = urlencode({"port": changes.get("port", answer["port"])})
        ticket = quote(changes.get("ticket", answer["ticket"]), safe="")
        context = ssl.create_default_context(cafile=self.ca_file)
        plain = socket.create_connection((self.host, self.port), timeout=10)
        self.stream = context.wrap_socket(plain, server_hostname=self.host)
        lines = [
            f"GET /api2/json{path}/vncwebsocket?{query}&vncticket={ticket} HTTP/1.1",
            f"Host: {self.host}:{self.port}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: binary", *(f"{name}: {value}" for name, value in self.headers.items()),
        ]  # fmt: skip
        self.stream.sendall("\r\n".join([*lines, "", ""]).encode())
        head = self._read_until(b"\r\n\r\n").decode().split("\r\n")
        _, status, reason = head[0].split(" ", 2)
        if status != "101":
            self.stream.close()
            raise Refused(int(status), reason)
        self.protocol = next(line.split(": ")[1] for line in head if line.lower().startswith("sec-websocket-protocol"))
        return self

    def _read_until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            data = self.stream.recv(4096)
            assert data, bytes(self.received)
            self.received += data
        head, _, rest = bytes(self.received).partition(mark)
        self.received[:] = rest
        return head

    def send(self, text: str | bytes, kind: int = TEXT) -> None:
        """Send one frame."""
        data = text.encode() if isinstance(text, str) else text
        length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(data))
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[number % 4] for number, byte in enumerate(data))
        self.stream.sendall(bytes([0x80 | kind]) + length + mask + masked)

    def log_in(self, answer: dict[str, Any]) -> Xterm:
        """Send the first line; the answer begins with OK."""
        self.send(f"{answer['user']}:{answer['ticket']}\n")
        while len(self.shown) < 2:
            assert self.show(), "closed instead of OK"
        assert self.shown[:2] == b"OK"
        del self.shown[:2]
        return self

    def type(self, text: str) -> None:
        """Type something."""
        self.send(f"0:{len(text.encode())}:{text}")

    def frame(self) -> tuple[int, bytes]:
        """Return the next frame: its kind and its data; nothing at the connection's end."""
        while True:
            data = self.received
            if len(data) >= 2:
                assert data[0] & 0x80, "the node sends fragments"
                size, start = data[1], 2
                if size == 126 and len(data) >= 4:
                    size, start = struct.unpack(">H", data[2:4])[0], 4
                elif size == 127 and len(data) >= 10:
                    size, start = struct.unpack(">Q", data[2:10])[0], 10
                if (size < 126 or start > 2) and len(data) >= start + size:
                    kind, body = data[0] & 15, bytes(data[start : start + size])
                    del data[: start + size]
                    return kind, body
            more = self.stream.recv(1 << 16)
            if not more:
                return CLOSE, b""
            self.received += more

    def show(self) -> bool:
        """Take the next frame onto the screen; tell whether the connection stands."""
        kind, body = self.frame()
        if kind in (TEXT, BINARY):
            self.shown += body
            self.shown[:] = self.shown.replace(b"\r\r\n", b"\r\n")  # two terminals, each of which returns the carriage
        return kind != CLOSE

    def wait_for(self, text: str) -> str:
        """Return what is shown as soon as a text is among it."""
        while text.encode() not in self.shown:
            try:
                assert self.show(), f"closed before {text!r} came: {bytes(self.shown)!r}"
            except TimeoutError:
                raise AssertionError(f"{text!r} does not come: {bytes(self.shown)!r}") from None
        return self.shown.decode(errors="replace")

    def close(self) -> None:
        """Leave without a word, as a browser that is killed."""
        self.stream.close()
