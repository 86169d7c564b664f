"""Talking JSON over a Unix socket, a line each: QEMU's monitor (QMP) and the guest agent, which share the language."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldsmith.node.faults import ApiFault

_CHUNK = 1 << 16
_DELIMITER = b"\xff"


class ChannelFault(ApiFault):
    """Nobody is there, or he does not answer. `reason` is what Proxmox's QMPClient says of it."""


class Channel:
    """A connection that lasts until a deadline. Both sides take one caller at a time; others wait to be let in."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = bytearray()

    def _prepare(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ChannelFault("got timeout")
        self._connection.settimeout(left)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._prepare()
        try:
            self._connection.sendall(data)
        except TimeoutError as error:
            raise ChannelFault("got timeout") from error
        except OSError as error:
            raise ChannelFault("client closed connection") from error

    def read_until(self, mark: bytes) -> bytes:
        """Return what comes before a mark."""
        start = 0
        while (end := self._buffer.find(mark, start)) < 0:
            start = len(self._buffer)
            self._prepare()
            try:
                chunk = self._connection.recv(_CHUNK)
            except TimeoutError as error:
                raise ChannelFault("got timeout") from error
            except OSError as error:
                raise ChannelFault("client closed connection") from error
            if not chunk:
                raise ChannelFault("client closed connection")
            self._buffer += chunk
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return found

    def read(self) -> dict[str, Any]:
        """Return the next object."""
        line = b""
        while not line.strip():
            line = self.read_until(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Send a command and return its answer: `return` or `error`. Events in between are passed over."""
        self.send(render_command(command, arguments))
        while "event" in (answer := self.read()):
            pass
        return answer

    def synchronise(self) -> None:
        """Throw away what an earlier caller did not wait for (QEMU's qga protocol, guest-sync-delimited)."""
        number = secrets.randbelow(1 << 31)
        self.send(_DELIMITER + render_command("guest-sync-delimited", {"id": number}))
        while True:
            self.read_until(_DELIMITER)
            if self.read().get("return") == number:
                return


def render_command(command: str, arguments: Mapping[str, Any]) -> bytes:
    """Return a command as it is sent."""
    return json.dumps({"execute": command, "arguments": dict(arguments)}).encode() + b"\n"


@contextmanager
def open_channel(path: Path, timeout: float) -> Iterator[Channel]:
    """Connect; everything in the block has to be done within `timeout` seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        deadline = time.monotonic() + timeout
        try:
            connection.connect(str(path))
        except OSError as error:
            raise ChannelFault(f"unable to connect - {error.strerror or error}") from error
        yield Channel(connection, deadline)
