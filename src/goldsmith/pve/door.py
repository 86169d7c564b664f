"""The one door to proxmoxer and to HTTP: calls in, plain JSON or our errors out.

What proxmoxer 2.3 does that we do not let through: it ends the process when requests is missing, waits 5 seconds only,
asks for tickets outside its session (where a pin would not hold), reads uploads into memory, takes an answer that is
not JSON for a result, and has two exception roots. Its own logging of parameters (passwords too) is switched off.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO
from urllib.parse import quote

import requests
import urllib3.exceptions
from proxmoxer.backends.https import JsonSerializer, ProxmoxHttpSession
from proxmoxer.core import AuthenticationError, ProxmoxResource, ResourceException

from goldsmith.base.errors import (
    ApiFailed,
    AuthenticationFailed,
    CertificateError,
    NodeUnreachable,
    PermissionMissing,
    PveError,
)
from goldsmith.base.secrets import Masker, Secret
from goldsmith.pve.advice import HELD, find_advice, is_passing
from goldsmith.pve.auth import NoAuth, PasswordAuth, Ticket, Timeout, TokenAuth
from goldsmith.pve.connection import Connection, Endpoint
from goldsmith.pve.multipart import MultipartBody, Progress
from goldsmith.pve.tls import NodeAdapter, choose_verify, find_shown_fingerprint, has_certificate_fault, make_context

for _name in ("proxmoxer.core", "proxmoxer.backends.https"):
    logging.getLogger(_name).disabled = True

Parameter = str | int | float | bool | Secret | None
GET_TRIES = 4
LOCK_TRIES = 3
PAUSE = 0.15
HELD_PATIENCE, HELD_PAUSE = 120.0, 0.5
"""Seconds: how long a guest is waited for that a backup or snapshot has in hand, and between two tries."""
IDLE_LIMIT = 2.0
SECOND_FACTOR = "set PROXMOX_API_TOTP to the code of the moment, or use an API token"
UPLOAD_TIMEOUT = 900.0
"""Seconds: the node copies an upload into its storage before it answers."""


@dataclass(frozen=True)
class Introduction:
    """What a connection of another kind (a websocket) needs, to be at the same place and the same user there."""

    base: str
    """Of the address: `wss://host:port/api2/json`."""
    headers: Mapping[str, str] = field(repr=False)
    """Who we are: secret."""
    context: ssl.SSLContext
    uses_proxy: bool
    """Whether a proxy of the environment may lie in between."""


class _Answers(JsonSerializer):  # type: ignore[misc]
    """Proxmox's JSON, strictly: what is not `{"data": ...}` did not come from a Proxmox."""

    def loads(self, response: requests.Response) -> Any:
        """Return the data of a good answer."""
        try:
            return json.loads(response.content)["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise requests.exceptions.InvalidJSONError(f"{response.url} answered something else than JSON") from error

    def loads_errors(self, response: requests.Response) -> dict[str, Any]:
        """Return the whole body of a bad answer: `message` and `errors`. It may be empty (401, PVE 8.4)."""
        try:
            body = json.loads(response.content)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


MAPPED: dict[type[Exception], type[PveError]] = {
    AuthenticationError: AuthenticationFailed,
    ResourceException: ApiFailed,
    requests.exceptions.RequestException: NodeUnreachable,
    requests.exceptions.HTTPError: NodeUnreachable,
    requests.exceptions.ConnectionError: NodeUnreachable,
    requests.exceptions.ProxyError: NodeUnreachable,
    requests.exceptions.SSLError: CertificateError,
    requests.exceptions.Timeout: NodeUnreachable,
    requests.exceptions.ConnectTimeout: NodeUnreachable,
    requests.exceptions.ReadTimeout: NodeUnreachable,
    requests.exceptions.ChunkedEncodingError: NodeUnreachable,
    requests.exceptions.ContentDecodingError: NodeUnreachable,
    requests.exceptions.RetryError: NodeUnreachable,
    requests.exceptions.TooManyRedirects: PveError,
    requests.exceptions.InvalidJSONError: PveError,
    requests.exceptions.JSONDecodeError: PveError,
    requests.exceptions.URLRequired: PveError,
    requests.exceptions.MissingSchema: PveError,
    requests.exceptions.InvalidSchema: PveError,
    requests.exceptions.InvalidURL: PveError,
    requests.exceptions.InvalidHeader: PveError,
    requests.exceptions.InvalidProxyURL: PveError,
    requests.exceptions.StreamConsumedError: PveError,
    requests.exceptions.UnrewindableBodyError: PveError,
}
"""Every exception of both packages and what it becomes. A test fails when one of them grows a class not listed here."""


class Door:
    """Calls of one API, at whichever of its endpoints can be reached. Not for several threads at once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._endpoint = connection.endpoints[0]
        self._timeout = (max(1.0, connection.timeout / 3), connection.timeout)
        self._session = ProxmoxHttpSession()
        self._session.max_redirects = 0  # a Proxmox never sends elsewhere, and secrets must not follow
        self._session.headers["accept"] = "application/json"
        self._session.hooks["response"].append(self._note_clock)
        self.clock_ahead: float | None = None
        """Seconds by which the node's clock was ahead of ours when it last answered; None: it does not say."""
        self._auth: TokenAuth | PasswordAuth = (
            TokenAuth(connection, self._timeout)
            if connection.token_id
            else PasswordAuth(self._log_in, self._renew, self._timeout)
        )
        self._session.auth = self._auth
        self._turn_to(self._endpoint)
        self._last_used = time.monotonic()

    @property
    def endpoint(self) -> Endpoint:
        """The place that is asked now."""
        return self._endpoint

    def _note_clock(self, response: requests.Response, **_: object) -> None:
        with suppress(KeyError, TypeError, ValueError):  # no date, or none that can be read
            self.clock_ahead = parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()

    def fork(self) -> Door:
        """Return a door of its own for another thread, at the same place; a ticket that is there is used there, too."""
        other = Door(self.connection)
        if isinstance(self._auth, PasswordAuth) and isinstance(other._auth, PasswordAuth):
            other._auth.take(self._auth)
        other._turn_to(self._endpoint)
        return other

    def introduce(self) -> Introduction:
        """Return how the place that is asked now is reached, and who we are there, for what is no request."""
        context = make_context(self.connection, self._endpoint)
        base = f"wss://{self._endpoint.address}/api2/json"
        return Introduction(base, self._auth.get_headers(), context, not self._endpoint.is_loopback)

    def _turn_to(self, endpoint: Endpoint) -> None:
        """Ask another place from now on. Each is recognised by its own certificate."""
        self._endpoint = endpoint
        self._base = f"https://{endpoint.address}/api2/json"
        self._session.trust_env = not endpoint.is_loopback  # a proxy has no business with this machine's own node
        self._session.close()
        self._session.adapters.clear()
        self._adapter = NodeAdapter(endpoint.fingerprint)
        self._session.mount("https://", self._adapter)
        self._auth.verify_ssl = choose_verify(self.connection, endpoint)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def get(self, path: str, /, **params: Parameter) -> object:
        """Read. Repeated when the connection fails: reading changes nothing."""
        for attempt in range(GET_TRIES - 1):
            try:
                return self._call("GET", path, params)
            except NodeUnreachable as error:
                if isinstance(error.__cause__, requests.exceptions.Timeout):
                    raise  # it has been waited for already
                time.sleep(PAUSE * 2**attempt)
        return self._call("GET", path, params)

    def post(self, path: str, params: Mapping[str, Parameter] | None = None) -> object:
        """Create or start something."""
        return self._write("POST", path, params or {})

    def put(self, path: str, params: Mapping[str, Parameter] | None = None) -> object:
        """Change something."""
        return self._write("PUT", path, params or {})

    def delete(self, path: str, params: Mapping[str, Parameter] | None = None) -> object:
        """Remove or stop something."""
        return self._write("DELETE", path, params or {})

    def upload(
        self, path: str, fields: Mapping[str, str], filename: str, source: BinaryIO, size: int,
        progress: Progress | None = None,
    ) -> object:  # fmt: skip
        """Send `size` bytes of a stream as a file; see `MultipartBody` for the order of `fields`."""
        body = MultipartBody(fields, filename, source, size, progress)
        request = requests.Request(
            "POST", self._base + _quote(path), data=body, headers={"Content-Type": body.content_type}, auth=self._auth
        )
        self._drop_idle()
        with self._mapped(f"POST {path}"):
            request.cookies = self._auth.get_cookies()
            return self._send(request, (self._timeout[0], max(self._timeout[1], UPLOAD_TIMEOUT)))

    def _log_in(self) -> Ticket:
        """Log in with the password, and with a code of the moment where the node asks for one."""
        answer = self._ask_ticket(password=self.connection.password.reveal())
        if answer.get("NeedTFA"):
            challenge = answer["ticket"]
            answer = self._ask_ticket(**{"password": f"totp:{self._ask_code()}", "tfa-challenge": challenge})
        return Ticket(answer["ticket"], answer["CSRFPreventionToken"])

    def _ask_code(self) -> str:
        if self.connection.second_factor is None:
            raise AuthenticationError(f"{self.connection.user} logs in with a second factor: {SECOND_FACTOR}")
        return self.connection.second_factor().reveal()

    def _renew(self, ticket: Ticket) -> Ticket:
        """Give a ticket that is still good for a new one: a code of the moment is not asked for again (PVE 6 to 9)."""
        answer = self._ask_ticket(password=ticket.ticket)
        return Ticket(answer["ticket"], answer["CSRFPreventionToken"])

    def _ask_ticket(self, **form: str) -> Any:
        form["username"] = self.connection.user
        request = requests.Request("POST", f"{self._base}/access/ticket", data=form, auth=NoAuth())
        return self._send(request, self._timeout)

    def _write(self, verb: str, path: str, params: Mapping[str, Parameter]) -> object:
        """Send once; again only where the node says that something else has the lock, so that nothing was done.

        For a file that is locked the node itself has waited already, ten seconds each time (PVE 8.4).
        """
        begun, tries = time.monotonic(), 0
        while True:
            try:
                return self._call(verb, path, params)
            except ApiFailed as error:
                tries += 0 if HELD.search(error.reason) else 1
                if not is_passing(error.reason) or tries == LOCK_TRIES or time.monotonic() - begun > HELD_PATIENCE:
                    raise
            time.sleep(min(PAUSE * 2**tries, HELD_PAUSE) if tries else HELD_PAUSE)

    def _call(self, verb: str, path: str, params: Mapping[str, Parameter]) -> object:
        """Call where somebody answers. A write goes elsewhere only when nothing of it has been sent."""
        failed: list[str] = []
        for endpoint in [*self._list_others(), None]:
            try:
                return self._call_here(verb, path, params)
            except NodeUnreachable as error:
                error.detail = "\n".join([*failed, error.detail]).strip()
                if endpoint is None or not (has_sent_nothing(error) or verb == "GET"):
                    raise
                failed.append(error.message)
                self._turn_to(endpoint)
        raise AssertionError("the last place either answers or raises")

    def _list_others(self) -> list[Endpoint]:
        """Return the other places, the one after the present one first."""
        places = self.connection.endpoints
        here = places.index(self._endpoint)
        return [*places[here + 1 :], *places[:here]]

    def _call_here(self, verb: str, path: str, params: Mapping[str, Parameter]) -> object:
        try:
            return self._request(verb, path, params)
        except AuthenticationFailed:
            # A ticket lives two hours; a machine that slept in between finds it dead. A 401 means nothing was done.
            if not self._auth.forget():
                raise
            return self._request(verb, path, params)

    def _request(self, verb: str, path: str, params: Mapping[str, Parameter]) -> object:
        if verb != "GET":
            self._drop_idle()
        resource = ProxmoxResource(base_url=self._base + _quote(path), session=self._session, serializer=_Answers())
        send: Callable[..., Any] = getattr(resource, verb.lower())
        with self._mapped(f"{verb} {path}", [value for value in params.values() if isinstance(value, Secret)]):
            answer: object = send(**{name: _render(value) for name, value in params.items() if value is not None})
        self._last_used = time.monotonic()
        return answer

    def _send(self, request: requests.Request, timeout: Timeout) -> Any:
        """Send what proxmoxer cannot (tickets, streams) over the same, pinned connections; return the answer's data."""
        prepared = self._session.prepare_request(request)
        settings = self._session.merge_environment_settings(prepared.url, {}, None, self._auth.verify_ssl, None)
        response: requests.Response = self._session.send(prepared, timeout=timeout, **settings)
        if response.status_code >= 400:
            errors = _Answers().loads_errors(response)
            raise ResourceException(response.status_code, "", response.reason, errors=errors)
        return _Answers().loads(response)

    def _drop_idle(self) -> None:
        if time.monotonic() - self._last_used > IDLE_LIMIT:
            self._adapter.drop_idle()

    def _mapped(self, call: str, secrets: list[Secret] | None = None) -> _Mapping:
        masker = Masker([self.connection.token_secret, self.connection.password, *(secrets or [])])
        return _Mapping(call, self.connection, self._endpoint, masker)


class _Mapping:
    """Turns what proxmoxer and requests raise inside the block into our errors."""

    def __init__(self, call: str, connection: Connection, endpoint: Endpoint, masker: Masker) -> None:
        self._call, self._connection, self._masker = call, connection, masker
        self._endpoint = endpoint

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ResourceException):
            raise self._from_answer(error) from error
        if isinstance(error, (AuthenticationError, requests.exceptions.RequestException)):
            raise self._from_transport(error) from error

    def _from_answer(self, error: Any) -> PveError:
        """Return the error of an answer of 400 or more. Its message is whole; the status line may be cut."""
        body: dict[str, Any] = error.errors or {}
        reason = self._masker.mask(str(body.get("message") or error.content or ""))
        status = int(error.status_code)
        if status == 401:
            return AuthenticationFailed(
                f"{self._endpoint.address} refuses {describe_user(self._connection)}: {reason.strip()}",
                hint="check user and password, or the token's id and secret",
            )
        if 595 <= status <= 599:  # pveproxy could not reach the cluster's node that the call is for
            return NodeUnreachable(f"{self._call}: {reason.strip() or status}", hint=find_advice(reason))
        said = body.get("errors")
        texts = {str(k): self._masker.mask(str(v)) for k, v in said.items()} if isinstance(said, dict) else {}
        kind = PermissionMissing if status == 403 else ApiFailed
        answered = kind(self._call, status, reason, texts)
        answered.hint = find_advice(reason, *texts.values())
        return answered

    def _from_transport(self, error: Exception) -> PveError:
        address, said = self._endpoint.address, self._masker.mask(_innermost(error))
        if isinstance(error, AuthenticationError):
            return AuthenticationFailed(f"{address}: {said}")
        if isinstance(error, requests.exceptions.SSLError):
            return self._from_tls(error, said)
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return NodeUnreachable(f"{address} does not answer", hint="check the address, and any firewall in between")
        if isinstance(error, requests.exceptions.Timeout):
            return NodeUnreachable(f"{self._call}: no answer from {address} in {self._connection.timeout:g} s")
        kind = next(MAPPED[cls] for cls in type(error).__mro__ if cls in MAPPED)
        return kind(f"{address}: {said}", hint="is that the address and port of a Proxmox VE node?")

    def _from_tls(self, error: Exception, said: str) -> PveError:
        address = self._endpoint.address
        if not has_certificate_fault(error):
            return NodeUnreachable(f"{address}: no TLS connection: {said}")
        shown = find_shown_fingerprint(self._endpoint)
        return CertificateError(
            f"the certificate of {address} is not trusted: {said}",
            detail=f"SHA-256 fingerprint it shows: {shown}" if shown else "",
            hint="compare it with `pvenode cert info` on the node; if it is the same, pin it (proxmox_fingerprint)",
        )


def has_sent_nothing(error: BaseException) -> bool:
    """Tell whether a call failed before a connection stood, so that the node cannot have done anything."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, requests.exceptions.ConnectTimeout | urllib3.exceptions.NewConnectionError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def describe_user(connection: Connection) -> str:
    """Name who we are there, as Proxmox writes it: `root@pam` or `root@pam!token`."""
    return f"{connection.token_user}!{connection.token_name}" if connection.token_id else connection.user


def _innermost(error: BaseException) -> str:
    """Return what the last exception of a chain says: `Connection refused`, not what three libraries wrap it in."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    for argument in error.args:  # urllib3 keeps the reason as an argument
        if isinstance(argument, BaseException):
            return _innermost(argument)
    return str(error) or type(error).__name__


def _quote(path: str) -> str:
    return quote(path, safe="/:!@,=+")


def _render(value: Parameter) -> str | int | float:
    """Render a parameter for a form: booleans are 1 and 0 there, nothing else (PVE 8.4)."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, bool):
        return int(value)
    assert value is not None
    return value
