"""How the owner of a console is talked to, over its socket. Standard library only: `run` has to start quickly.

    kind (1 byte), length (4 bytes, big endian), data

To the owner: `h` what to run, first (JSON: a list of words), `i` input, `z` its end, `s` a signal's name.
From it: `o` output, `e` complaints, `x` the exit code, `!` why there is none (JSON: message, hint). The connection's
end ends the program.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence

HEADER = struct.Struct(">cI")
MOST = 1 << 20
"""Bytes of one message's data."""
PIECE = 1 << 16
UNREACHED = 255
"""Exit code where the way to the program has failed, as ssh has it."""
PREFIX = "goldsmith-console: "
"""Before what `run` itself complains of."""


class WayFailed(Exception):
    """The console, not the program, has failed."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def pack(kind: bytes, data: bytes = b"") -> bytes:
    """Return a message."""
    return HEADER.pack(kind, len(data)) + data


def connect(path: str) -> socket.socket:
    """Connect to an owner, by way of the directory's descriptor: a socket's path may have 107 bytes only (unix(7)).

    :raises WayFailed: there is none.
    """
    folder, name = os.path.split(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)
    except OSError as error:
        connection.close()
        raise WayFailed(f"nobody holds the console any more: {error.strerror}") from error
    return connection


def begin(connection: socket.socket, argv: Sequence[str]) -> None:
    """Ask for a program."""
    connection.sendall(pack(b"h", json.dumps(list(argv)).encode()))


def read_messages(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Return what comes, up to the exit code.

    :raises WayFailed: the program cannot be run, or is lost.
    """
    with connection.makefile("rb") as stream:
        while header := stream.read(HEADER.size):
            kind, length = HEADER.unpack(header)
            data = stream.read(length)
            if kind == b"!":
                raise WayFailed(*json.loads(data))
            yield kind, data
            if kind == b"x":
                return
    raise WayFailed("whoever held the console has gone")
