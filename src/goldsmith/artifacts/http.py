"""HTTP to a registry: who we are, what is tried again, and what is told when it fails. A door to requests.

Sources: OCI distribution-spec 1.1; docker's "Token Authentication Specification"; RFC 9110 (challenges, ranges).
"""

from __future__ import annotations

import base64
import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from goldsmith.artifacts.credentials import Credentials
from goldsmith.base.errors import RepositoryError
from goldsmith.base.secrets import Secret

LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
PIECE = 1 << 20
_TRANSIENT = frozenset((408, 429, 500, 502, 503, 504))
_MOST_FAULTS = 3
"""Times that "500 Internal Server Error" is asked again: docker's registry says so, too, of what is damaged in it."""
_LONGEST_PAUSE = 8.0
"""Seconds between two attempts at most."""
_WRONG_PROTOCOL = re.compile("WRONG_VERSION_NUMBER|HTTP_REQUEST|record layer failure")
"""What OpenSSL calls an answer that is no TLS."""
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_TOKEN_LIFE = 60.0
"""Seconds for which a token counts when its server does not say (docker's specification)."""


class RegistryError(RepositoryError):
    """A registry answered with an error. `status` is HTTP's; 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.status = status


class RegistryUnreachable(RegistryError):
    """No connection, or it broke, or the registry is not able to answer just now; asked again it may."""


class RegistryRefused(RegistryError):
    """401 or 403: it does not know us, or does not let us."""


@dataclass(frozen=True)
class RegistryOptions:
    """How a registry is talked to."""

    credentials: Credentials | None = None
    ca_file: Path | None = None
    """Authorities to trust, in PEM, instead of the system's."""
    plain_http: bool = False
    """Talk to it without TLS. On loopback that is found out without being asked for."""
    parallel: int = 4
    """Blobs that are sent or fetched at the same time."""
    patience: float = 60.0
    """Seconds for which a registry that does not answer is asked again, counted from the last sign of life."""
    timeout: float = 60.0
    """Seconds without a byte after which a connection counts as broken."""
    first_timeout: float = 10.0
    """Both of these at first, until it has answered once: rather its name is wrong, or nothing runs there."""


@dataclass(frozen=True)
class Answer:
    """What a registry answered. `content` is empty while `stream` is to be read."""

    status: int
    headers: Mapping[str, str]
    url: str
    content: bytes = b""
    stream: Stream | None = field(default=None, repr=False)

    def resolve_location(self) -> str:
        """Return where the next request is to go; a registry behind a proxy may forget that it was asked by TLS."""
        location = urljoin(self.url, self.headers.get("Location", ""))
        if self.url.startswith("https://") and urlsplit(location).hostname == urlsplit(self.url).hostname:
            location = re.sub(r"^http://", "https://", location)
        return location


class Stream:
    """A long answer, read piece by piece."""

    def __init__(self, http: Http, response: requests.Response) -> None:
        self._http, self._response = http, response
        self._pieces = response.iter_content(PIECE)
        self._left = b""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end.

        :raises RegistryUnreachable: the connection broke.
        """
        try:
            data = self._left or next(self._pieces, b"")
        except (requests.RequestException, OSError) as error:
            raise self._http.explain_failure(error) from error
        self._left = data[size:] if 0 <= size < len(data) else b""
        return data[:size] if size >= 0 else data

    def close(self) -> None:
        """Stop reading; the connection is used again only when all has been read."""
        self._response.close()


class Patience:
    """How long something that fails is tried again, in seconds; no longer once `stopping` is set."""

    def __init__(self, limit: Callable[[], float], stopping: threading.Event) -> None:
        self._limit, self._stopping = limit, stopping
        self.renew()

    def renew(self) -> None:
        """Begin anew: there was a sign of life."""
        self._begun = time.monotonic()
        self._pause = 0.25
        self._faults = 0

    def wait(self, error: RegistryError) -> None:
        """Pause before the next attempt, longer each time.

        :raises RegistryError: this error, when the time is over.
        """
        left = self._begun + self._limit() - time.monotonic()
        self._faults += error.status == 500
        if left <= 0 or self._faults > _MOST_FAULTS:
            raise error
        spread = 0.75 + random.random() / 2  # noqa: S311 - it keeps no secret
        if self._stopping.wait(min(left, self._pause * spread)):
            raise error
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


def make_tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return how TLS is spoken: whom this machine trusts is trusted, or only the authorities in a PEM file.

    :raises RegistryError: there are none in the file.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise RegistryError(
            f"{ca_file} holds no authorities", hint="it is to be a file in PEM", detail=str(error)
        ) from error


class _Adapter(HTTPAdapter):
    """Connections with our TLS. Requests brings a list of authorities of its own, without a company's among them."""

    def __init__(self, tls: ssl.SSLContext, most: int) -> None:
        self._tls = tls
        super().__init__(pool_maxsize=most, max_retries=0)

    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        super().init_poolmanager(*given, **named, ssl_context=self._tls)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        return super().proxy_manager_for(proxy, **named, ssl_context=self._tls)

    def send(self, request: requests.PreparedRequest, *given: Any, **named: Any) -> requests.Response:
        return super().send(request, *given, **{**named, "verify": True})  # whatever REQUESTS_CA_BUNDLE says

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002 - requests' own
        conn.cert_reqs = "CERT_REQUIRED"


