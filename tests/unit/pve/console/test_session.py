"""Many programs on one terminal: the far end runs on a terminal of this machine, under each shell that is here."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from goldsmith.base.errors import ConsoleFailed
from goldsmith.pve.console import session as module
from goldsmith.pve.console.owner import render_script
from goldsmith.pve.console.session import Limits, Program, Session, render_far_end, render_loader

SHELLS = {"bash": ["bash", "--norc", "-i"], "dash": ["dash", "-i"], "busybox": ["busybox", "ash", "-i"]}
ALL = bytes(range(256)) * 300
LIMITS = Limits()


class PtyTerminal:
    """A shell on a terminal of this machine, in place of one behind a websocket."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm"})
        os.set_blocking(self.master, False)
        self.most = 0

    async def write(self, data: bytes) -> None:
        self.most = max(self.most, len(data))
        while data:
            try:
                data = data[os.write(self.master, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def read(self) -> bytes:
        while True:
            try:
                return os.read(self.master, 4096)
            except BlockingIOError:
                await asyncio.sleep(0.001)
            except OSError:
                return b""

    async def keep_alive(self) -> None:
        await asyncio.Event().wait()

    def hang_up(self) -> None:
        """End what is there; the kernel tells those on it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.master)


@asynccontextmanager
async def open_session(shell: str = "dash") -> AsyncIterator[tuple[Session, PtyTerminal]]:
    terminal = PtyTerminal(SHELLS[shell])
    try:
        session = Session(terminal)  # type: ignore[arg-type]
        await session.take_over()
        async with session.running():
            yield session, terminal
    finally:
        terminal.hang_up()


async def finish(session: Session, program: Program, given: bytes = b"") -> tuple[int, bytes, bytes]:
    """Give a program its input, and return its code and what it says."""

    async def feed() -> None:
        for start in range(0, len(given), LIMITS.given):
            await session.give_input(program, given[start : start + LIMITS.given])
        await session.end_input(program)

    feeding, said = asyncio.create_task(feed()), {b"o": b"", b"e": b""}
    while program.code is None or program.open_streams or not program.events.empty():
        kind, data = await asyncio.wait_for(program.events.get(), 20)
        if kind in said:
            said[kind] += data
            await session.grant(program, kind.decode())
    await feeding
    await session.forget(program)
    assert program.code is not None
    return program.code, said[b"o"], said[b"e"]


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(work(), 40)

    asyncio.run(limited())


@pytest.mark.parametrize("shell", [name for name, argv in SHELLS.items() if shutil.which(argv[0])])
def test_every_byte_comes_back_under_each_shell(shell: str) -> None:
    async def work() -> None:
        async with open_session(shell) as (session, terminal):
            script = render_script(["sh", "-c", "cat >&2; printf 'out%s' \"$1\"; exit 7", "sh", "\n'x\" $y"])
            program = await session.start_program(script)
            assert await finish(session, program, ALL) == (7, b"out\n'x\" $y", ALL)
            assert terminal.most <= LIMITS.message + len(module.ACKNOWLEDGE)

    run(work)


def test_no_more_output_comes_than_was_asked_for() -> None:
    async def work() -> None:
        async with open_session() as (session, _):
            program = await session.start_program(render_script(["sh", "-c", "yes | head -c 1000000"]))
            other = await session.start_program(render_script(["echo", "on time"]))
            assert await finish(session, other) == (0, b"on time\n", b"")
            await asyncio.sleep(0.3)
            pieces = [data for kind, data in list(program.events._queue) if kind == b"o"]  # type: ignore[attr-defined]
            assert len(pieces) == LIMITS.credits
            assert sum(map(len, pieces)) <= LIMITS.credits * LIMITS.taken
            code, said, _ = await finish(session, program)
            assert (code, len(said)) == (0, 1000000)

    run(work)


def test_what_is_still_running_ends_with_the_session() -> None:
    async def work() -> None:
        async with open_session() as (session, _):
            program = await session.start_program(render_script(["sh", "-c", "sleep 7301 & sleep 7301"]))
            await program.begun.wait()
            await asyncio.sleep(0.2)
            assert count("sleep 7301") >= 2
        await await_end("sleep 7301")

    run(work)


def test_what_is_still_running_ends_when_the_terminal_is_hung_up() -> None:
    async def work() -> None:
        terminal = PtyTerminal(SHELLS["bash"])
        session = Session(terminal)  # type: ignore[arg-type]
        await session.take_over()
        async with session.running():
            program = await session.start_program(render_script(["sh", "-c", "trap '' TERM; sleep 7304"]))
            await program.begun.wait()
            terminal.hang_up()
            await await_end("sleep 7304")

    run(work)


async def await_end(command: str) -> None:
    for _ in range(100):
        if not count(command):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{command} goes on")


def count(command: str) -> int:
    said = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return said.splitlines().count(command)


def test_who_hears_nothing_any_more_ends_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH", 1)
    monkeypatch.setattr(module, "PULSE", 30.0)

    async def work() -> None:
        async with open_session() as (session, _):
            program = await session.start_program(render_script(["sleep", "7302"]))
            await program.begun.wait()
            while session.fault is None:
                await asyncio.sleep(0.05)
            assert "ended" in session.fault.message
            assert count("sleep 7302") == 0

    run(work)


def test_what_somebody_else_types_is_noticed() -> None:
    async def work() -> None:
        async with open_session() as (session, terminal):
            program = await session.start_program(render_script(["sleep", "7303"]))
            await program.begun.wait()
            await terminal.write(b"whoami\n")
            while True:
                kind, _ = await asyncio.wait_for(program.events.get(), 10)
                if kind == b"!":
                    break
            assert session.fault is not None
            assert session.fault.message.startswith("what crosses the console is garbled: ")
            with pytest.raises(ConsoleFailed, match="garbled"):
                await session.start_program("true")

    run(work)


def test_where_no_shell_answers_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHELL_PATIENCE", 0.5)
    monkeypatch.setattr(module, "KNOCK_PAUSE", 0.2)

    async def work() -> None:
        terminal = PtyTerminal(["cat"])
        try:
            with pytest.raises(ConsoleFailed, match=r"no shell answers on the console within 0\.5 s") as caught:
                await Session(terminal).take_over()  # type: ignore[arg-type]
            assert "cmode has to be shell" in caught.value.hint
        finally:
            terminal.hang_up()

    run(work)


def test_a_narrow_window_changes_nothing() -> None:
    """Readline, which has the first word, scrolls a line that is wider than the window."""

    async def work() -> None:
        terminal = PtyTerminal(SHELLS["bash"])
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 20, 0, 0))
        try:
            session = Session(terminal)  # type: ignore[arg-type]
            await session.take_over()
            async with session.running():
                program = await session.start_program(render_script(["echo", "x"]))
                assert await finish(session, program) == (0, b"x\n", b"")
        finally:
            terminal.hang_up()

    run(work)


def test_the_far_end_is_a_script_without_comments_or_gaps() -> None:
    text = render_far_end(LIMITS)
    assert "@" not in text
    assert not [line for line in text.splitlines() if line.startswith("#") or line != line.strip()]
    assert subprocess.run(["sh", "-n"], input=text.encode(), check=False).returncode == 0


def test_the_mark_is_typed_in_halves() -> None:
    assert "goldsmith-0123" not in render_loader("goldsmith-0123")
