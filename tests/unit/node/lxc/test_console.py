"""What runs on a container's console, and how its messages are read."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from goldsmith.node.context import Node
from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.console import _pass_messages, choose_command
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.settings import NodeSettings


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("", ["lxc-console", "-e", "-1"]),
        ("tty", ["lxc-console", "-e", "-1"]),
        ("console", ["lxc-console", "-t", "0", "-e", "-1"]),
        ("shell", ["lxc-attach", "--clear-env"]),
    ],
)
def test_the_mode_says_which_program_it_is(tmp_path: Path, mode: str, words: list[str]) -> None:
    runtime = Runtime(Node(NodeSettings(state=tmp_path)), 100)
    program, _, _, _, vmid, *more = choose_command(runtime, Options({"cmode": mode} if mode else {}))
    assert [program, *more] == words
    assert vmid == 100


def read(*pieces: bytes) -> list[tuple[bytes, bytes]]:
    """What the terminal gets of what a client sends, in pieces."""
    ours, terminal = socket.socketpair()
    with ours, terminal:
        received, remaining = bytearray(), 0
        for piece in pieces:
            received += piece
            remaining = _pass_messages(ours, received, remaining)
        ours.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: terminal.recv(1 << 16), b""))
    messages = []
    while data:
        kind, length = struct.unpack(">cH", data[:3])
        messages.append((kind, data[3 : 3 + length]))
        data = data[3 + length :]
    return messages


def test_messages_are_read_wherever_they_are_cut() -> None:
    whole = b"0:5:hello1:80:24:20:3:a:b"
    for cut in range(len(whole)):
        parts = read(whole[:cut], whole[cut:])
        assert b"".join(data for kind, data in parts if kind == b"d") == b"helloa:b"
        assert [data for kind, data in parts if kind == b"w"] == [struct.pack(">HH", 24, 80)]


def test_what_is_no_message_is_left_out() -> None:
    assert read(b"xy\n0:2:ok7") == [(b"d", b"ok")]