class Http:
    """Requests to one registry, from several threads at once."""

    def __init__(self, host: str, options: RegistryOptions) -> None:
        self.host, self.options = host, options
        self._session = requests.Session()
        self._session.trust_env = not LOOPBACK.fullmatch(host)  # proxies are for what is elsewhere
        adapter = _Adapter(make_tls(options.ca_file), options.parallel + 2)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, adapter)
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._base = f"http://{host}" if options.plain_http else ""
        self._tokens: dict[str, tuple[Secret, float]] = {}
        self._basic = self._answered = False

    def make_patience(self) -> Patience:
        """Return how long something is tried again."""
        return Patience(lambda: self._limit(self.options.patience), self.stopping)

    def _limit(self, seconds: float) -> float:
        return seconds if self._answered else min(seconds, self.options.first_timeout)

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        stream: bool = False,
        expect: tuple[int, ...] = (200,),
        timeout: float | None = None,
    ) -> Answer:
        """Send one request, signed in if that is asked for.

        :param url: a path from `/v2/` on, or a whole URL that the registry has given.
        :param scope: what it is about, as token servers are asked for it: `repository:web/debian:pull,push`.
        :param expect: statuses that are answers and no errors.
        :param timeout: seconds, where an answer takes longer than others.
        :raises RegistryUnreachable: there is no answer, or one that may be better the next time.
        :raises RegistryRefused: we may not.
        :raises RegistryError: any other status.
        """
        url = urljoin(self._find_base(), url)
        signed = self._authorize(url, scope)
        answer = self._send_as(method, url, {**(headers or {}), **signed}, body, stream, timeout)
        if answer.status == 401 and self._sign_in(answer, scope, tried=bool(signed)):
            signed = self._authorize(url, scope)
            answer = self._send_as(method, url, {**(headers or {}), **signed}, body, stream, timeout)
        if answer.status in expect:
            return answer
        raise self._explain(method, url, answer)

    def send_patiently(self, method: str, url: str, **given: Any) -> Answer:
        """Send a request that does no harm when it is sent twice; tried again while the registry does not answer."""
        patience = self.make_patience()
        while True:
            try:
                return self.send(method, url, **given)
            except _NotTls:
                raise
            except RegistryUnreachable as error:
                patience.wait(error)

    def _send_as(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, stream: bool, timeout: float | None
    ) -> Answer:
        given = {"Accept-Encoding": "identity", **headers}
        response = self._request(method, url, headers=given, data=body, stream=stream, timeout=timeout)
        if stream and response.ok:
            return Answer(response.status_code, response.headers, response.url, stream=Stream(self, response))
        return Answer(response.status_code, response.headers, response.url, self._read(response))

    def _read(self, response: requests.Response) -> bytes:
        try:
            return response.content
        except requests.RequestException as error:
            raise self.explain_failure(error) from error

    def _request(self, method: str, url: str, *, timeout: float | None = None, **given: Any) -> requests.Response:
        connect, silent = self.options.first_timeout, self._limit(timeout or self.options.timeout)
        try:
            response = self._session.request(method, url, timeout=(connect, silent), auth=_leave_alone, **given)
        except (requests.RequestException, OSError) as error:
            raise self.explain_failure(error) from error
        self._answered = True
        return response

    def _find_base(self) -> str:
        """Return scheme and host. Plain HTTP is only looked for where nobody else can listen."""
        with self._lock:
            if not self._base:
                self._base = f"https://{self.host}"
                if LOOPBACK.fullmatch(self.host) and self.options.ca_file is None:
                    self._base = self._probe()
            return self._base

    def _probe(self) -> str:
        patience = self.make_patience()
        while True:
            try:
                self._request("GET", f"https://{self.host}/v2/")
            except _NotTls:
                return f"http://{self.host}"
            except RegistryUnreachable as error:
                patience.wait(error)
                continue
            return f"https://{self.host}"

    def _authorize(self, url: str, scope: str) -> dict[str, str]:
        """Return our credentials for a request; nobody but the registry itself is told them."""
        if urlsplit(url).netloc != urlsplit(self._base).netloc:
            return {}
        with self._lock:
            token, until = self._tokens.get(scope, (Secret(""), 0.0))
            if token and time.monotonic() < until:
                return {"Authorization": f"Bearer {token.reveal()}"}
            if self._basic and self.options.credentials is not None:
                return _render_basic(self.options.credentials)
        return {}

    def _sign_in(self, answer: Answer, scope: str, *, tried: bool) -> bool:
        """Do what a 401 asks for; tells whether it is worth while to ask again. Only the registry itself may ask."""
        if urlsplit(answer.url).netloc != urlsplit(self._base).netloc:
            return False
        challenge = answer.headers.get("WWW-Authenticate", "")
        kind, _, rest = challenge.partition(" ")
        values = dict(_CHALLENGE.findall(rest))
        if kind.lower() == "bearer" and "realm" in values:
            token = self._fetch_token(values, scope)
            with self._lock:
                self._tokens[scope] = token
            return True
        if kind.lower() == "basic" and self.options.credentials is not None:
            with self._lock:
                self._basic = True
            return not tried
        return False

    def _fetch_token(self, challenge: Mapping[str, str], scope: str) -> tuple[Secret, float]:
        realm = urljoin(self._base, challenge["realm"])
        if self._base.startswith("https://") and not realm.startswith("https://"):
            raise RegistryRefused(f"{self.host} wants our credentials sent to {realm}, which is not encrypted")
        wanted = {"service": challenge.get("service", ""), "scope": challenge.get("scope") or scope}
        ours = self.options.credentials
        if ours is not None and ours.identity_token is not None:
            form = {"grant_type": "refresh_token", "refresh_token": ours.identity_token.reveal(), **wanted}
            response = self._request("POST", realm, data={**form, "client_id": "goldsmith"})
        else:
            headers = _render_basic(ours) if ours is not None else {}
            response = self._request("GET", realm, params=wanted, headers=headers)
        if not response.ok:
            raise self._explain("GET", realm, Answer(response.status_code, response.headers, realm, response.content))
        return _parse_token(response)

    def explain_failure(self, error: BaseException) -> RegistryError:
        """Return our error for one of a connection."""
        said = str(error)
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in said:
            return RegistryError(
                f"the certificate of {self.host} is not trusted", detail=_find_reason(said),
                hint="GOLDSMITH_REGISTRY_CA_FILE names a file with the authority that has signed it, "
                "or this machine is taught to trust that",
            )  # fmt: skip
        if isinstance(error, requests.exceptions.SSLError) and _WRONG_PROTOCOL.search(said):
            return _NotTls(f"{self.host} does not speak TLS", hint="it has to be asked for to be talked to without")
        told = _explain_timeout(error) if isinstance(error, requests.exceptions.Timeout) else _find_reason(said)
        return RegistryUnreachable(
            f"the registry {self.host} does not answer: {told}", hint="is it running? is its name right?"
        )

    def _explain(self, method: str, url: str, answer: Answer) -> RegistryError:
        call = f"{method} {urlsplit(url).path}"
        said = _find_errors(answer.content)
        if answer.status in _TRANSIENT:
            what = f"{self.host} cannot answer now: {call}: HTTP {answer.status} {said}".rstrip()
            return RegistryUnreachable(what, status=answer.status)
        if answer.status in (401, 403):
            who = self.options.credentials.user if self.options.credentials else "nobody"
            return RegistryRefused(
                f"{self.host} refuses {call} to {who or 'the holder of this token'}: {said or answer.status}",
                status=answer.status, hint="`podman login` or `skopeo login` keeps a login where it is looked for",
            )  # fmt: skip
        return RegistryError(f"{self.host}: {call}: HTTP {answer.status} {said}".rstrip(), status=answer.status)


