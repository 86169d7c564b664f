"""How long a server gives no answer: against a real server that goes away and comes back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from goldsmith.fleet.goals import NEW, OLD, ChecksHold, LinkDown, LinkUp, Stopped
from goldsmith.fleet.outage import SELDOM, Outage, find_probe, watch_outage
from tests.unit.fleet.making import make_server


class Answering:
    """Listens on a port of loopback and counts who connects; goes away and comes back."""

    def __init__(self) -> None:
        self.asked = 0
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])

    @contextmanager
    def serve(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            listener.settimeout(0.01)
            done = threading.Event()
            thread = threading.Thread(target=self._accept, args=(listener, done))
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()

    def _accept(self, listener: socket.socket, done: threading.Event) -> None:
        while not done.is_set():
            try:
                listener.accept()[0].close()
            except TimeoutError:
                continue
            self.asked += 1


@pytest.fixture
def answering() -> Answering:
    return Answering()


def watched(port: int, address: str = "127.0.0.1/8") -> AbstractContextManager[Outage]:
    return watch_outage(make_server(address=address, checks=[{"port": port}]))


def test_a_server_that_boots_or_works_is_asked_seldom(answering: Answering) -> None:
    with answering.serve(), watched(answering.port) as outage:
        time.sleep(SELDOM * 1.2)
        assert 1 <= answering.asked <= 3
        outage.expect(LinkUp(which=NEW))
        time.sleep(0.2)
        assert answering.asked <= 3
    assert outage.longest == 0.0  # that nobody asked is no outage


def test_the_gap_is_measured_from_the_moment_before_it_is_cut_off(answering: Answering) -> None:
    gap = 0.5
    with watched(answering.port) as outage:
        with answering.serve():
            time.sleep(0.4)  # the last answer is an old one now
            outage.expect(LinkDown(which=OLD))
        time.sleep(gap)
        with answering.serve():
            deadline = time.monotonic() + 5
            while not outage.longest and time.monotonic() < deadline:
                time.sleep(0.01)
            outage.expect(ChecksHold())
    assert gap <= outage.longest < gap + 0.35  # without a fresh look before it, 0.9


def test_it_is_looked_at_closely_until_it_is_checked_and_no_longer(answering: Answering) -> None:
    with answering.serve(), watched(answering.port) as outage:
        outage.expect(Stopped(which=OLD))
        time.sleep(0.5)
        closely = answering.asked
        outage.expect(ChecksHold())
        time.sleep(0.1)
        outage.expect(Stopped(which=OLD))  # of the old guest, when the new one serves
        settled = answering.asked
        time.sleep(0.5)
    assert closely > 5
    assert answering.asked - settled <= 1


def test_who_gives_no_answer_is_asked_often_whatever_is_going_on(answering: Answering) -> None:
    with watched(answering.port) as outage:
        time.sleep(0.5)
        assert outage.asked > 5
        assert outage.longest == 0.0


def test_the_end_does_not_wait_for_the_next_question(answering: Answering) -> None:
    with answering.serve():
        begun = time.monotonic()
        with watched(answering.port):
            time.sleep(0.05)
        assert time.monotonic() - begun < SELDOM / 2


def test_without_a_fixed_address_nothing_is_asked_and_nothing_waited_for() -> None:
    with watched(22, address="dhcp") as outage:
        begun = time.monotonic()
        outage.expect(LinkDown(which=OLD))
        assert time.monotonic() - begun < 0.1
    assert outage.asked == 0


def test_a_url_whose_port_is_shut_is_no_answer_at_once(answering: Answering) -> None:
    probe = find_probe(make_server(address="127.0.0.1/8", checks=[{"url": f"http://127.0.0.1:{answering.port}/"}]))
    assert probe is not None
    assert not probe()
