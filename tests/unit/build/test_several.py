"""Builds side by side: their order, what stops them, and what does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.repository import Version
from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import GuestError, Interrupted, UsageError
from goldsmith.base.events import Event, Events, LogLine, Notice
from goldsmith.build.run import Built
from goldsmith.build.several import Job, check_order, run_jobs

DIGEST = digest_bytes(b"")
SECONDS = 10


def make_built(name: str) -> Built:
    version = Version(name, "20261125.1", DIGEST, datetime(2026, 11, 25, tzinfo=UTC), 1, (), Descriptor("x", DIGEST, 1))
    return Built(version, PurePosixPath(f"/t/{name}"), 1.0)


class Site:
    """Watches which builds run at a time."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.began: list[str] = []
        self.seen: set[frozenset[str]] = set()
        self._lock = threading.Lock()

    def job(
        self, name: str, *, after: str = "", shares: str = "", during: Callable[[Events], None] | None = None
    ) -> Job[Built]:
        def work(events: Events) -> Built:
            with self._lock:
                self.running.add(name)
                self.began.append(name)
                self.seen.add(frozenset(self.running))
            try:
                (during or (lambda _: None))(events)
                return make_built(name)
            finally:
                with self._lock:
                    self.running.discard(name)

        return Job(name, work, after, shares)


def names(builts: list[Built]) -> list[str]:
    return [built.version.name for built in builts]


def test_independent_builds_run_at_the_same_time() -> None:
    site, meeting = Site(), threading.Barrier(2)

    def meet(_: Events) -> None:
        meeting.wait(SECONDS)

    assert sorted(names(list(run_jobs([site.job("a", during=meet), site.job("b", during=meet)], 2, Events())))) == [
        "a",
        "b",
    ]
    assert frozenset("ab") in site.seen


def test_not_more_run_than_may() -> None:
    site = Site()
    assert len(list(run_jobs([site.job(name) for name in "abcdefgh"], 2, Events()))) == 8
    assert max(len(seen) for seen in site.seen) <= 2


def test_what_others_are_built_upon_comes_first() -> None:
    site = Site()
    jobs = [site.job("c", after="b"), site.job("b", after="a"), site.job("a", after="debian")]
    assert names(list(run_jobs(jobs, 3, Events()))) == ["a", "b", "c"]


def test_what_two_have_in_common_is_built_by_one_of_them() -> None:
    site = Site()
    jobs = [site.job("a", shares="x"), site.job("b", shares="x"), site.job("c", shares="y")]
    assert len(list(run_jobs(jobs, 3, Events()))) == 3
    assert not [seen for seen in site.seen if {"a", "b"} <= seen]


def test_one_that_fails_keeps_only_those_upon_it_from_being_built() -> None:
    site, told = Site(), list[Event]()

    def fail(_: Events) -> None:
        raise GuestError("it broke")

    jobs = [site.job("a", during=fail), site.job("b", after="a"), site.job("c", after="b"), site.job("d")]
    done: list[Built] = []
    with pytest.raises(GuestError, match="it broke"):
        done.extend(run_jobs(jobs, 1, Events(told.append)))
    assert names(done) == ["d"]
    assert sorted(site.began) == ["a", "d"]
    said = {event.subject: event.message for event in told if isinstance(event, Notice)}
    assert said == {
        "a": "a was not built: it broke",
        "b": "b is not built: a, which it is built upon, has failed",
        "c": "c is not built: b, which it is built upon, has failed",
    }


def test_where_that_is_wanted_nothing_begins_after_a_failure() -> None:
    site, told = Site(), list[Event]()

    def fail(_: Events) -> None:
        raise GuestError("it broke")

    jobs = [site.job("a"), site.job("b", during=fail), site.job("c"), site.job("d")]
    done: list[Built] = []
    with pytest.raises(GuestError, match="it broke"):
        done.extend(run_jobs(jobs, 1, Events(told.append), stop=True, failed="was not replaced"))
    assert (names(done), site.began) == (["a"], ["a", "b"])
    said = [event.message for event in told if isinstance(event, Notice)]
    assert said == ["b was not replaced: it broke", "left as they are: c, d"]


def test_an_interrupt_ends_every_build_once_and_waits_for_what_it_undoes() -> None:
    site, undone, begun = Site(), list[str](), threading.Barrier(3)

    def build(events: Events) -> None:
        begun.wait(SECONDS)
        try:
            for _ in range(1000):
                events.pulse()
                threading.Event().wait(0.01)
        finally:
            events.emit(LogLine(source="x", line="undoing"))  # must not be interrupted again
            undone.append("guest")

    builts = run_jobs([site.job("a", during=build), site.job("b", during=build)], 2, Events())
    interrupter = threading.Thread(target=begun.wait, args=(SECONDS,))
    interrupter.start()
    with pytest.raises(Interrupted):
        next(interrupted(builts, interrupter))
    assert undone == ["guest", "guest"]
    assert site.running == set()


def interrupted(builts: object, interrupter: threading.Thread) -> object:
    """Throw an interrupt into the main thread's waiting, as a signal does."""
    import signal

    def stop(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
        timer.start()
        yield from builts  # type: ignore[misc]
    finally:
        interrupter.join()
        signal.signal(signal.SIGUSR1, before)


def test_an_image_that_is_built_upon_itself_is_refused() -> None:
    site = Site()
    with pytest.raises(UsageError, match="a is built upon b is built upon a"):
        check_order([site.job("a", after="b"), site.job("b", after="a")])
    with pytest.raises(UsageError, match="a is built upon a"):
        check_order([site.job("a", after="a")])
    check_order([site.job("a", after="b"), site.job("b", after="c")])
