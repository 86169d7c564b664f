"""Certificates: the pin that holds from the first byte on, and what to tell a person when one does not fit."""

from __future__ import annotations

import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

from requests.adapters import HTTPAdapter

from goldsmith.pve.connection import Connection, Endpoint, normalise_fingerprint, render_fingerprint


class NodeAdapter(HTTPAdapter):
    """Speaks HTTPS to one node. A pinned fingerprint is asserted on every connection before a request is sent on it."""

    def __init__(self, fingerprint: str | None) -> None:
        self._fingerprint = normalise_fingerprint(fingerprint) if fingerprint else None
        super().__init__(pool_connections=2, pool_maxsize=4, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the pool; urllib3 compares the certificate with `assert_fingerprint` right after the handshake."""
        super().init_poolmanager(connections, maxsize, block, assert_fingerprint=self._fingerprint, **kwargs)

    def drop_idle(self) -> None:
        """Close connections nobody uses. pveproxy ends idle ones after seconds: a write must not meet its end."""
        self.poolmanager.clear()


def find_authorities() -> str | bool:
    """Return where this machine keeps the authorities that it trusts; True (what requests brings) where it keeps none.

    OpenSSL's own places, and SSL_CERT_FILE and SSL_CERT_DIR: an authority that an operator adds to the system counts.
    """
    places = ssl.get_default_verify_paths()
    return places.cafile or places.capath or True


def choose_verify(connection: Connection, endpoint: Endpoint) -> bool | str:
    """Return what `requests` is to verify a certificate by. False only where a pin takes the authority's place."""
    if connection.ca_file is not None:
        return str(connection.ca_file)
    return False if endpoint.fingerprint is not None else find_authorities()


def make_context(connection: Connection, endpoint: Endpoint) -> ssl.SSLContext:
    """Return what verifies a node's certificate as `choose_verify` and a pin say, for who speaks TLS by himself.

    A pin is compared right after the handshake, before a byte is sent.
    """
    verify = choose_verify(connection, endpoint)
    context = ssl.create_default_context()
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif isinstance(verify, str):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        is_folder = Path(verify).is_dir()
        context.load_verify_locations(capath=verify if is_folder else None, cafile=None if is_folder else verify)
    if endpoint.fingerprint is not None:
        context.sslobject_class = _make_pinned(normalise_fingerprint(endpoint.fingerprint))
    return context


def _make_pinned(wanted: str) -> type[ssl.SSLObject]:
    class Pinned(ssl.SSLObject):
        """One side of a TLS connection whose other side has to show the pinned certificate."""

        def do_handshake(self) -> None:
            super().do_handshake()
            shown = hashlib.sha256(self.getpeercert(binary_form=True) or b"").hexdigest()
            if shown != wanted:
                raise ssl.SSLCertVerificationError(f"Fingerprints did not match: it shows {shown}")

    return Pinned


def has_certificate_fault(error: BaseException) -> bool:
    """Tell a certificate that is not trusted from any other TLS trouble (a plain HTTP server, a broken handshake)."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    said = str(error)
    return "CERTIFICATE_VERIFY_FAILED" in said or "Fingerprints did not match" in said


def is_trusted(endpoint: Endpoint, timeout: float = 5.0) -> bool:
    """Tell whether an authority that this machine trusts vouches for the certificate that a node shows."""
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=endpoint.host),
        ):
            return True
    except OSError:
        return False


def find_shown_fingerprint(endpoint: Endpoint, timeout: float = 5.0) -> str | None:
    """Return the fingerprint of the certificate that the node shows, or None. Nothing is sent to it.

    For telling a person only: it is no reason to trust the node.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as tls,
        ):
            certificate = tls.getpeercert(binary_form=True)
    except OSError:
        return None
    return render_fingerprint(hashlib.sha256(certificate).digest()) if certificate else None
