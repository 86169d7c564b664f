"""A request that becomes a websocket, led to a port of this machine: what Proxmox's web server does for consoles."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

from goldsmith.node.faults import ApiFault

_HOST = "127.0.0.1"
_MOST_PAYLOAD = 128 << 10
"""Bytes of one message (PVE 8.4, `max_payload_size`)."""
_PIECE = 64 << 10
_PROTOCOL = "binary"


def wants_websocket(request: web.Request) -> bool:
    """Tell whether a client asks for the connection to become a websocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def lead_to_port(request: web.Request, port: int) -> web.StreamResponse:
    """Pass bytes on between a client and a port, as long as both are there.

    :raises ApiFault: nobody listens there any more; PVE's words.
    """
    try:
        reader, writer = await asyncio.open_connection(_HOST, port)
    except OSError as error:
        raise ApiFault(f"connect to 'localhost:{port}' failed: {error.strerror}") from error
    client = web.WebSocketResponse(protocols=(_PROTOCOL,), max_msg_size=_MOST_PAYLOAD, compress=False)
    try:
        await client.prepare(request)
        output = asyncio.create_task(_pass_output(reader, client))
        try:
            await _pass_input(client, writer)
        finally:
            output.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await output
    finally:
        writer.close()
    return client


async def _pass_input(client: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for message in client:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            break
        writer.write(message.data if isinstance(message.data, bytes) else message.data.encode())
        with suppress(ConnectionError):
            await writer.drain()


async def _pass_output(reader: asyncio.StreamReader, client: web.WebSocketResponse) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_PIECE):
            await client.send_bytes(data)
    await client.close()
