"""Certificates that a person accepts at the first contact, as ssh does with host keys."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from goldsmith.base.errors import CertificateError
from goldsmith.base.events import Events
from goldsmith.cli.asking import Asker
from goldsmith.cli.trust import KnownNodes, pin_endpoint
from goldsmith.node.certificate import ensure_certificate, get_fingerprint
from goldsmith.pve.connection import Endpoint
from goldsmith.pve.tls import find_shown_fingerprint, is_trusted


class Person(Asker):
    """Somebody at a terminal who always gives the same answer."""

    def __init__(self, answer: bool | None) -> None:
        super().__init__(Events())
        self.answer = answer
        self.questions: list[str] = []

    def confirm(self, question: str) -> bool | None:
        self.questions.append(question)
        return self.answer


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[Endpoint]:
    """A TLS server with a certificate of its own."""
    folder.mkdir(exist_ok=True)
    certificate, key = ensure_certificate(folder, "pve")
    server = HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who only looks at a certificate says nothing
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Endpoint("127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def known(tmp_path: Path) -> KnownNodes:
    return KnownNodes(tmp_path / "state")


def test_the_first_contact_is_asked_about_once(tmp_path: Path, known: KnownNodes) -> None:
    person = Person(True)
    with serve(tmp_path / "node") as endpoint:
        shown = find_shown_fingerprint(endpoint)
        assert not is_trusted(endpoint)
        assert pin_endpoint(endpoint, known, person).fingerprint == shown
        assert pin_endpoint(endpoint, known, person).fingerprint == shown
    assert len(person.questions) == 1
    assert f"\n  {shown}\n" in person.questions[0]
    assert known.file.read_text() == f"{endpoint.address} {shown}\n"
    assert known.file.stat().st_mode & 0o777 == 0o600


def test_no_means_no(tmp_path: Path, known: KnownNodes) -> None:
    with serve(tmp_path / "node") as endpoint, pytest.raises(CertificateError, match="was not accepted"):
        pin_endpoint(endpoint, known, Person(False))
    assert not known.file.exists()


def test_where_nobody_can_be_asked_nothing_is_pinned(tmp_path: Path, known: KnownNodes) -> None:
    with serve(tmp_path / "node") as endpoint:
        assert pin_endpoint(endpoint, known, Person(None)) == endpoint
    assert pin_endpoint(endpoint, known, Person(True)) == endpoint, "nobody answers there any more"
    assert not known.file.exists()


def test_another_certificate_than_the_accepted_one_is_refused(tmp_path: Path, known: KnownNodes) -> None:
    with serve(tmp_path / "node") as endpoint:
        pin_endpoint(endpoint, known, Person(True))
    with (
        serve(tmp_path / "other", endpoint.port) as other,
        pytest.raises(CertificateError, match="is not the one that was accepted") as refused,
    ):
        pin_endpoint(other, known, Person(True))
    assert str(known.file) in refused.value.hint
    assert refused.value.detail.endswith(find_shown_line(tmp_path / "other"))


def find_shown_line(folder: Path) -> str:
    return get_fingerprint(folder / "pve-ssl.pem")


def test_an_authority_of_this_machine_needs_no_question(
    tmp_path: Path, known: KnownNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE is how a person without root adds one."""
    with serve(tmp_path / "node") as endpoint:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "node/pve-ssl.pem"))
        assert is_trusted(endpoint)
        assert pin_endpoint(endpoint, known, Person(False)) == endpoint


def test_a_pin_that_is_written_down_is_left_alone(known: KnownNodes) -> None:
    endpoint = Endpoint("pve.example.com", 8006, ":".join(["AB"] * 32))
    assert pin_endpoint(endpoint, known, Person(False)) == endpoint
