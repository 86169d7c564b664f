"""Many programs on one terminal: finds the shell there, puts far_end.sh in its place, and speaks with it in lines.

A terminal is a narrow place. Of Proxmox's chain (pveproxy, termproxy, dtach, lxc-attach) dtach stops reading what
comes back while it cannot write, which it can as long as a terminal has room: 4096 bytes, and 8192 before it (Linux,
n_tty and pty). And termproxy, which reads 4096 bytes at a time, loses its place where a message begins at the end of
them. So one message of `Limits.message` bytes is under way at a time, which the far end acknowledges. Output comes in
pieces that are asked for: neither side keeps what nobody takes. Lines tell their length: what somebody else types is
noticed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from goldsmith.base.errors import ConsoleFailed

ACKNOWLEDGE = b"1 k\n"
HEAD = 100
"""Bytes of a message that are not data, at most."""
WATCH = 20
"""Seconds after which the far end, which hears nothing, ends what runs; it looks twice."""
PULSE = 5.0
"""Seconds between two signs of life to it."""
SHELL_PATIENCE = 8.0
KNOCK_PAUSE = 1.0
"""Seconds in which the shell answers, and between two attempts: one that is starting reads what was typed too early."""
PROMPT_PAUSE = 0.1
"""Seconds of silence after which a prompt is there."""
QUIT_PATIENCE = 3.0
GRACE = 2.0
"""Seconds that output is waited for when the program has ended and a child of it holds the streams open."""
SCRIPT = Path(__file__).with_name("far_end.sh")
LOST = "the connection to the guest has ended"


@dataclass(frozen=True)
class Limits:
    """How much at a time goes each way; by default what a terminal bears."""

    message: int = 8000
    """Bytes of one message to the far end."""
    given: int = 32 << 10
    """Bytes of input that a program is given."""
    taken: int = 32 << 10
    """Bytes of a piece of its output."""
    credits: int = 2
    """Pieces of output that may come before the first was taken."""


class TerminalEnded(ConsoleFailed):
    """Nothing comes any more."""


def render_far_end(limits: Limits) -> str:
    """Return the far end, its numbers filled in and without comments, for they would be typed, too."""
    text = SCRIPT.read_text(encoding="ascii")
    numbers = {"@PIECE@": str(limits.taken), "@CREDITS@": " ".join(["1"] * limits.credits), "@WATCH@": str(WATCH)}
    for name, value in numbers.items():
        text = text.replace(name, value)
    lines = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    return "\n".join(lines) + "\n"


def render_loader(mark: str) -> str:
    """Return what is typed at a shell's prompt: the shell becomes ours, says a mark, and takes the far end by lines.

    It is not to remember that in a file of the guest's, which would become part of an image.

    The mark is typed in two halves: what a terminal echoes is no answer.
    """
    half = len(mark) // 2
    return (
        f' unset HISTFILE; exec sh -c \'stty raw -echo; printf "%s%s\\n" {mark[:half]} {mark[half:]}; s=; '
        'while read -r l && [ "$l" != . ]; do s=$s$l; echo +; done; '
        'eval "$(printf %s "$s" | base64 -d)"\'\n'
    )


@dataclass
class Program:
    """A program in the guest. `events` are what `wire` tells of it: `o`, `e`, `x`, and `` at the end."""

    number: int
    events: asyncio.Queue[tuple[bytes, bytes]] = field(default_factory=asyncio.Queue)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    forgotten: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None
    open_streams: set[str] = field(default_factory=lambda: {"o", "e"})
    reads: bool = True
    """Whether it still takes input."""


class Line(Protocol):
    """What the far end is at the other end of: a terminal (`terminal`), or what stands for one (`agent`)."""

    async def write(self, data: bytes) -> None:
        """Send whole lines."""
        ...

    async def read(self) -> bytes:
        """Return what comes next; nothing at the end."""
        ...

    async def keep_alive(self) -> None:
        """Do again and again what keeps it open."""
        ...


class Session:
    """The far end on a terminal, and its programs. All of it belongs to one event loop."""

    def __init__(self, terminal: Line, limits: Limits = Limits()) -> None:
        self._terminal = terminal
        self.limits = limits
        self._width = limits.message - HEAD
        """Characters of data in a line."""
        self._buffer = bytearray()
        self._waiting: list[bytes] = []
        self._under_way = False
        """Whether a message has not been acknowledged."""
        self._change = asyncio.Condition()
        self._programs: dict[int, Program] = {}
        self._last = 0
        self.fault: ConsoleFailed | None = None
        """Why it has ended."""

    async def start_program(self, script: str) -> Program:
        """Start a program, given as a shell script.

        :raises ConsoleFailed: the session has ended.
        """
        self._last += 1
        program = self._programs[self._last] = Program(self._last)
        await self._give(program, script.encode(), "n")
        return program

    async def give_input(self, program: Program, data: bytes) -> None:
        """Give a program at most `limits.given` bytes, and wait until it has taken them, or reads no more."""
        await program.begun.wait()
        if program.reads and program.code is None:
            program.taken.clear()
            await self._give(program, data, "i")
            await program.taken.wait()
            self._check()

    async def end_input(self, program: Program) -> None:
        """Tell a program that there is no more input."""
        await self._say(f"z {program.number}")

    async def grant(self, program: Program, stream: str) -> None:
        """Let one more piece of output come."""
        if stream in program.open_streams:
            await self._say(f"{stream} {program.number}")

    async def send_signal(self, program: Program, name: str) -> None:
        """Send a signal to a program and its children, once it has begun."""
        await program.begun.wait()
        if program.code is None and re.fullmatch(r"[A-Z0-9]{2,9}", name):
            await self._say(f"s {program.number} {name}")

    async def forget(self, program: Program) -> None:
        """End what still runs of a program, and remove what belongs to it."""
        await program.begun.wait()
        if self.fault is None:
            await self._say(f"r {program.number}")
            await program.forgotten.wait()
        self._programs.pop(program.number, None)

    async def serve(self) -> None:
        """Read what comes until the session ends, which all programs are then told."""
        try:
            while True:
                await self._hear((await self._read_line()).split(" "))
        except ConsoleFailed as error:
            await self.end(error)

    async def keep_alive(self) -> None:
        """Give the far end its signs of life."""
        with suppress(ConsoleFailed):
            while True:
                await self._say("p")
                await asyncio.sleep(PULSE)

    async def end(self, fault: ConsoleFailed) -> None:
        """Tell everybody who waits that it has ended."""
        self.fault = self.fault or fault
        for program in self._programs.values():
            program.begun.set()
            program.taken.set()
            program.forgotten.set()
            program.events.put_nowait((b"!", b""))
        async with self._change:
            self._change.notify_all()

    def _check(self) -> None:
        if self.fault is not None:
            raise ConsoleFailed(self.fault.message, hint=self.fault.hint)

    async def _give(self, program: Program, data: bytes, kind: str) -> None:
        """Have the far end collect data for a program, and do with it what `kind` says in the last message."""
        encoded = base64.b64encode(data).decode()
        pieces = [encoded[start : start + self._width] for start in range(0, len(encoded), self._width)]
        *lines, last = [_render_line(f"a {program.number} {len(piece)}", piece) for piece in pieces] or [b""]
        for line in lines:
            await self._put(line)
        await self._put(last + _render_line(f"{kind} {program.number}"))

    async def _say(self, text: str) -> None:
        """Have a line sent."""
        await self._put(_render_line(text))

    async def _put(self, line: bytes) -> None:
        """Have lines sent as soon as the message that they go into has room for all of them."""
        async with self._change:
            await self._change.wait_for(
                lambda: self.fault or sum(map(len, self._waiting)) + len(line) <= self.limits.message
            )
            self._check()
            self._waiting.append(line)
            self._change.notify_all()

    async def send(self) -> None:
        """Send what waits, whenever all that was sent before has been acknowledged; what cannot be sent is the end."""
        try:
            while True:
                async with self._change:
                    await self._change.wait_for(lambda: self.fault or (self._waiting and not self._under_way))
                    self._check()
                    lines, self._waiting = self._waiting, []
                    self._under_way = True
                    self._change.notify_all()
                await self._terminal.write(b"".join([*lines, ACKNOWLEDGE]))
        except ConsoleFailed as error:
            await self.end(error)

    async def _read_line(self) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            await self._read_more()
        line = self._buffer[:end].rstrip(b"\r").decode("ascii", "replace")  # lxc-attach's terminal makes CR LF of LF
        del self._buffer[: end + 1]
        return line

    async def _read_more(self) -> None:
        data = await self._terminal.read()
        if not data:
            raise TerminalEnded(LOST, hint="does the guest still run?")
        self._buffer += data

    async def _hear(self, words: list[str]) -> None:
        """Do as a line says."""
        match words:
            case ["+"]:
                async with self._change:
                    self._under_way = False
                    self._change.notify_all()
            case ["!", *said]:
                raise _garbled(" ".join(said))
            case [kind, number, *rest] if number.isdigit():
                if (program := self._programs.get(int(number))) is not None:
                    _note(program, kind, rest)
            case _:
                raise _garbled(f"it said {' '.join(words)[:60]!r}")

    def _list_work(self) -> tuple[Coroutine[Any, Any, None], ...]:
        return (self.serve(), self.send(), self.keep_alive(), self._terminal.keep_alive())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve it while the block runs."""
        tasks = [asyncio.create_task(work) for work in self._list_work()]
        try:
            yield
        finally:
            with suppress(ConsoleFailed, TimeoutError):
                await asyncio.wait_for(self._quit(), QUIT_PATIENCE)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.end(ConsoleFailed(LOST))

    async def _quit(self) -> None:
        """Say goodbye, and wait until the far end has ended what runs, and itself."""
        await self._say("q")
        async with self._change:
            await self._change.wait_for(lambda: self.fault)

    async def take_over(self) -> None:
        """Find the shell on the terminal, and put the far end in its place.

        :raises ConsoleFailed: no shell answers there.
        """
        mark = f"goldsmith-{secrets.token_hex(8)}"
        await self._find_shell(mark)
        encoded = base64.b64encode(render_far_end(self.limits).encode()).decode()
        for start in range(0, len(encoded), self._width):
            await self._terminal.write(encoded[start : start + self._width].encode() + b"\n")
            await self._expect("+")
        await self._terminal.write(b".\n")
        await self.await_far_end()

    async def await_far_end(self) -> None:
        """Wait until the far end, which was started there, is ready."""
        await self._expect("ready")

    async def _find_shell(self, mark: str) -> None:
        deadline = asyncio.get_running_loop().time() + SHELL_PATIENCE
        await self._await_prompt()
        while asyncio.get_running_loop().time() < deadline:
            await self._terminal.write(render_loader(mark).encode())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._expect(mark, part=True), KNOCK_PAUSE)
                return
        raise ConsoleFailed(
            f"no shell answers on the console within {SHELL_PATIENCE:g} s",
            hint="its cmode has to be shell, and nobody else may use the console meanwhile (close the one in the "
            "web interface)",
        )

    async def _await_prompt(self) -> None:
        """Let a shell that starts say its prompt: it throws away what was typed before. One that waits is silent."""
        patience = KNOCK_PAUSE
        with suppress(TimeoutError):
            while True:
                await asyncio.wait_for(self._read_more(), patience)
                patience = PROMPT_PAUSE

    async def _expect(self, wanted: str, *, part: bool = False) -> None:
        while True:
            line = await self._read_line()
            if line == wanted or (part and line.endswith(wanted)):
                return


def _render_line(text: str, data: str = "") -> bytes:
    """Return a line to the far end, and data right after it."""
    return f"{len(text)} {text}\n{data}".encode()


def _garbled(why: str) -> ConsoleFailed:
    return ConsoleFailed(
        f"what crosses the console is garbled: {why}", hint="does somebody type in the guest's console?"
    )


def _note(program: Program, kind: str, rest: list[str]) -> None:
    """Note what the far end says of a program."""
    match kind, rest:
        case (("o" | "e"), ["0"]):
            program.open_streams.discard(kind)
            program.events.put_nowait((b"", b""))
        case (("o" | "e"), [length, data]) if length == str(len(data)):
            program.events.put_nowait((kind.encode(), _decode(data)))
        case "s", []:
            program.begun.set()
        case "c", [code]:
            program.reads = code == "0"
            program.taken.set()
        case "x", [code] if code.isdigit():
            program.code = int(code)
            program.events.put_nowait((b"", b""))
        case "r", []:
            program.forgotten.set()
        case _:
            raise _garbled(f"it said {kind} {' '.join(rest)[:60]!r} of a program")


def _decode(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise _garbled(str(error)) from error
