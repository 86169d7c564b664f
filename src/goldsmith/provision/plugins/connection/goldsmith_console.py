"""Ansible's connection to a guest through its console, which goldsmith holds (`pve.console`). Ansible loads it."""

from __future__ import annotations

import hashlib
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError  # type: ignore[import-untyped]
from ansible.plugins.connection import ConnectionBase  # type: ignore[import-untyped]

from goldsmith.pve.console import wire

DOCUMENTATION = """
name: goldsmith_console
author: goldsmith
short_description: through a container's console in Proxmox VE's API
description:
  - Programs and files go through a console that goldsmith holds. goldsmith itself sets this up for its build guest.
options:
  socket:
    description: Path of the socket at which the console's owner listens.
    type: path
    required: true
    vars:
      - name: ansible_goldsmith_socket
extends_documentation_fragment:
  - connection_pipelining
"""
PUT = "umask 077; cat > {path} && sha256sum < {path}"
FETCH = "cat < {path} && sha256sum < {path} >&2"
Take = Callable[[bytes], object]


class Connection(ConnectionBase):  # type: ignore[misc]
    """Runs programs in the guest as root; several at a time, for the owner holds one console for all."""

    transport = "goldsmith_console"
    has_pipelining = True

    def _connect(self) -> Connection:
        """There is nothing to connect: every program has a way of its own."""
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command; return its code, its output and its complaints."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        said = bytearray()
        code, complaints = self._run(cmd, [in_data or b""], said.extend)
        return code, bytes(said), complaints

    def put_file(self, in_path: str, out_path: str) -> None:
        """Write a file of this machine into the guest; what has come is compared."""
        super().put_file(in_path, out_path)
        said, digest = bytearray(), hashlib.sha256()
        try:
            with Path(in_path).open("rb") as file:
                pieces = _digest_all(iter(lambda: file.read(wire.PIECE), b""), digest)
                code, complaints = self._run(PUT.format(path=shlex.quote(out_path)), pieces, said.extend)
        except FileNotFoundError as error:
            raise AnsibleError(f"{in_path} is not there") from error
        self._compare(out_path, code, complaints, bytes(said), digest.hexdigest())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Write a file of the guest onto this machine; what has come is compared."""
        super().fetch_file(in_path, out_path)
        digest = hashlib.sha256()
        with Path(out_path).open("wb") as file:
            code, complaints = self._run(FETCH.format(path=shlex.quote(in_path)), [], _take_into(file, digest))
        self._compare(in_path, code, complaints, complaints, digest.hexdigest())

    def close(self) -> None:
        """There is nothing to close."""
        self._connected = False

    def reset(self) -> None:
        """There is nothing that a new group or variable would change."""

    def _run(self, script: str, given: Any, take: Take) -> tuple[int, bytes]:
        """Run a shell script; return its code and its complaints.

        :raises AnsibleConnectionFailure: the console is lost, which Ansible calls unreachable.
        """
        complaints = bytearray()
        try:
            with wire.connect(self.get_option("socket")) as connection:
                wire.begin(connection, ["/bin/sh", "-c", script])
                feeding = threading.Thread(target=_feed, args=(connection, given), daemon=True)
                feeding.start()
                for kind, data in wire.read_messages(connection):
                    if kind == b"x":
                        return int(data), bytes(complaints)
                    (take if kind == b"o" else complaints.extend)(data)
        except (wire.WayFailed, ConnectionError) as error:
            raise AnsibleConnectionFailure(f"the guest's console is lost: {error}") from error
        raise AssertionError("read_messages ends with an exit code")

    def _compare(self, path: str, code: int, complaints: bytes, said: bytes, wanted: str) -> None:
        if code:
            raise AnsibleError(f"{path}: {complaints.decode(errors='replace').strip() or code}")
        if said.split()[:1] != [wanted.encode()]:
            raise AnsibleError(f"{path} did not come through the console as it was sent: its SHA-256 is another")


def _feed(connection: Any, pieces: Any) -> None:
    with suppress(OSError):
        for piece in pieces:
            for start in range(0, len(piece), wire.PIECE):
                connection.sendall(wire.pack(b"i", piece[start : start + wire.PIECE]))
        connection.sendall(wire.pack(b"z"))


def _digest_all(pieces: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _take_into(file: IO[bytes], digest: Any) -> Take:
    def take(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    return take