class _NotTls(RegistryUnreachable):
    """Something listens, but does not speak TLS."""


def _explain_timeout(error: requests.exceptions.Timeout) -> str:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "nobody takes the connection"
    return "it takes the connection, but says nothing"


def _leave_alone(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from looking for credentials by itself (in ~/.netrc)."""
    return request


def _render_basic(credentials: Credentials) -> dict[str, str]:
    pair = f"{credentials.user}:{credentials.password.reveal()}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _parse_token(response: requests.Response) -> tuple[Secret, float]:
    try:
        answer = response.json()
        token = Secret(str(answer.get("token") or answer["access_token"]))
        life = float(answer.get("expires_in") or _TOKEN_LIFE)
    except (ValueError, KeyError, AttributeError) as error:
        raise RegistryError("the token server's answer holds no token") from error
    return token, time.monotonic() + life * 0.9


def _find_errors(content: bytes) -> str:
    """Return what a registry says of an error (distribution-spec, "Error Codes")."""
    try:
        errors = json.loads(content)["errors"]
        return "; ".join(f"{error.get('code', '')} {error.get('message', '')}".strip() for error in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _find_reason(said: str) -> str:
    """Return the part of requests' text that tells something: what the system said."""
    found = re.findall(r"\[Errno -?\d+\] ([^'\")]+)|(certificate verify failed: [^(]+)|'([A-Z][\w .]+)'", said)
    return next((text.strip() for group in reversed(found) for text in group if text), said[:200])
