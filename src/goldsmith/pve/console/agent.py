"""A virtual machine's guest agent in place of a terminal: lines go there as input of small programs, and come back so.

The agent runs programs, each with its input at once and its output at its end. So the far end is started with two
named pipes for a terminal: one program writes a message into the one, another waits at the other for what comes.
Lines are letters and digits, so that it does not matter that the API gives bytes as characters.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from goldsmith.base.errors import ApiFailed, ConsoleFailed, PveError
from goldsmith.pve.agent import MOST_INPUT, Agent, Ended, is_silent
from goldsmith.pve.console.session import Session, TerminalEnded, render_far_end

MESSAGE = MOST_INPUT - 1024
"""Bytes of one message, which the script that carries it leaves."""
END = "goldsmith-end"
"""A line that no message has: there are no words like that in it."""
INPUT = 40 << 10
"""Bytes of input that a program is given at a time; with what they take as base64, one message bears them."""
PIECE = 256 << 10
"""Bytes that are fetched at a time; a pipe has 64 KiB at once (pipe(7)), those who wait there have several."""
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.3
"""Seconds between two looks at a program of ours; the longer it takes, the longer."""
PATIENCE = 20.0
"""Seconds in which the far end is there."""
SILENCE = 20.0
"""Seconds in which an agent whose guest has much to do, or is being backed up, may say nothing."""
LOOK = 10.0
"""Seconds of silence after which we look whether the far end is still there."""
START = """
umask 077
f=$(cat <<'{end}'
{far_end}{end}
)
d=$(mktemp -d /run/goldsmith.XXXXXX || mktemp -d) && mkfifo "$d/in" "$d/out" || exit
setsid sh -c 'exec 9<>"$1/out"; sh -c "$2" <>"$1/in" >&9 9>&-; rm -rf "$1"; exec 9>&-; kill -s KILL 0' sh "$d" "$f" \
  </dev/null >/dev/null 2>&1 &
echo "$! $d"
"""
"""The far end's keeper holds the pipe until nobody can come to wait at it any more, lets go who waits there, and ends
what the far end has left in its process group."""
WRITE = "cat >{folder}/in <<'{end}'\n{data}{end}\n"
READ = "exec dd bs={piece} count=1 <{folder}/out 2>/dev/null\n"
LOOK_FOR = "kill -0 {pid}\n"
Answer = TypeVar("Answer")


@dataclass
class AgentTerminal:
    """The far end's two pipes. It has an agent for each direction: what waits for one does not hold up the other."""

    reader: Agent
    writer: Agent
    pid: int
    """Of the far end's keeper in the guest."""
    folder: str
    """Where its pipes are, quoted for a shell."""
    _written: asyncio.Event = field(default_factory=asyncio.Event)
    _tidying: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        """Write a message of whole lines.

        :raises TerminalEnded: it cannot be written.
        """
        script = WRITE.format(folder=self.folder, end=END, data=data.decode("ascii"))
        pid = await _call(lambda: self.writer.start(script))
        self._written.set()
        self._tidying = asyncio.create_task(self._tidy(pid, self._tidying))

    async def _tidy(self, pid: int, last: asyncio.Task[None] | None) -> None:
        """Have the agent forget a program, after the one before it: it keeps each until somebody asks how it ended."""
        if last is not None:
            await last
        with suppress(TerminalEnded):
            await _await_end(self.writer, pid)

    async def read(self) -> bytes:
        """Return what comes next; nothing at the end.

        :raises TerminalEnded: the guest cannot be asked any more.
        """
        pid = await _call(lambda: self.reader.start(READ.format(piece=PIECE, folder=self.folder)))
        while True:
            with suppress(TimeoutError):
                ended = await asyncio.wait_for(_await_end(self.reader, pid, self._written), LOOK)
                return ended.output.encode("ascii", "replace")
            if not await self._is_there():
                return b""

    async def _is_there(self) -> bool:
        """Tell whether the far end's keeper lives: one that was killed could not let go who waits for it."""
        pid = await _call(lambda: self.writer.start(LOOK_FOR.format(pid=self.pid)))
        return (await _await_end(self.writer, pid)).code == 0

    async def keep_alive(self) -> None:
        """There is nothing that would break by silence."""

    async def close(self) -> None:
        """Stop what is still on its way."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)


@asynccontextmanager
async def open_agent_session(reader: Agent, writer: Agent) -> AsyncIterator[Session]:
    """Put the far end into a virtual machine, and speak with it while the block runs.

    :raises ConsoleFailed: no agent answers there, or it cannot be started.
    """
    terminal = await _start_far_end(reader, writer)
    session = Session(terminal, message=MESSAGE, piece=INPUT)
    try:
        await asyncio.wait_for(session.await_far_end(), PATIENCE)
        async with session.running():
            yield session
    except TimeoutError as error:
        raise ConsoleFailed(f"what was started in the guest says nothing for {PATIENCE:g} s") from error
    finally:
        await terminal.close()


async def _start_far_end(reader: Agent, writer: Agent) -> AgentTerminal:
    pid = await _enter(lambda: writer.start(START.format(end=END, far_end=render_far_end())))
    ended = await asyncio.wait_for(_await_end(writer, pid), PATIENCE)
    number, _, folder = ended.output.strip().partition(" ")
    if ended.code or not number.isdigit() or not folder:
        said = ended.complaints.strip() or f"exit code {ended.code}"
        raise ConsoleFailed(
            f"nothing can be started in the guest: {said}", hint="it needs sh, mktemp, mkfifo and setsid"
        )
    return AgentTerminal(reader, writer, int(number), shlex.quote(folder))


async def _await_end(agent: Agent, pid: int, stir: asyncio.Event | None = None) -> Ended:
    """Wait until a program has ended; look more often again after something has happened."""
    pause, stirred = FIRST_PAUSE, stir or asyncio.Event()
    while (ended := await _call(lambda: agent.find_end(pid))) is None:
        stirred.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(stirred.wait(), pause)
            pause = FIRST_PAUSE
            continue
        pause = min(pause * 2, LONGEST_PAUSE)
    return ended


async def _call(call: Callable[[], Answer]) -> Answer:
    """Ask the agent. One that is silent for a while has had nothing of it, and may be asked again."""
    deadline = asyncio.get_running_loop().time() + SILENCE
    while True:
        try:
            return await asyncio.to_thread(call)
        except PveError as error:
            is_late = asyncio.get_running_loop().time() > deadline
            if is_late or not isinstance(error, ApiFailed) or not is_silent(error):
                raise TerminalEnded(f"the guest agent is lost: {error.message}", hint=error.hint) from error
        await asyncio.sleep(LONGEST_PAUSE)


async def _enter(call: Callable[[], Answer]) -> Answer:
    try:
        return await asyncio.to_thread(call)
    except ApiFailed as error:
        hint = error.hint or "does it run, with agent: 1 in its options, and with qemu-guest-agent inside?"
        raise ConsoleFailed(f"no guest agent answers: {error.reason.strip()}", hint=hint) from error
