"""The proxy between apt and a mirror: what is fetched once, what is passed on, and what happens when things break."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goldsmith.provision.downloads.mirror import Refused, connect_mirror
from goldsmith.provision.downloads.rules import MAGIC, Url
from goldsmith.provision.downloads.server import open_proxy
from goldsmith.provision.downloads.store import Store
from tests.unit.provision.downloads.mirrors import CONTENT, HOST, PACKAGE, WAIT, Setting, ViaProxy

URL = f"http://{HOST}{PACKAGE}"
CHANGED = MAGIC + b"something else" + bytes(len(CONTENT) - len(MAGIC) - 14)
"""As long as before."""


def age_all(store: Store, seconds: float = 1e6) -> None:
    """Let it be long ago that the mirror was asked about what is kept."""
    for file in store.list_files():
        os.utime(file.path, (time.time(), time.time() - seconds))


def test_a_package_is_fetched_once_for_all_guests(setting: Setting) -> None:
    assert setting.fetch() == (CONTENT, "1 package")
    assert setting.fetch() == (CONTENT, "1 package, 1 shared (512 kB not downloaded)")
    assert setting.fetch() == (CONTENT, "1 package, 1 shared (512 kB not downloaded)")
    assert setting.mirror.asked == [("GET", PACKAGE)]


def test_an_answer_from_the_store_is_like_that_of_the_mirror(setting: Setting) -> None:
    setting.mirror.headers = {"ETag": '"1"', "Last-Modified": "Sat, 01 Aug 2026 10:00:00 GMT", "Content-Type": "x/deb"}
    told = []
    for _ in range(2):
        with setting.guest() as (apt, _proxy):
            answer = apt.ask()
            assert answer.read() == CONTENT
            told.append(sorted((name, value) for name, value in answer.getheaders() if name not in ("Date", "Server")))
    assert told[0] == told[1]
    assert dict(told[0])["Content-Length"] == str(len(CONTENT))


def test_an_index_that_is_named_by_its_digest_is_fetched_once(setting: Setting) -> None:
    path = f"/debian/dists/x/by-hash/SHA256/{hashlib.sha256(b'index').hexdigest()}"
    setting.mirror.files[path] = b"index"
    setting.mirror.headers = {"Cache-Control": "max-age=0"}
    for told in ("", "0 packages, 0 shared (5 B not downloaded)"):
        assert setting.fetch(f"http://{HOST}{path}", cache_control="max-age=0") == (b"index", told)
        age_all(setting.store)
    assert setting.mirror.asked == [("GET", path)]


@pytest.mark.parametrize(
    ("path", "headers", "of_mirror"),
    [
        ("/debian/dists/bookworm/InRelease", {}, {}),
        (f"{PACKAGE}?token=1", {}, {}),
        (PACKAGE, {"authorization": "Basic eDp5"}, {}),
        (PACKAGE, {"if_modified_since": "Sat, 01 Aug 2026 10:00:00 GMT"}, {}),
        (PACKAGE, {"range": "bytes=5-"}, {}),
        (PACKAGE, {"cache_control": "no-store"}, {}),
        (PACKAGE, {}, {"Cache-Control": "private"}),
        (PACKAGE, {}, {"Content-Encoding": "gzip"}),
    ],
)
def test_all_else_is_passed_on_each_time(
    setting: Setting, path: str, headers: dict[str, str], of_mirror: dict[str, str]
) -> None:
    setting.mirror.files[path] = CONTENT
    setting.mirror.headers = of_mirror
    for _ in range(2):
        assert setting.fetch(f"http://{HOST}{path}", **headers)[0] == CONTENT
    assert setting.mirror.asked == [("GET", path)] * 2
    assert setting.store.list_files() == []
    assert [received["host"] for received in setting.mirror.received] == [HOST, HOST]
    for name, value in headers.items():
        assert setting.mirror.received[0][name.replace("_", "-")] == value


def test_nothing_of_ours_is_in_a_request_and_nothing_between_two_ends_is_passed_on(setting: Setting) -> None:
    setting.fetch(user_agent="Debian APT", proxy_connection="keep-alive", x_own="1")
    (received,) = setting.mirror.received
    assert received == {"host": HOST, "accept-encoding": "identity", "user-agent": "Debian APT", "x-own": "1"}


def test_a_file_that_is_asked_for_twice_is_fetched_anew(setting: Setting) -> None:
    setting.mirror.files[PACKAGE] = CHANGED
    setting.fetch()
    setting.mirror.files[PACKAGE] = CONTENT  # published again under its name, against the rules
    with setting.guest() as (apt, proxy):
        assert apt.read() == CHANGED  # which apt finds out
        assert apt.read() == CONTENT
        assert proxy.tally.render() == "2 packages, 1 shared (512 kB not downloaded)"
    assert setting.fetch()[0] == CONTENT
    assert setting.mirror.count() == 2


@pytest.mark.parametrize("control", ["no-cache", "max-age=0"])
def test_a_file_is_fetched_anew_when_apt_wants_that(setting: Setting, control: str) -> None:
    setting.fetch()
    setting.mirror.files[PACKAGE] = CHANGED
    assert setting.fetch(cache_control=control)[0] == CHANGED
    assert setting.fetch()[0] == CHANGED
    assert setting.mirror.count() == 2


def test_a_playbook_that_failed_makes_the_next_build_ask_again(setting: Setting) -> None:
    setting.mirror.headers = {"ETag": '"1"'}
    setting.fetch()
    setting.mirror.files[PACKAGE] = CHANGED
    setting.mirror.headers = {"ETag": '"2"'}
    with setting.guest() as (apt, proxy):
        assert apt.read() == CONTENT
        proxy.doubt()
    assert setting.fetch()[0] == CHANGED


def test_the_mirror_is_asked_whether_a_file_is_current_when_that_is_not_known(setting: Setting) -> None:
    setting.mirror.headers = {"ETag": '"1"', "Cache-Control": "max-age=60"}
    setting.fetch()
    age_all(setting.store)
    assert setting.fetch()[0] == CONTENT
    assert setting.fetch()[0] == CONTENT  # now it is known
    assert setting.mirror.asked == [("GET", PACKAGE), ("HEAD", PACKAGE)]
    age_all(setting.store)
    setting.mirror.headers["ETag"], setting.mirror.files[PACKAGE] = '"2"', CHANGED
    assert setting.fetch()[0] == CHANGED
    assert setting.mirror.count() == 2


def test_a_mirror_in_trouble_does_not_make_a_file_useless(setting: Setting) -> None:
    setting.fetch()
    age_all(setting.store)
    setting.mirror.status = 503
    assert setting.fetch()[0] == CONTENT
    setting.mirror.is_down = True
    assert setting.fetch()[0] == CONTENT
    assert setting.mirror.count() == 1


def test_a_package_that_the_mirror_has_no_more_is_missing(setting: Setting) -> None:
    setting.fetch()
    age_all(setting.store)
    del setting.mirror.files[PACKAGE]
    with setting.guest() as (apt, proxy):
        answer = apt.ask()
        assert (answer.status, answer.read()) == (404, b"nothing here")
        assert proxy.tally.render() == ""


def test_what_is_damaged_on_the_disk_is_fetched_anew(setting: Setting) -> None:
    setting.fetch()
    (file,) = setting.store.list_files()
    data = file.path.read_bytes()
    file.path.write_bytes(data[:-100] + b"x" + data[-99:])
    assert setting.fetch() == (CONTENT, "1 package")
    assert setting.mirror.count() == 2


def test_an_answer_that_is_cut_off_is_cut_off_for_apt_and_is_not_kept(setting: Setting) -> None:
    setting.mirror.cut = 100_000
    with setting.guest() as (apt, _), pytest.raises(http.client.IncompleteRead) as caught:
        apt.read()
    assert caught.value.partial == CONTENT[:100_000]
    assert setting.store.list_files() == []
    setting.mirror.cut = None
    assert setting.fetch()[0] == CONTENT


@pytest.mark.parametrize("cut", [None, 1000])
def test_an_answer_of_unknown_length_is_passed_on_in_chunks(setting: Setting, cut: int | None) -> None:
    setting.mirror.chunked, setting.mirror.cut = True, cut
    with setting.guest() as (apt, _):
        if cut is None:
            assert apt.read() == CONTENT
            assert apt.read() == CONTENT
        else:
            with pytest.raises(http.client.IncompleteRead):
                apt.read()
    assert setting.store.list_files() == []


def test_a_page_in_the_place_of_a_package_is_not_kept(setting: Setting) -> None:
    setting.mirror.files[PACKAGE] = b"<html>Please log in</html>"
    assert setting.fetch()[0] == b"<html>Please log in</html>"
    assert setting.store.list_files() == []


def test_guests_that_want_the_same_at_a_time_fetch_it_once(setting: Setting) -> None:
    gate = setting.mirror.gate = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        fetched = [pool.submit(setting.fetch) for _ in range(8)]
        deadline = time.monotonic() + WAIT
        while not setting.mirror.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)  # for those who would ask, too
        gate.set()
        results = [future.result(WAIT) for future in fetched]
    assert {content for content, _ in results} == {CONTENT}
    assert sorted(told for _, told in results) == ["1 package", *["1 package, 1 shared (512 kB not downloaded)"] * 7]
    assert setting.mirror.asked == [("GET", PACKAGE)]


def test_who_follows_a_download_has_its_beginning_before_its_end(setting: Setting) -> None:
    gate = setting.mirror.gate = threading.Event()
    with setting.guest() as (first, _), setting.guest() as (second, _):
        begun = first.ask()
        followed = second.ask()
        assert begun.read(1024) == followed.read(1024) == CONTENT[:1024]
        gate.set()
        assert begun.read() == followed.read() == CONTENT[1024:]


def test_a_guest_that_goes_away_does_not_end_the_download_for_others(setting: Setting) -> None:
    gate = setting.mirror.gate = threading.Event()
    with setting.guest() as (first, _), setting.guest() as (second, _):
        begun = first.ask()
        followed = second.ask()
        begun.close()
        first.close()
        gate.set()
        assert followed.read() == CONTENT
    assert setting.mirror.asked == [("GET", PACKAGE)]
    assert setting.fetch()[1].startswith("1 package, 1 shared")


def test_a_build_that_ends_waits_for_nobody_and_leaves_nothing(setting: Setting) -> None:
    gate = setting.mirror.gate = threading.Event()
    begun = time.monotonic()
    with setting.guest() as (idle, _):
        idle.connect()
        with setting.guest() as (apt, _):
            answer = apt.ask()
            assert answer.read(1024) == CONTENT[:1024]
    assert time.monotonic() - begun < 5
    assert setting.store.list_files() == []
    assert list(setting.folder.iterdir()) == []
    gate.set()


def test_one_connection_serves_many_requests_by_one_connection(setting: Setting) -> None:
    paths = [f"/debian/pool/main/p/p{n}/p{n}_1_amd64.deb" for n in range(20)]
    setting.mirror.files |= {path: CONTENT + path.encode() for path in paths}
    setting.mirror.files |= {"/debian/dists/x/InRelease": b"signed"}
    with setting.guest() as (apt, _):
        for path in [*paths, "/debian/dists/x/InRelease"]:
            assert apt.read(f"http://{HOST}{path}") == setting.mirror.files[path]
        assert apt.ask(f"http://{HOST}/nothing").read() == b"nothing here"
        assert apt.ask(method="HEAD").read() == b""
        assert apt.read(f"http://{HOST}{paths[0]}").startswith(CONTENT)
    assert setting.mirror.connections == 1


def test_a_mirror_that_cannot_be_reached_is_said_before_apt_relies_on_us(setting: Setting) -> None:
    with setting.guest() as (apt, _):
        answer = apt.ask(f"/reach/{URL}")
        assert (answer.status, answer.reason, answer.read()) == (200, "goldsmith", b"")
        setting.mirror.is_down = True
        answer = apt.ask(f"/reach/{URL}")
        assert (answer.status, answer.reason) == (502, f"goldsmith's proxy does not reach {HOST}: {HOST} refuses")
        answer.read()
        answer = apt.ask()
        assert answer.status == 502  # apt tries such a thing again
        answer.read()
        setting.mirror.is_down = False
        assert apt.read() == CONTENT


@pytest.mark.parametrize(
    "url", ["https://mirror.example.org/x", "http://mirror.example.org:3142/x", "http://a:b@mirror.example.org/x", "/x"]
)
def test_only_plain_http_is_passed_on(setting: Setting, url: str) -> None:
    with setting.guest() as (apt, _):
        answer = apt.ask(url)
        assert answer.status == 403
        answer.read()
        assert apt.ask(f"/reach/{url}").status == 403
    assert setting.mirror.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS"])
def test_there_is_no_method_but_get_and_head(setting: Setting, method: str) -> None:
    with setting.guest() as (apt, _):
        assert apt.ask(method=method).status == 501
    assert setting.mirror.asked == []


def test_a_store_that_cannot_be_written_hinders_nobody(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    setting.store = Store(tmp_path / "file" / "store")
    for _ in range(2):
        assert setting.fetch() == (CONTENT, "1 package")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0"])
def test_services_of_this_machine_are_out_of_reach(host: str) -> None:
    with pytest.raises(Refused, match="is no machine that is asked"):
        connect_mirror(Url(host, PACKAGE))


def test_this_machine_is_out_of_reach_by_its_other_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address = probe.getsockname()[0]
    with socket.create_server((address, 0)) as server, pytest.raises(Refused, match="is this machine"):
        connect_mirror(Url(address, PACKAGE), server.getsockname()[1])


def test_a_name_that_nobody_knows_is_out_of_reach(setting: Setting) -> None:
    with open_proxy(setting.store, setting.folder / "own") as _:
        apt = ViaProxy(setting.folder / "own")
        assert apt.ask("/reach/http://nowhere.invalid/debian/dists/x/InRelease").status == 502
        apt.close()
