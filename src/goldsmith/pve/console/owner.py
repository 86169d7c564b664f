"""Who holds the way into a guest: a thread with an event loop, behind a socket in a directory that only we can enter.

It connects when the first program is wanted, and anew after the session has ended: a guest that was rebooted is entered
again without anybody's doing. Tickets and tokens are in its memory and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, suppress
from pathlib import Path

from goldsmith.base.errors import ConsoleFailed, GoldsmithError
from goldsmith.base.private import open_private_directory
from goldsmith.pve.attach import ENVIRONMENT
from goldsmith.pve.console import wire
from goldsmith.pve.console.session import GRACE, Program, Session, TerminalEnded

PREFIX = "goldsmith-console-"
SOCKET = "s"
PAUSE = 0.3
"""Seconds between two attempts to enter: the guest may only be starting."""
END_PATIENCE = 5.0
BACKLOG = 64
PARTING = 0.1
"""Seconds in which asyncio closes TLS connections, of which it does not tell the end (aiohttp, "Graceful Shutdown")."""


def render_script(argv: list[str]) -> str:
    """Return a program as a script: what a login would set, then the program's own words."""
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in ENVIRONMENT.items())
    return f"umask 022\nunset OLDPWD\ncd /\n{variables}exec {shlex.join(argv)}\n"


Enter = Callable[[], AbstractAsyncContextManager[Session]]
"""Begins a session, which ends with the block."""


class Owner:
    """Holds the way into one guest: one session at a time."""

    def __init__(self, enter: Enter) -> None:
        self._enter = enter
        self._session: Session | None = None
        self._stack = AsyncExitStack()
        self._connecting = asyncio.Lock()
        self._failed_at = float("-inf")
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket, end: asyncio.Event) -> None:
        """Serve those who come until the end."""
        server = await asyncio.start_unix_server(self._accept, sock=listener, limit=wire.PIECE)
        try:
            await end.wait()
        finally:
            server.close()
            for task in list(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await self._stack.aclose()
            await asyncio.sleep(PARTING)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve_program(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # who wanted the program has gone
        except GoldsmithError as error:
            with suppress(ConnectionError):
                writer.write(wire.pack(b"!", json.dumps([error.message, error.hint]).encode()))
                await writer.drain()
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve_program(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, data = await _read(reader)
        if kind != b"h":
            return
        session = await self._get_session()
        program = await session.start_program(render_script(json.loads(data)))
        feeding = asyncio.create_task(_feed(session, program, reader))
        watching = asyncio.create_task(_pass_output(session, program, writer))
        try:
            await asyncio.wait({feeding, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            for task in (feeding, watching):
                task.cancel()
            await asyncio.gather(feeding, watching, return_exceptions=True)
            with suppress(GoldsmithError, TimeoutError):
                await asyncio.wait_for(_end(session, program), END_PATIENCE)

    async def _get_session(self) -> Session:
        """Return the session, begun anew where it has ended.

        :raises PveError: the guest cannot be entered.
        """
        async with self._connecting:
            if self._session is None or self._session.fault is not None:
                self._session = None
                await self._stack.aclose()
                try:
                    self._session = await self._try_session()
                except TerminalEnded:
                    self._session = await self._try_session()
            return self._session

    async def _try_session(self) -> Session:
        """Begin a session, some time after the last attempt that failed.

        :raises TerminalEnded: a far end, of which nobody is left, has gone with its terminal; a new one can be had.
        """
        await asyncio.sleep(max(0.0, self._failed_at + PAUSE - asyncio.get_running_loop().time()))
        try:
            return await self._stack.enter_async_context(self._enter())
        except BaseException:
            self._failed_at = asyncio.get_running_loop().time()
            await self._stack.aclose()
            raise


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, length = wire.HEADER.unpack(await reader.readexactly(wire.HEADER.size))
    if length > wire.MOST:
        raise ConsoleFailed(f"{length} bytes at once are too many at a time: words of a program, perhaps")
    return kind, await reader.readexactly(length)


async def _feed(session: Session, program: Program, reader: asyncio.StreamReader) -> None:
    """Pass input and signals on; ends when who wanted the program has gone, or the session."""
    with suppress(ConnectionError, asyncio.IncompleteReadError, ConsoleFailed):
        signals: set[asyncio.Task[None]] = set()
        inputs: asyncio.Queue[bytes | None] = asyncio.Queue(2)
        typing = asyncio.create_task(_type(session, program, inputs))
        try:
            while True:
                kind, data = await _read(reader)
                if kind == b"s":  # not behind input that the program does not read
                    signals.add(asyncio.create_task(session.send_signal(program, data.decode("ascii", "replace"))))
                elif kind in b"iz":
                    await inputs.put(data if kind == b"i" else None)
        finally:
            typing.cancel()
            await asyncio.gather(typing, *signals, return_exceptions=True)


async def _type(session: Session, program: Program, inputs: asyncio.Queue[bytes | None]) -> None:
    most, held = session.limits.given, b""
    with suppress(ConsoleFailed):
        while (data := await inputs.get()) is not None:
            held += data
            while held and (len(held) >= most or inputs.empty()):
                await session.give_input(program, held[:most])
                held = held[most:]
        if held:
            await session.give_input(program, held)
        await session.end_input(program)
    while True:  # nothing may come any more; whoever sends it anyway must not wait for ever
        await inputs.get()


async def _pass_output(session: Session, program: Program, writer: asyncio.StreamWriter) -> None:
    """Pass output on until the program has ended and no more comes, then its exit code.

    :raises ConsoleFailed: the session has ended before.
    """
    while program.code is None or program.open_streams or not program.events.empty():
        try:
            patience = None if program.code is None else GRACE
            kind, data = await asyncio.wait_for(program.events.get(), patience)
        except TimeoutError:
            break  # a child in the background holds the streams open
        if kind == b"!":
            assert session.fault is not None
            raise ConsoleFailed(session.fault.message, hint=session.fault.hint)
        if kind:
            writer.write(wire.pack(kind, data))
            await writer.drain()
            await session.grant(program, kind.decode())
    writer.write(wire.pack(b"x", str(program.code).encode()))
    await writer.drain()


async def _end(session: Session, program: Program) -> None:
    """End what still runs: it is asked first."""
    if program.code is None:
        await session.send_signal(program, "TERM")
        with suppress(TimeoutError):
            await asyncio.wait_for(_await_end(program), GRACE)
    await session.forget(program)


async def _await_end(program: Program) -> None:
    while program.code is None:
        kind, _ = await program.events.get()
        if kind == b"!":
            return


@contextmanager
def open_owner(enter: Enter) -> Iterator[Path]:
    """Hold a way while the block runs; return the socket. Nothing is asked of the node before it is needed."""
    with open_private_directory(PREFIX) as folder:
        loop, end = asyncio.new_event_loop(), asyncio.Event()
        listener = _listen(folder)

        def work() -> None:
            try:
                loop.run_until_complete(Owner(enter).serve(listener, end))
            finally:
                loop.close()

        thread = threading.Thread(target=work, name="console", daemon=True)
        thread.start()
        try:
            yield folder / SOCKET
        finally:
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(end.set)
            thread.join(END_PATIENCE * 2)


def _listen(folder: Path) -> socket.socket:
    """Listen, by way of the directory's descriptor: a socket's path may have 107 bytes only (unix(7))."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)
    listener.listen(BACKLOG)
    return listener
