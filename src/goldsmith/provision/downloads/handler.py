"""Requests of apt to the proxy: answered from the store, or by asking the mirror.

Packages and indexes that are named by their digest are kept; all else is passed on as it is.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler
from typing import Any

from goldsmith.provision.downloads.mirror import Asker, Refused
from goldsmith.provision.downloads.proxy import Proxy
from goldsmith.provision.downloads.rules import Url, parse_url, read_age, wants_anew, wants_shared
from goldsmith.provision.downloads.store import PIECE, Follower, Head, Kept, Writer

REACH = "/reach/"
"""Before a URL: asks whether it can be fetched. A proxy is asked for whole URLs, so no mirror can be meant by it."""
WITHIN_REACH = "goldsmith"
"""What the answer to that says, so that nobody else's server is taken for ours."""
IDLE = 300.0
"""Seconds after which a connection ends that nobody uses."""
HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host",
))  # fmt: skip
"""Headers that are nobody's business but the two ends' of one connection (RFC 9110, 7.6.1)."""


class Handler(BaseHTTPRequestHandler):
    """One connection of apt; its requests come one after the other. GET and HEAD are all that there is."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    connection: socket.socket

    def __init__(self, proxy: Proxy, *of_server: Any) -> None:
        self._proxy, self._asker = proxy, Asker(proxy.connect)
        self._is_answered = False
        super().__init__(*of_server)  # which does everything

    def handle(self) -> None:
        """Answer requests until apt, or the end of the proxy, ends the connection."""
        with ExitStack() as stack:
            stack.callback(self._asker.close)
            stack.enter_context(self._proxy.ending(self._end))
            super().handle()

    def _end(self) -> None:
        self._asker.end()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        """Answer a request; one that fails says why, or breaks off."""
        self._is_answered = False
        text = self.path.removeprefix(REACH)
        url = parse_url(text)
        try:
            if url is None:
                raise Refused("only http on port 80 is passed on")
            if text != self.path:
                self._tell_reach(url)
            else:
                self._answer(url)
        except (OSError, HTTPException) as error:
            self._fail(error, url.host if url is not None else "")

    do_HEAD = do_GET  # noqa: N815 - the base class finds it by this name

    def _tell_reach(self, url: Url) -> None:
        """Say whether we can fetch a URL, before apt relies on it: it cannot turn elsewhere afterwards."""
        self._proxy.connect(url).close()
        self._tell(HTTPStatus.OK, WITHIN_REACH)

    def _fail(self, error: Exception, host: str) -> None:
        if self._is_answered:
            self.close_connection = True
            return
        if isinstance(error, Refused):
            self._tell(HTTPStatus.FORBIDDEN, f"goldsmith's proxy: {error}")
        else:
            self._tell(HTTPStatus.BAD_GATEWAY, f"goldsmith's proxy does not reach {host}: {error}")

    def _tell(self, status: HTTPStatus, reason: str) -> None:
        self.send_response_only(status, " ".join(reason.split()))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, url: Url) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.command == "GET" and url.is_keepable and wants_shared(headers):
            was_asked = self._proxy.note_asked(url)
            self._share(url, headers, is_anew=was_asked or wants_anew(url, headers))
        else:
            self._pass_on(url, headers)

    def _share(self, url: Url, headers: Mapping[str, str], *, is_anew: bool) -> None:
        """Answer from the store; what is not in there is put there, by one at a time."""
        if not is_anew and self._answer_from_store(url, headers):
            return
        try:
            place = self._proxy.store.begin(url)
        except OSError:  # the disk is full, say: apt need not know
            self._pass_on(url, headers)
            return
        with place:
            if isinstance(place, Follower):
                self._follow(url, headers, place)
            elif is_anew or not self._answer_from_store(url, headers):  # somebody may just have put it there
                self._fetch(url, headers, place)

    def _answer_from_store(self, url: Url, headers: Mapping[str, str]) -> bool:
        kept = self._proxy.store.find(url)
        if kept is None:
            return False
        with kept:
            if not self._is_current(url, headers, kept):
                return False
            kept.note_use()
            self._proxy.note_served(url)
            self._proxy.tally.count_shared(url, kept.head.length)
            self._send_head(kept.head)
            self.connection.sendfile(kept.file, kept.begin, kept.head.length)
            return True

    def _is_current(self, url: Url, headers: Mapping[str, str], kept: Kept) -> bool:
        """Tell whether the mirror has the same file; it is asked where that is not known. One in trouble agrees."""
        if url.digest or kept.is_current(time.time()):
            return True
        try:
            answer = self._asker.ask("HEAD", url, _choose_headers(headers))
            answer.close()
        except (OSError, HTTPException):
            return True
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return True
        head = _read_head(url, answer)
        if head is None or not kept.head.names_same(head):
            return False
        kept.note_current()
        return True

    def _fetch(self, url: Url, headers: Mapping[str, str], writer: Writer) -> None:
        """Pass the mirror's answer on, and put it into the store if it may be kept."""
        answer = self._asker.ask("GET", url, _choose_headers(headers))
        head = _read_head(url, answer)
        if head is None or not self._proxy.store.has_room(head.length):
            self._relay(url, answer)
            return
        self._proxy.tally.count(url)
        writer.begin(head)
        self._send_head(head)
        self._copy(answer, head.length, writer)

    def _copy(self, answer: HTTPResponse, left: int, writer: Writer) -> None:
        """Copy a content to apt and into the store, which gets all of it also when apt has gone: others may follow."""
        has_apt = True
        while left and (piece := answer.read1(min(left, PIECE))):
            left -= len(piece)
            writer.write(piece)
            try:
                has_apt = has_apt and bool(self.wfile.write(piece))
            except OSError:
                has_apt = False
        self._end_reading(answer, left)
        self.close_connection = self.close_connection or not has_apt
        writer.finish()

    def _end_reading(self, answer: HTTPResponse, left: int) -> None:
        """Be ready for the next answer; one that was cut off ends both connections, so that apt sees it."""
        answer.close()
        if left:
            self._asker.close()
            self.close_connection = True

    def _follow(self, url: Url, headers: Mapping[str, str], follower: Follower) -> None:
        """Answer with what somebody else is downloading."""
        head = follower.read_head()
        if head is None:
            self._pass_on(url, headers)
            return
        self._proxy.tally.count_shared(url, head.length)
        self._send_head(head)
        left = head.length
        for piece in follower.read_pieces(left):
            self.wfile.write(piece)
            left -= len(piece)
        self.close_connection = self.close_connection or left > 0

    def _pass_on(self, url: Url, headers: Mapping[str, str]) -> None:
        self._relay(url, self._asker.ask(self.command, url, _choose_headers(headers)))

    def _relay(self, url: Url, answer: HTTPResponse) -> None:
        """Pass an answer on as it is; one of unknown length in chunks, so that apt sees whether it is whole."""
        if answer.status == HTTPStatus.OK and self.command == "GET":
            self._proxy.tally.count(url)
        self._is_answered = True
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if answer.length is None:
            self._relay_chunks(answer)
            return
        self.end_headers()
        left = answer.length
        while left and (piece := answer.read1(min(left, PIECE))):
            self.wfile.write(piece)
            left -= len(piece)
        self._end_reading(answer, left)

    def _relay_chunks(self, answer: HTTPResponse) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read1(PIECE):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        self._end_reading(answer, 0)

    def _send_head(self, head: Head) -> None:
        self._is_answered = True
        self.send_response_only(HTTPStatus.OK)
        given = {"Content-Type": head.content_type, "ETag": head.etag, "Last-Modified": head.last_modified}
        for name, value in {"Content-Length": str(head.length), **given}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()


def _choose_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are passed on."""
    return {name: value for name, value in headers.items() if name not in HOP_BY_HOP}


def _read_head(url: Url, answer: HTTPResponse) -> Head | None:
    """Return what an answer says about its file; None where it is none that may be kept."""
    headers = {name.lower(): value for name, value in answer.getheaders()}
    age, length = read_age(headers), headers.get("content-length", "")
    if answer.status != HTTPStatus.OK or age is None or not length.isdecimal() or "content-encoding" in headers:
        return None
    return Head(
        url=str(url),
        length=int(length),
        max_age=age,
        content_type=headers.get("content-type", ""),
        etag=headers.get("etag", ""),
        last_modified=headers.get("last-modified", ""),
    )
