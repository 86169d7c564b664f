"""A program that stands for one in a guest: `python run.py SOCKET WORD...`, with its streams, signals and exit code.

Standard library only, and run as a file: it starts in some milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from goldsmith.pve.console import wire

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    """Run it, and return its exit code; 255 where the way to it has failed."""
    path, *argv = sys.argv[1:]
    try:
        with wire.connect(path) as connection:
            wire.begin(connection, argv)
            sending = threading.Lock()
            _pass_signals(connection, sending)
            threading.Thread(target=_pass_input, args=(connection, sending), daemon=True).start()
            return _pass_output(connection)
    except wire.WayFailed as error:
        told = f"{error.message} ({error.hint})" if error.hint else error.message
        os.write(2, f"{wire.PREFIX}{told}\n".encode())
        return wire.UNREACHED


def _pass_signals(connection: socket.socket, sending: threading.Lock) -> None:
    def send(number: int) -> None:
        with sending, contextlib.suppress(OSError):
            connection.sendall(wire.pack(b"s", signal.Signals(number).name.removeprefix("SIG").encode()))

    for number in PASSED_ON:
        # In a thread: the main thread, which is interrupted, may hold the lock.
        signal.signal(number, lambda got, _: threading.Thread(target=send, args=(got,), daemon=True).start())


def _pass_input(connection: socket.socket, sending: threading.Lock) -> None:
    """Pass on what comes, as long as somebody reads it."""
    with contextlib.suppress(OSError):
        while data := os.read(0, wire.PIECE):
            with sending:
                connection.sendall(wire.pack(b"i", data))
    with sending, contextlib.suppress(OSError):
        connection.sendall(wire.pack(b"z"))


def _pass_output(connection: socket.socket) -> int:
    for kind, data in wire.read_messages(connection):
        if kind == b"x":
            return int(data)
        _write(1 if kind == b"o" else 2, data)
    raise AssertionError("read_messages ends with an exit code")


def _write(number: int, data: bytes) -> None:
    with memoryview(data) as left:
        done = 0
        while done < len(left):
            done += os.write(number, left[done:])


if __name__ == "__main__":
    try:
        code = main()
    except BrokenPipeError:
        code = 141  # as a shell tells of a program that SIGPIPE has ended
    os._exit(code)  # the thread may still be reading
