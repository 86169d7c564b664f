"""The program that stands for one in a guest, and whom it talks to."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from goldsmith.base.errors import ProgramFailed
from goldsmith.pve.console import wire
from goldsmith.pve.console.shell import RUN, ConsoleShell


def serve(folder: Path, answer: Callable[[socket.socket, list[str]], None]) -> Path:
    """Be an owner for one program."""
    path = folder / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def work() -> None:
        with listener, listener.accept()[0] as connection, connection.makefile("rb") as stream:
            kind, length = wire.HEADER.unpack(stream.read(wire.HEADER.size))
            assert kind == b"h"
            answer(connection, json.loads(stream.read(length)))

    threading.Thread(target=work, daemon=True).start()
    return path


def start(path: Path, *argv: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-S", str(RUN), str(path), *argv]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=False)


def test_words_streams_and_code_are_passed_on(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def answer(connection: socket.socket, argv: list[str]) -> None:
        seen.append(argv)
        connection.sendall(wire.pack(b"o", b"a\0b") + wire.pack(b"e", b"\xff") + wire.pack(b"x", b"42"))

    done = start(serve(tmp_path, answer), "prog", "", "ünd", "a b\n")
    assert (done.returncode, done.stdout, done.stderr) == (42, b"a\0b", b"\xff")
    assert seen == [["prog", "", "ünd", "a b\n"]]


def test_what_went_wrong_on_the_way_is_told_with_its_hint(tmp_path: Path) -> None:
    def answer(connection: socket.socket, _: list[str]) -> None:
        connection.sendall(wire.pack(b"!", json.dumps(["it is lost", "try again"]).encode()))

    done = start(serve(tmp_path, answer), "true")
    assert (done.returncode, done.stderr) == (255, b"goldsmith-console: it is lost (try again)\n")


@pytest.mark.parametrize("is_there", [True, False])
def test_an_owner_that_goes_or_is_not_there_is_told(tmp_path: Path, is_there: bool) -> None:
    path = serve(tmp_path, lambda *_: None) if is_there else tmp_path / "s"
    done = start(path, "true")
    assert done.returncode == 255
    assert done.stderr.startswith(b"goldsmith-console: " + (b"whoever held" if is_there else b"nobody holds"))


def test_a_shell_tells_a_program_that_failed_from_a_console_that_did() -> None:
    shell = ConsoleShell("guest 900", Path("/run/s"))
    lost = shell.explain(["true"], ProgramFailed("run", 255, "goldsmith-console: it is lost"))
    assert lost.message == "guest 900 cannot be entered through its console: it is lost"
    failed = shell.explain(["false"], ProgramFailed("run", 255, "no such thing"))
    assert failed.message == "false failed on guest 900: no such thing"
