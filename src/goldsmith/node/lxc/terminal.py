"""A container's terminal that outlives whoever looks at it: `python -m ... SOCKET COMMAND...`, one for each guest.

Proxmox has dtach(1) for this: the command runs on a terminal of ours, and everybody who is connected to the socket
sees the same. What nobody sees is forgotten. It ends with the command, which ends with the guest. Standard library
only, for a quick start.

    viewer -> us     kind (1 byte: `d` data, `w` window), length (2 bytes, big endian), data; a window is rows, columns
    us -> viewer     what the command writes, as it is

Unlike dtach, which drops what a terminal does not take at once, neither side is read faster than the other one reads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import selectors
import socket
import struct
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass, field

HEADER = struct.Struct(">cH")
WINDOW = struct.Struct(">HH")
PIECE = 4096
MOST_PENDING = 64 << 10
"""Bytes for a viewer that has not read yet; with more, the command waits."""
BACKLOG = 8


def pack(kind: bytes, data: bytes) -> bytes:
    """Return a message for a terminal; `data` has at most 65535 bytes."""
    return HEADER.pack(kind, len(data)) + data


@dataclass
class Viewer:
    """Somebody who is connected."""

    connection: socket.socket
    received: bytearray = field(default_factory=bytearray)
    pending: bytearray = field(default_factory=bytearray)


class Terminal:
    """The terminal, its command and its viewers."""

    def __init__(self, listener: socket.socket, command: list[str]) -> None:
        self._listener = listener
        self._viewers: list[Viewer] = []
        self._typed = bytearray()
        self._selector = selectors.DefaultSelector()
        pid, self._master = pty.fork()
        if pid == 0:
            with suppress(OSError):
                os.execvp(command[0], command)  # noqa: S606 - an argument list of the node's own
            os._exit(127)
        os.set_blocking(self._master, False)

    def serve(self) -> None:
        """Pass bytes on until the command has ended and closed its terminal."""
        while True:
            self._watch()
            for key, events in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._master:
                    if not self._serve_command(events):
                        return
                else:
                    self._serve_viewer(key.data, events)

    def _watch(self) -> None:
        """Wait for what can be taken further: bytes are read where there is room for them."""
        wanted: dict[object, tuple[int, Viewer | None]] = {self._listener: (selectors.EVENT_READ, None)}
        room = all(len(viewer.pending) < MOST_PENDING for viewer in self._viewers)
        wanted[self._master] = (
            (selectors.EVENT_READ if room else 0) | (selectors.EVENT_WRITE if self._typed else 0),
            None,
        )
        for viewer in self._viewers:
            reads = selectors.EVENT_READ if len(self._typed) < PIECE else 0
            wanted[viewer.connection] = (reads | (selectors.EVENT_WRITE if viewer.pending else 0), viewer)
        for key in list(self._selector.get_map().values()):
            if wanted.get(key.fileobj, (0, None))[0] != key.events:
                self._selector.unregister(key.fileobj)
        known = {key.fileobj for key in self._selector.get_map().values()}
        for file, (events, data) in wanted.items():
            if events and file not in known:
                self._selector.register(file, events, data)  # type: ignore[arg-type]

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        self._viewers.append(Viewer(connection))

    def _serve_command(self, events: int) -> bool:
        """Tell whether the command still has its terminal."""
        if events & selectors.EVENT_WRITE:
            with suppress(BlockingIOError):
                del self._typed[: os.write(self._master, self._typed)]
        if events & selectors.EVENT_READ:
            try:
                data = os.read(self._master, PIECE)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno != errno.EIO:  # nobody has the other side any more
                    raise
                return False
            for viewer in self._viewers:
                viewer.pending += data
            return bool(data)
        return True

    def _serve_viewer(self, viewer: Viewer, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                del viewer.pending[: viewer.connection.send(viewer.pending)]
            if events & selectors.EVENT_READ:
                data = viewer.connection.recv(PIECE)
                if not data:
                    raise ConnectionResetError
                viewer.received += data
                self._read_messages(viewer)
        except BlockingIOError:
            return
        except OSError:
            self._selector.unregister(viewer.connection)
            viewer.connection.close()
            self._viewers.remove(viewer)

    def _read_messages(self, viewer: Viewer) -> None:
        received = viewer.received
        while len(received) >= HEADER.size:
            kind, length = HEADER.unpack_from(received)
            if len(received) < HEADER.size + length:
                return
            data = bytes(received[HEADER.size : HEADER.size + length])
            del received[: HEADER.size + length]
            if kind == b"d":
                self._typed += data
            elif kind == b"w" and length == WINDOW.size:
                rows, columns = WINDOW.unpack(data)
                fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main() -> None:
    """Listen at the socket's path (relative to the working directory: a path may have 107 bytes only, unix(7))."""
    path, *command = sys.argv[1:]
    folder, name = os.path.split(path)
    os.chdir(folder)
    with suppress(FileNotFoundError):
        os.unlink(name)  # noqa: PTH108 - of a terminal that was killed; pathlib takes its time to be imported
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        listener.bind(name)
        os.umask(before)
        listener.listen(BACKLOG)
        Terminal(listener, command).serve()
    os.unlink(name)  # noqa: PTH108


if __name__ == "__main__":
    main()
