"""A virtual machine's guest agent in place of a terminal: lines go there as input of small programs, and come back so.

The agent runs programs, each with its input at once and its output at its end. So the far end is started with two
named pipes for a terminal. A program of ours writes a message into the one, and then brings what comes out of the
other: that is a turn. Turns follow each other, by a number that goes from one to the next through a third pipe. Lines
are letters and digits, so that it does not matter that the API gives bytes as characters.

Calls are dear: nobody is at the agent's line between two calls, which qemu-ga finds out by a sleep of 0.1 s
(qga/main.c, channel_event_cb). So a turn takes two of them at best, one to begin it and one to see what it has brought,
and it waits a little for more to come.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from goldsmith.base.errors import ApiFailed, ConsoleFailed, PermissionMissing, PveError
from goldsmith.pve.agent import MOST_INPUT, Agent, Ended, is_silent
from goldsmith.pve.console.session import Limits, Session, TerminalEnded, render_far_end

LIMITS = Limits(message=MOST_INPUT - 1024, given=40 << 10, taken=64 << 10, credits=6)
"""A message leaves room for the script that carries it, and has room for a whole piece of input, which is base64."""
END = "goldsmith-end"
"""A line that no message has: there are no words like that in it."""
FIRST_PAUSE = 0.03
SLOWER = 1.4
LONGEST_PAUSE = 0.3
"""Seconds between two looks at a program of ours; the longer it takes, the longer."""
PATIENCE = 20.0
"""Seconds in which the far end is there."""
SAYS_NOTHING = f"what was started in the guest says nothing for {PATIENCE:g} s"
LULL = 0.02
"""Seconds in which a message may come, whose turn saves one that only brings something."""
LAST_PATIENCE = 2.0
"""Seconds in which those who waited there have ended when it has gone."""
SILENCE = 20.0
"""Seconds in which an agent whose guest has much to do, or is being backed up, may say nothing."""
LOOK = 10.0
"""Seconds of silence after which we look whether the far end is still there."""
START = """
umask 077
f=$(cat <<'{end}'
{far_end}{end}
)
d=$(mktemp -d /run/goldsmith.XXXXXX || mktemp -d) && mkfifo "$d/in" "$d/out" "$d/turn" || exit
setsid sh -c 'exec 8<>"$1/turn" 9<>"$1/out"; echo 0 >&8; sh -c "$2" <>"$1/in" >&9 8>&- 9>&-
  rm -rf "$1"; exec 8>&- 9>&-; kill -s KILL 0' sh "$d" "$f" </dev/null >/dev/null 2>&1 &
