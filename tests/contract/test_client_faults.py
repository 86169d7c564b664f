"""What our client makes of a node that refuses, fails, hangs or vanishes. fakepve produces the faults."""

from __future__ import annotations

import io
import logging
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fakepve import FakePve

from goldsmith.base.errors import (
    ApiFailed,
    AuthenticationFailed,
    CertificateError,
    NodeUnreachable,
    PermissionMissing,
    PveError,
    TaskFailed,
)
from goldsmith.base.secrets import Secret
from goldsmith.pve import auth, door
from goldsmith.pve.client import Pve, open_pve
from goldsmith.pve.connection import Connection, Endpoint
from goldsmith.pve.containers import ContainerSpec
from goldsmith.pve.properties import Mount
from goldsmith.pve.tasks import TaskTimedOut
from goldsmith.pve.tls import find_shown_fingerprint

from .conftest import TEMPLATE, connect_fake

Open = Callable[..., Pve]


@pytest.fixture
def open_fake(fakepve: FakePve, fakepve_cafile: str) -> Iterator[Open]:
    """Open clients of the fake, closed at the end of the test."""
    fakepve.store_file("local", TEMPLATE, 1000, "vztmpl")
    opened: list[Pve] = []

    def open_one(ca_file: Path | None = Path(fakepve_cafile), **changes: object) -> Pve:
        opened.append(Pve(connect_fake(fakepve, ca_file, **changes)))
        return opened[-1]

    yield open_one
    for pve in opened:
        pve.close()


def spec(vmid: int) -> ContainerSpec:
    return ContainerSpec(vmid=vmid, ostemplate=f"local:vztmpl/{TEMPLATE}", rootfs=Mount("local-lvm:1"))


def create(pve: Pve, vmid: int) -> int:
    node = pve.node("pve1")
    node.tasks.wait(node.guests.create_container(spec(vmid)))
    return vmid


# --- who we are


def test_a_wrong_password(open_fake: Open) -> None:
    with pytest.raises(AuthenticationFailed, match="refuses root@pam"):
        open_fake(password=Secret("wrong")).version()


def test_a_wrong_token_secret(fakepve: FakePve, open_fake: Open) -> None:
    fakepve.apitokens["root@pam!ci"] = "right"
    good = open_fake(password=Secret(""), token_id="ci", token_secret=Secret("right"))
    assert good.version().major >= 8
    assert good.user == "root@pam!ci"
    bad = open_fake(password=Secret(""), token_id="root@pam!ci", token_secret=Secret("wrong"))
    with pytest.raises(AuthenticationFailed, match=r"refuses root@pam!ci"):
        bad.version()


def test_a_second_factor_is_explained(fakepve: FakePve, open_fake: Open) -> None:
    fakepve.tfa = True
    with pytest.raises(AuthenticationFailed, match="second factor: set PROXMOX_API_TOTP"):
        open_fake().version()


class SecondFactor:
    """Judges passwords of a fake as PVE::AccessControl does: a code answers a challenge, a ticket needs none."""

    def __init__(self, fake: FakePve, code: str) -> None:
        self.fake, self.code = fake, code
        self.judge: Callable[[str, str], bool] = fake.check_password
        self.seen: list[str] = []

    def __call__(self, user: str, password: str) -> bool:
        kind = password.partition(":")[0] if ":" in password else "password"
        self.seen.append(kind)
        self.fake.tfa = kind == "password"
        if kind == "totp":
            return password == f"totp:{self.code}" and b"tfa-challenge" in self.fake.requests[-1][2]
        return kind == "PVE" or self.judge(user, password)


