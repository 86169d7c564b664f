"""A websocket to a console trusts whom the API's calls trust: a pin holds before a byte is sent."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path

import pytest

from goldsmith.base.secrets import Secret
from goldsmith.node.certificate import ensure_certificate
from goldsmith.node.server import make_tls_context
from goldsmith.pve.connection import Connection, render_fingerprint
from goldsmith.pve.tls import make_context


async def visit(folder: Path, connection: Connection) -> bytes:
    """Say hello to a node, and return what it has got."""
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read())
        writer.close()

    certificate, key = ensure_certificate(folder, "pve")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=make_tls_context(certificate, key))
    context = make_context(connection, connection.endpoints[0])
    port = server.sockets[0].getsockname()[1]
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
        writer.write(b"token")
        writer.close()
        await writer.wait_closed()
    finally:
        await asyncio.sleep(0.05)
        server.close()
    return bytes(got)


def connect(**values: object) -> Connection:
    return Connection("127.0.0.1", token_id="root@pam!t", token_secret=Secret("x"), **values)  # type: ignore[arg-type]


def find_pin(folder: Path) -> str:
    certificate, _ = ensure_certificate(folder, "pve")
    return render_fingerprint(hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).digest())


def test_the_pinned_certificate_is_taken(tmp_path: Path) -> None:
    assert asyncio.run(visit(tmp_path, connect(fingerprint=find_pin(tmp_path)))) == b"token"


def test_another_one_gets_nothing(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Fingerprints did not match"):
        asyncio.run(visit(tmp_path, connect(fingerprint="AB:" * 31 + "AB")))


def test_an_authority_is_trusted_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    certificate, _ = ensure_certificate(tmp_path, "pve")
    assert asyncio.run(visit(tmp_path, connect(ca_file=certificate))) == b"token"
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(visit(tmp_path, connect()))


def test_with_both_both_must_hold(tmp_path: Path) -> None:
    certificate, _ = ensure_certificate(tmp_path, "pve")
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(visit(tmp_path, connect(ca_file=certificate, fingerprint="AB:" * 31 + "AB")))