echo "$! $d"
"""
"""The far end's keeper holds the pipes until nobody can come to wait at them any more, lets go who waits there, and
ends what the far end has left in its process group."""
WRITE = "cat >in <<'{end}'\n{data}{end}\n"
READ = """
while read -r t <turn && [ "$t" != {turn} ]; do echo "$t" >turn; sleep 0.05; done
dd bs=64k count=1 <out
sleep 0.02
dd bs=64k count=8 iflag=nonblock <out
echo {next} >turn
"""
"""A pipe has 64 KiB at once (pipe(7)). Where dd or sleep cannot do that, less is brought at a time."""
TURN = "exec 2>/dev/null; cd {folder} || exit\n"
TURNS = 10
"""Numbers of turns: of one digit, so that two who read the pipe at once each have a whole one in the end."""
LOOK_FOR = """
kill -0 {pid} && exit
cd {folder} && exec 3<>in 4<>out 5<>turn && rm -rf {folder}
sleep 1
exit 1
"""
"""A keeper that was killed lets nobody go: who waits at a pipe is let in, and finds its end."""
Answer = TypeVar("Answer")


@dataclass
class AgentTerminal:
    """The far end's pipes, and the turns that are under way there: one more than messages that were not answered."""

    agent: Agent
    pid: int
    """Of the far end's keeper in the guest."""
    folder: str
    """Where its pipes are, quoted for a shell."""
    _turns: deque[int] = field(default_factory=deque)
    """The agent's numbers of those who are to bring what comes next, in their order."""
    _last: int = -1
    _beginning: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stir: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, data: bytes) -> None:
        """Write a message of whole lines.

        :raises TerminalEnded: it cannot be written.
        """
        await self._begin_turn(WRITE.format(end=END, data=data.decode("ascii")))
        self._stir.set()

    async def _begin_turn(self, script: str = "") -> None:
        async with self._beginning:
            if self._turns and not script:
                return  # somebody's message has begun one meanwhile
            turn = (self._last + 1) % TURNS
            reading = READ.format(turn=turn, next=(turn + 1) % TURNS)
            script = f"{TURN.format(folder=self.folder)}{script}{reading}"
            self._turns.append(await _call(lambda: self.agent.start(script)))
            self._last = turn

    async def read(self) -> bytes:
        """Return what comes next; nothing at the end.

        :raises TerminalEnded: the guest cannot be asked any more.
        """
        if not self._turns:
            await asyncio.sleep(LULL)
            await self._begin_turn()
        pid = self._turns[0]
        while (ended := await _find_end(self.agent, pid, LOOK, self._stir)) is None:
            if not await self._is_there():
                return b""
        self._turns.popleft()
        return ended.output.encode("ascii", "replace")

    async def _is_there(self) -> bool:
        """Tell whether the far end's keeper lives; do what one that was killed could not do."""
        pid = await _call(lambda: self.agent.start(LOOK_FOR.format(pid=self.pid, folder=self.folder)))
        ended = await _find_end(self.agent, pid, PATIENCE)
        return ended is not None and ended.code == 0

    async def keep_alive(self) -> None:
        """There is nothing that would break by silence."""

    async def close(self) -> None:
        """Ask for the turns that are left, which the agent would remember for ever."""
        with suppress(TerminalEnded, TimeoutError):
            async with asyncio.timeout(LAST_PATIENCE):
                for pid in self._turns:
                    await _find_end(self.agent, pid, LAST_PATIENCE)


@asynccontextmanager
async def open_agent_session(agent: Agent) -> AsyncIterator[Session]:
    """Put the far end into a virtual machine, and speak with it while the block runs.

    :raises ConsoleFailed: no agent answers there, or it cannot be started.
    """
    terminal = await _start_far_end(agent)
    session = Session(terminal, LIMITS)
    try:
        await asyncio.wait_for(session.await_far_end(), PATIENCE)
        async with session.running():
            yield session
    except TimeoutError as error:
        raise ConsoleFailed(SAYS_NOTHING) from error
    finally:
        await terminal.close()


async def _start_far_end(agent: Agent) -> AgentTerminal:
    pid = await _enter(lambda: agent.start(START.format(end=END, far_end=render_far_end(LIMITS))))
    ended = await _find_end(agent, pid, PATIENCE)
    if ended is None:
        raise ConsoleFailed(SAYS_NOTHING)
    number, _, folder = ended.output.strip().partition(" ")
    if ended.code or not number.isdigit() or not folder:
        said = ended.complaints.strip() or f"exit code {ended.code}"
        raise ConsoleFailed(
            f"nothing can be started in the guest: {said}", hint="it needs sh, mktemp, mkfifo and setsid"
        )
    return AgentTerminal(agent, int(number), shlex.quote(folder))


async def _find_end(agent: Agent, pid: int, limit: float, stir: asyncio.Event | None = None) -> Ended | None:
    """Wait until a program has ended, at most `limit` seconds; look more often again after something has happened.

    No look is given up on its way: the agent tells each end once.
    """
    loop, pause, stirred = asyncio.get_running_loop(), FIRST_PAUSE, stir or asyncio.Event()
    deadline = loop.time() + limit
    while loop.time() < deadline:
        stirred.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(stirred.wait(), pause)
            pause = FIRST_PAUSE
            continue
        if (ended := await _call(lambda: agent.find_end(pid))) is not None:
            return ended
        pause = min(pause * SLOWER, LONGEST_PAUSE)
    return None


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
    except PermissionMissing as error:
        hint = error.hint or "whoever administers the node has to grant it (docs/proxmox.md)"
        raise ConsoleFailed(f"it may not be used: {error.reason}", hint=hint) from error
    except ApiFailed as error:
        hint = error.hint or "does it run, with agent: 1 in its options, and with qemu-guest-agent inside?"
        raise ConsoleFailed(f"no guest agent answers: {error.reason}", hint=hint) from error
