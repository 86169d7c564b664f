"""Who we are to the node: an API token in a header, or a ticket that is renewed before it dies.

Both are what proxmoxer's session asks of its `auth`: `verify_ssl` and `timeout` of every call, cookies, headers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from requests import PreparedRequest
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar

from goldsmith.pve.connection import Connection

RENEW_AFTER, LIFETIME = 3600.0, 7200.0 - 60
"""Seconds; a ticket is good for two hours (PVE 8.4), and our clock need not be the node's."""
Timeout = tuple[float, float]
"""Seconds to connect, seconds without a byte."""


@dataclass(frozen=True, repr=False)
class Ticket:
    """What a login gave: the cookie's value, and the word that every write must repeat."""

    ticket: str
    csrf: str
    fetched: float = field(default_factory=time.monotonic)


class NoAuth(AuthBase):
    """Keeps the session's own authentication off the request that asks for a ticket."""

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Leave the request as it is."""
        return r


class TokenAuth(AuthBase):
    """An API token: nothing to fetch, nothing to renew."""

    def __init__(self, connection: Connection, timeout: Timeout) -> None:
        self.verify_ssl: bool | str = True
        self.timeout = timeout
        self._name = f"{connection.token_user}!{connection.token_name}"
        self._secret = connection.token_secret

    def get_cookies(self) -> RequestsCookieJar:
        """Return no cookie."""
        return RequestsCookieJar()

    def get_headers(self) -> dict[str, str]:
        """Return what says who we are, as headers."""
        return {"Authorization": f"PVEAPIToken={self._name}={self._secret.reveal()}"}

    def forget(self) -> bool:
        """Tell that asking again will not help."""
        return False

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Add the header."""
        r.headers.update(self.get_headers())
        return r


class PasswordAuth(AuthBase):
    """A ticket, fetched by `log_in` at the first call that needs one, and by `renew` before it dies."""

    def __init__(self, log_in: Callable[[], Ticket], renew: Callable[[Ticket], Ticket], timeout: Timeout) -> None:
        self.verify_ssl: bool | str = True
        self.timeout = timeout
        self._log_in, self._renew = log_in, renew
        self._ticket: Ticket | None = None

    def forget(self) -> bool:
        """Drop a ticket that the node does not take; tells whether there was one, so that a new one may help."""
        had, self._ticket = self._ticket is not None, None
        return had

    def take(self, other: PasswordAuth) -> None:
        """Use the ticket that another one has, if it has one."""
        self._ticket = other._ticket

    def get_headers(self) -> dict[str, str]:
        """Return what says who we are, as headers. A ticket has letters that a cookie may not have (RFC 6265)."""
        return {"Cookie": f"PVEAuthCookie={quote(self._current().ticket, safe='')}"}

    def get_cookies(self) -> RequestsCookieJar:
        """Return the cookie of a ticket that is good now. proxmoxer asks before it sends anything."""
        jar = RequestsCookieJar()
        jar.set("PVEAuthCookie", self._current().ticket)
        return jar

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Add the token against cross-site requests, which every write needs."""
        if r.method != "GET":
            r.headers["CSRFPreventionToken"] = self._current().csrf
        return r

    def _current(self) -> Ticket:
        if self._ticket is None or time.monotonic() - self._ticket.fetched > LIFETIME:
            self._ticket = self._log_in()
        elif time.monotonic() - self._ticket.fetched > RENEW_AFTER:
            self._ticket = self._renew(self._ticket)
        return self._ticket