def test_a_code_of_the_moment_opens_the_door(
    fakepve: FakePve, open_fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is asked for once: from then on a ticket is renewed by the one before it."""
    fakepve.check_password = factor = SecondFactor(fakepve, "271828")
    pve = open_fake(second_factor=lambda: Secret("271828"))
    assert pve.version().major >= 8
    monkeypatch.setattr(auth, "RENEW_AFTER", 0.0)
    assert pve.version().major >= 8
    assert (factor.seen[:2], set(factor.seen[2:])) == (["password", "totp"], {"PVE"})


def test_a_wrong_code_is_refused(fakepve: FakePve, open_fake: Open) -> None:
    fakepve.check_password = SecondFactor(fakepve, "271828")
    with pytest.raises(AuthenticationFailed, match="refuses root@pam") as refused:
        open_fake(second_factor=lambda: Secret("314159")).version()
    assert "314159" not in str(refused.value)


# --- several nodes of one cluster


def find_closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_another_node_is_asked_where_one_is_down(fakepve: FakePve, open_fake: Open) -> None:
    """For writes too: nothing was sent to the one that is down."""
    living = Endpoint(fakepve.host, fakepve.port)
    pve = open_fake(host="127.0.0.1", port=find_closed_port(), others=(living,))
    create(pve, 100)
    assert pve.node("pve1").guests.find_guest(100)
    assert pve.endpoint == living


def test_each_node_is_recognised_by_its_own_certificate(fakepve: FakePve, open_fake: Open) -> None:
    pin = find_shown_fingerprint(Endpoint(fakepve.host, fakepve.port))
    for fingerprint, good in ((pin, True), (":".join(["AB"] * 32), False)):
        other = Endpoint(fakepve.host, fakepve.port, fingerprint)
        pve = open_fake(None, host="127.0.0.1", port=find_closed_port(), others=(other,))
        if good:
            assert pve.version().major >= 8
            continue
        with pytest.raises(CertificateError):
            pve.version()


def test_all_that_are_down_are_named(open_fake: Open) -> None:
    first, second = find_closed_port(), find_closed_port()
    pve = open_fake(host="127.0.0.1", port=first, others=(Endpoint("127.0.0.1", second),))
    with pytest.raises(NodeUnreachable) as failed:
        pve.version()
    said = f"{failed.value.message}\n{failed.value.detail}"
    assert f":{first}: " in said
    assert f":{second}: " in said


def test_a_write_that_was_sent_is_not_sent_elsewhere(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake(others=(Endpoint(fakepve.host, fakepve.port),))
    pve.version()
    fakepve.flaky_network(drop_rate=1.0)
    before = len(fakepve.requests)
    with pytest.raises(NodeUnreachable):
        pve.node("pve1").guests.create_container(spec(100))
    assert len([request for request in fakepve.requests[before:] if request[0] == "POST"]) <= 1


def test_a_dead_ticket_is_replaced(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    pve.version()
    fakepve.revoke_tickets()
    create(pve, 100)
    assert pve.node("pve1").guests.find_guest(100)


def test_a_missing_privilege_is_named(fakepve: FakePve, open_fake: Open) -> None:
    fakepve.users["builder@pve"] = "pw"
    fakepve.grant("builder@pve", "/nodes", "Sys.Audit")
    pve = open_fake(user="builder@pve", password=Secret("pw"))
    with pytest.raises(PermissionMissing, match=r"Permission check failed") as refused:
        pve.node("pve1").guests.get_config(100)
    assert (refused.value.status, refused.value.call) == (403, "GET /nodes/pve1/lxc/100/config")
    assert "/vms/100, VM.Audit" in refused.value.reason


def test_secrets_are_in_no_log_and_no_error(
    fakepve: FakePve, open_fake: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything on this way logs at DEBUG, proxmoxer's pinned loggers too."""
    for name in [None, *logging.root.manager.loggerDict]:
        caplog.set_level(logging.DEBUG, logger=name)
    secret = "unmistakable-5a7f"
    fakepve.apitokens["root@pam!ci"] = secret + "-token"
    with_token = open_fake(password=Secret(""), token_id="ci", token_secret=Secret(secret + "-token"))
    fakepve.password = secret + "-login"
    with_password = open_fake(password=Secret(secret + "-login"))
    fakepve.fail("POST", "/lxc", 500, f"the node repeats {secret}-guest")
    said = []
    for pve in (with_token, with_password):
        pve.version()
        new = ContainerSpec(vmid=100, ostemplate="local:vztmpl/x", password=Secret(secret + "-guest"))
        with pytest.raises(ApiFailed) as failed:
            pve.node("pve1").guests.create_container(new)
        said += [str(failed.value), "".join(traceback.format_exception(failed.value.with_traceback(None), chain=False))]
    assert caplog.records, "nothing was logged: the test proves nothing"
    assert secret not in "".join([*said, caplog.text])


# --- what the node is recognised by


def test_a_certificate_nobody_vouches_for(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake(None)
    with pytest.raises(CertificateError, match="not trusted") as refused:
        pve.version()
    shown = find_shown_fingerprint(pve.connection.endpoints[0])
    assert shown is not None
    assert shown in refused.value.detail
    assert fakepve.requests == []
    assert open_fake(None, fingerprint=shown).version().major >= 8


def test_nothing_is_sent_to_a_node_with_another_certificate(fakepve: FakePve, open_fake: Open) -> None:
    """Not even the request for a ticket, which holds the password."""
    other = ":".join(["AB"] * 32)
    for ca_file in (None, open_fake().connection.ca_file):
        with pytest.raises(CertificateError, match="Fingerprints did not match"):
            open_fake(ca_file, fingerprint=other).version()
    assert fakepve.requests == []


def test_a_node_that_speaks_no_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer = server.accept()[0]
            with peer:
                peer.recv(100)
                peer.sendall(b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://127.0.0.1/\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        connection = Connection("127.0.0.1", server.getsockname()[1], token_id="a", token_secret=Secret("b"))
        with open_pve(connection) as pve, pytest.raises(NodeUnreachable, match="TLS"):
            pve.node("x").guests._door.post("/nothing")  # a write: one attempt, one accept
        thread.join(5)


# --- a node that is not there, or not well


def test_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with open_pve(Connection("127.0.0.1", port, password=Secret("x"))) as pve:
        begun = time.monotonic()
        with pytest.raises(NodeUnreachable, match="Connection refused"):
            pve.version()
    assert time.monotonic() - begun < 3


def test_an_answer_that_does_not_come(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake(timeout=1.0)
    pve.version()
    fakepve.time_scale = 1.0
    fakepve.slow_network(4)
    begun = time.monotonic()
    with pytest.raises(NodeUnreachable, match=r"no answer from .* in 1 s"):
        pve.version()
    assert time.monotonic() - begun < 3


def test_reading_survives_broken_connections(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    pve.version()
    fakepve.flaky_network(drop_rate=1.0)
    timer = threading.Timer(0.3, lambda: fakepve.flaky_network(drop_rate=0.0))
    timer.start()
    assert pve.version().major >= 8
    timer.join()


def test_writing_is_never_repeated_blindly(fakepve: FakePve, open_fake: Open) -> None:
    """A create whose answer is lost may have been done."""
    pve = open_fake()
    pve.version()
    fakepve.flaky_network(drop_rate=1.0)
    before = len(fakepve.requests)
    with pytest.raises(NodeUnreachable):
        pve.node("pve1").guests.create_container(spec(100))
    assert len([request for request in fakepve.requests[before:] if request[0] == "POST"]) <= 1


def test_a_lock_that_was_not_got_is_tried_again(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    create(pve, 100)
    message = "can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout"
    fakepve.fail("PUT", "/lxc/100/config", 500, message, times=1)
    pve.node("pve1").guests.set_config(100, {"memory": 256})
    assert pve.node("pve1").guests.get_config(100).memory == 256
    fakepve.fail("PUT", "/lxc/100/config", 500, message)
    with pytest.raises(ApiFailed, match="can't lock file"):
        pve.node("pve1").guests.set_config(100, {"memory": 512})


def test_a_guest_that_something_else_has_in_hand(
    fakepve: FakePve, open_fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for, with a limit."""
    monkeypatch.setattr(door, "HELD_PATIENCE", 0.3)
    monkeypatch.setattr(door, "HELD_PAUSE", 0.1)
    pve = open_fake()
    create(pve, 100)
    fakepve.snapshot_lock(100, "backup")
    guests = pve.node("pve1").guests
    assert guests.get_config(100).lock == "backup"
    with pytest.raises(ApiFailed, match=r"CT is locked \(backup\)"):
        guests.set_config(100, {"memory": 256})
    with pytest.raises(ApiFailed, match=r"CT is locked \(backup\)") as refused:
        guests.destroy(100)
    assert "pct unlock" in refused.value.hint
    monkeypatch.setattr(door, "HELD_PATIENCE", 10.0)
    timer = threading.Timer(0.3, lambda: fakepve.unlock(100))
    timer.start()
    guests.set_config(100, {"memory": 256})
    assert guests.get_config(100).memory == 256
    timer.join()


def test_a_task_that_did_not_get_the_lock_is_begun_again(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    create(pve, 100)
    node = pve.node("pve1")
    fakepve.ct(100).lock_holder = "another task"
    timer = threading.Timer(0.3, lambda: fakepve.release(fakepve.ct(100), "another task"))
    timer.start()
    assert node.tasks.run(lambda: node.guests.start(100)).lines[-1] == "TASK OK"
    timer.join()
    assert len([task for task in fakepve.tasklog if task["type"] == "vzstart"]) > 1


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("cluster not ready - no quorum?", "pvecm status"),
        ("unable to create image: No space left on device", "make room"),
        ("can't lock file '/var/lock/pve-manager/pve-storage-nas' - got timeout", "run the command again"),
    ],
)
def test_what_a_person_can_do_is_told(fakepve: FakePve, open_fake: Open, said: str, advice: str) -> None:
    pve = open_fake()
    fakepve.fail("POST", "/nodes/pve1/lxc", 500, said)
    with pytest.raises(ApiFailed) as failed:
        pve.node("pve1").guests.create_container(spec(100))
    assert advice in failed.value.hint


def test_a_proxys_page_instead_of_an_answer(fakepve: FakePve, open_fake: Open) -> None:
    fakepve.fail("GET", "/version", 502, "Bad Gateway", html=True)
    with pytest.raises(ApiFailed, match="Bad Gateway"):
        open_fake().version()


def test_a_node_the_cluster_has_lost(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    fakepve.fail("GET", "/nodes/pve1/lxc", 595, "No route to host")
    with pytest.raises(NodeUnreachable, match="No route to host"):
        pve.node("pve1").guests.list_guests()


@contextmanager
def serve_https(certificate: Path, answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """A TLS server that gives the same answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _ask(port: int, ca_file: str) -> None:
    connection = Connection("127.0.0.1", port, token_id="a", token_secret=Secret("b"), ca_file=Path(ca_file))
    with open_pve(connection) as pve:
        pve.version()


def test_a_redirect_is_not_followed(fakepve_cafile: str) -> None:
    seen: list[str] = []

    def redirect(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.path)
        request.send_response(302)
        request.send_header("Location", "/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    with serve_https(Path(fakepve_cafile), redirect) as port, pytest.raises(PveError, match="redirect"):
        _ask(port, fakepve_cafile)
    assert seen == ["/api2/json/version"]


def test_something_else_than_a_proxmox(fakepve_cafile: str) -> None:
    def greet(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "5")
        request.end_headers()
        request.wfile.write(b"hello")

    with serve_https(Path(fakepve_cafile), greet) as port, pytest.raises(PveError) as failed:
        _ask(port, fakepve_cafile)
    assert "Proxmox VE" in failed.value.hint


# --- tasks


def test_a_task_that_fails_tells_why(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    create(pve, 100)
    node = pve.node("pve1")
    upid = node.guests.create_snapshot(100, "same")
    node.tasks.wait(upid)
    lines: list[str] = []
    names = [error["name"] for error in fakepve.errors_for("POST", "/nodes/pve1/lxc/100/status/start")]
    in_task = next(
        error
        for error in fakepve.errors_for("POST", "/nodes/pve1/lxc/100/status/start")
        if error["in_task"] and "{" not in error["message"]
    )
    assert in_task["name"] in names
    fakepve.fail("POST", "/lxc/100/status/start", error=in_task["name"])
    with pytest.raises(TaskFailed, match="vzstart 100 failed on the node") as failed:
        node.tasks.wait(node.guests.start(100), lines.append)
    assert failed.value.exitstatus == in_task["message"]
    assert failed.value.detail.endswith(f"TASK ERROR: {in_task['message']}")
    assert lines == failed.value.detail.splitlines()


def test_a_task_is_waited_for(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    fakepve.time_scale = 0.1
    fakepve.ct_secs["create"] = 5
    node = pve.node("pve1")
    upid = node.guests.create_container(spec(100))
    assert node.tasks.state(upid).running
    assert node.tasks.list_running() == [upid]
    result = node.tasks.wait(upid)
    assert result.lines[-1] == "TASK OK"
    assert 0.2 < result.seconds < 2


def test_a_task_is_picked_up_again_after_a_lost_connection(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    node = pve.node("pve1")
    node.guests.list_guests()
    fakepve.time_scale = 0.1
    fakepve.ct_secs["create"] = 8
    upid = node.guests.create_container(spec(100))
    fakepve.flaky_network(drop_rate=1.0)
    timer = threading.Timer(0.5, lambda: fakepve.flaky_network(drop_rate=0.0))
    timer.start()
    assert node.tasks.wait(upid).lines[-1] == "TASK OK"
    timer.join()


def test_a_task_that_takes_too_long_is_stopped_when_asked(fakepve: FakePve, open_fake: Open) -> None:
    pve = open_fake()
    fakepve.time_scale = 0.1
    fakepve.ct_secs["create"] = 20
    node = pve.node("pve1")
    upid = node.guests.create_container(spec(100))
    with pytest.raises(TaskTimedOut, match=r"still running after 0\.2 s"):
        node.tasks.wait(upid, timeout=0.2)
    assert not [request for request in fakepve.requests if request[0] == "DELETE"]
    with pytest.raises(TaskTimedOut):
        node.tasks.wait(upid, timeout=0.2, stop_if_left=True)
    assert [request[1] for request in fakepve.requests if request[0] == "DELETE"]


# --- races and uploads


def test_two_clients_never_get_the_same_vmid(fakepve: FakePve, open_fake: Open) -> None:
    fakepve.time_scale = 0.01
    clients = [open_fake() for _ in range(4)]
    start = threading.Barrier(len(clients))

    def build(pve: Pve) -> list[int]:
        node, made = pve.node("pve1"), []
        start.wait()
        for _ in range(5):
            new, upid = node.guests.create_in_range(range(100, 130), spec)
            node.tasks.wait(upid)
            made.append(new.vmid)
        return made

    with ThreadPoolExecutor(len(clients)) as pool:
        vmids = [vmid for made in pool.map(build, clients) for vmid in made]
    assert sorted(vmids) == list(range(100, 120))


def test_an_upload_without_the_right(fakepve: FakePve, open_fake: Open) -> None:
    fakepve.users["builder@pve"] = "pw"
    fakepve.grant("builder@pve", "/storage/local", "Datastore.Audit")
    store = open_fake(user="builder@pve", password=Secret("pw")).node("pve1").storage
    with pytest.raises(PermissionMissing, match="AllocateTemplate"):
        store.upload("local", "x_1_amd64.tar.zst", io.BytesIO(bytes(8 << 20)), 8 << 20)


def test_an_uploads_source_that_ends_early(open_fake: Open) -> None:
    store = open_fake().node("pve1").storage
    with pytest.raises(PveError, match="ended after 3 of 10 bytes"):
        store.upload("local", "x_1_amd64.tar.zst", io.BytesIO(b"abc"), 10)
    assert store.find_volume("local:vztmpl/x_1_amd64.tar.zst") is None
