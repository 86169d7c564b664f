"""One terminal of a container, over a websocket: the one door to aiohttp's client.

The protocol is that of Proxmox's xterm.js (pve-xtermjs, termproxy): first `USER:TICKET`, which is answered `OK`, then
`0:LENGTH:DATA`, `1:COLUMNS:ROWS:` and `2` go there, and bytes come back. pveproxy takes whole frames of at most 128 KiB
only, and termproxy may lose its place where its buffer of 4096 bytes ends within a header: see `session`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from goldsmith.base.errors import (
    AuthenticationFailed,
    CertificateError,
    ConsoleFailed,
    NodeUnreachable,
    PermissionMissing,
    PveError,
)
from goldsmith.pve.console.invitation import Invitation
from goldsmith.pve.console.session import Session
from goldsmith.pve.tls import has_certificate_fault

PATIENCE = 10.0
"""Seconds that the node waits for us, for our ticket (termproxy), and we for its answer."""
HEARTBEAT = 15.0
"""Seconds between two pings of the websocket; one that is not answered within half of it ends the connection."""
PING_PAUSE = 25.0
"""Seconds between two pings of termproxy's own; xterm.js sends one every thirty."""
PROTOCOL = "binary"
ACCEPTED = b"OK"
MAPPED: dict[type[Exception], type[PveError]] = {
    aiohttp.ClientSSLError: CertificateError,
    aiohttp.ClientConnectionError: NodeUnreachable,
    aiohttp.ClientError: NodeUnreachable,
}
"""What aiohttp raises, and what it becomes; the first that fits."""


class Terminal:
    """A terminal that is open."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def write(self, data: bytes) -> None:
        """Type. Nothing is lost as long as the other side reads as fast as it says.

        :raises ConsoleFailed: the connection has ended.
        """
        await self._send(b"0:%d:%s" % (len(data), data))

    async def keep_alive(self) -> None:
        """Say again and again that we are there."""
        while True:
            await asyncio.sleep(PING_PAUSE)
            await self._send(b"2")

    async def resize(self, columns: int, rows: int) -> None:
        """Say how large a person's window is."""
        await self._send(b"1:%d:%d:" % (columns, rows))

    async def read(self) -> bytes:
        """Return what comes next; nothing at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                return bytes(message.data)
            if message.type is aiohttp.WSMsgType.TEXT:
                return str(message.data).encode()
            if message.type not in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
                return b""

    async def _send(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(data)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ConsoleFailed("the connection to the console has ended") from error


@asynccontextmanager
async def open_terminal(invitation: Invitation) -> AsyncIterator[Terminal]:
    """Use the console while the block runs.

    :raises ConsoleFailed: the node refuses the ticket, or the console has ended at once.
    :raises NodeUnreachable, CertificateError, AuthenticationFailed, PermissionMissing: no websocket comes about.
    """
    introduction = invitation.introduction
    connector = aiohttp.TCPConnector(ssl=introduction.context)
    async with aiohttp.ClientSession(connector=connector, trust_env=introduction.uses_proxy) as session:
        try:
            socket = await session.ws_connect(
                f"{introduction.base}{invitation.path}/vncwebsocket",
                params={"port": str(invitation.port), "vncticket": invitation.ticket},
                headers=introduction.headers,
                protocols=(PROTOCOL,),
                heartbeat=HEARTBEAT,
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            )
        except aiohttp.ClientError as error:
            raise _explain(invitation, error) from error
        async with socket:
            terminal = Terminal(socket)
            await _enter(terminal, invitation)
            yield terminal


@asynccontextmanager
async def open_console_session(invite: Callable[[], Invitation]) -> AsyncIterator[Session]:
    """Put the far end into a container by its console, and speak with it while the block runs.

    :raises PveError: the console cannot be entered.
    """
    invitation = await asyncio.to_thread(invite)
    async with open_terminal(invitation) as terminal:
        session = Session(terminal)
        await session.take_over()
        async with session.running():
            yield session


async def _enter(terminal: Terminal, invitation: Invitation) -> None:
    await terminal._send(f"{invitation.user}:{invitation.ticket}\n".encode())  # noqa: SLF001 - no typing yet
    try:
        answer = await asyncio.wait_for(terminal.read(), PATIENCE)
    except TimeoutError as error:
        raise ConsoleFailed(f"the console does not answer within {PATIENCE:g} s") from error
    if not answer.startswith(ACCEPTED):
        raise ConsoleFailed("the node refuses the console's ticket", hint=invitation.advice)


def _explain(invitation: Invitation, error: aiohttp.ClientError) -> PveError:
    place = invitation.introduction.base.partition("://")[2].partition("/")[0]
    said = f"{place}: no websocket to the console"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        if error.status == 403:
            return PermissionMissing(f"GET {invitation.path}/vncwebsocket", 403, error.message)
        kind = AuthenticationFailed if error.status == 401 else NodeUnreachable
        return kind(f"{said}: {error.status} {error.message}", hint="a proxy in between has to let websockets through")
    if has_certificate_fault(error):
        return CertificateError(f"the certificate of {place} is not trusted: {_tell(error)}")
    mapped = next(kind for cls, kind in MAPPED.items() if isinstance(error, cls))
    return mapped(f"{said}: {_tell(error)}")


def _tell(error: BaseException) -> str:
    inner = error.__cause__ or error.__context__
    is_dull = isinstance(inner, ssl.SSLError | OSError)
    return str(inner if is_dull and inner is not None else error) or type(error).__name__
