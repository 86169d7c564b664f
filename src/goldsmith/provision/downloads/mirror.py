"""Asking mirrors: plain HTTP, to the very address that the rules have allowed, and nothing of this machine's own in it.

No proxy of this machine's environment is used and no password of its user (`requests` would do both): the guest is to
get what it would get by itself.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import ip_address

from goldsmith.provision.downloads.rules import PORT, Url, is_allowed

CONNECT_TIMEOUT = 3.0
TIMEOUT = 30.0
"""Seconds without a byte: as long as apt itself waits (apt.conf(5), Acquire::http::Timeout)."""
Connect = Callable[[Url], socket.socket]


class Refused(OSError):
    """The rules do not allow to ask this machine."""


def connect_mirror(url: Url, port: int = PORT) -> socket.socket:
    """Connect to a mirror.

    :raises OSError: none of its addresses is allowed and answers.
    """
    fault: OSError = Refused(f"{url.host} is no machine that is asked")
    for family, kind, protocol, _, address in socket.getaddrinfo(url.host.strip("[]"), port, type=socket.SOCK_STREAM):
        if not is_allowed(ip_address(str(address[0]).partition("%")[0]), url.path):
            continue
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(CONNECT_TIMEOUT)
            connection.connect(address)
            _check_other(connection, url)
        except OSError as error:
            connection.close()
            fault = error
        else:
            connection.settimeout(TIMEOUT)
            return connection
    raise fault


def _check_other(connection: socket.socket, url: Url) -> None:
    """Refuse this machine itself, whichever of its addresses was meant: it would come from the same."""
    if connection.getsockname()[0] == connection.getpeername()[0]:
        raise Refused(f"{url.host} is this machine")


class Asker:
    """Asks mirrors, one after the other; the connection stays as long as the next question is for the same one."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._host = ""
        self._connection: HTTPConnection | None = None
        self._is_ended = False

    def ask(self, method: str, url: Url, headers: Mapping[str, str]) -> HTTPResponse:
        """Ask, and return the answer; its content has not been read yet.

        :raises OSError: the mirror does not answer; :raises HTTPException: what it says is no HTTP.
        """
        if self._connection is not None and self._host == url.host:
            with suppress(OSError, HTTPException):  # it may have been closed meanwhile, which is no fault
                return self._send(self._connection, method, url, headers)
        return self._send(self._open(url), method, url, headers)

    def _open(self, url: Url) -> HTTPConnection:
        self.close()
        connection = HTTPConnection(url.host)
        connection.auto_open = 0  # it would connect to whatever the name means by then
        connection.sock = self._connect(url)
        self._host, self._connection = url.host, connection
        if self._is_ended:  # while it was being opened
            self.end()
        return connection

    @staticmethod
    def _send(connection: HTTPConnection, method: str, url: Url, headers: Mapping[str, str]) -> HTTPResponse:
        connection.putrequest(method, url.path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**headers, "host": url.host}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()

    def close(self) -> None:
        """Close the connection; what was not read of an answer is lost."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def end(self) -> None:
        """Let whoever waits for an answer, in another thread, wait no longer."""
        self._is_ended = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
