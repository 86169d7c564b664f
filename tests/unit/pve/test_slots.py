"""Never more tasks at a time than a node has room for, whoever begins them and waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from goldsmith.base.errors import ApiFailed
from goldsmith.pve import slots
from goldsmith.pve.answers import Upid
from goldsmith.pve.slots import Place, Slots, limit_dump, limit_making


class Work:
    """Tasks that end after a while, and how many of them ran at the same time."""

    def __init__(self, seconds: float = 0.03) -> None:
        self._seconds, self._lock = seconds, threading.Lock()
        self._ends: dict[Upid, float] = {}
        self.most = 0

    def begin(self) -> Upid:
        with self._lock:
            upid = Upid(f"UPID:{len(self._ends)}")
            self._ends[upid] = time.monotonic() + self._seconds
            self.most = max(self.most, sum(self.is_running(one) for one in self._ends))
            return upid

    def is_running(self, upid: Upid) -> bool:
        return time.monotonic() < self._ends[upid]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PAUSE", 0.002)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_threads_never_go_over_a_limit(most: int) -> None:
    known, work = Slots(), Work()
    places: dict[Place, int] = {("make", "pve1"): most}
    threads = [threading.Thread(target=known.begin, args=(places, work.begin, work.is_running)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert work.most == most


def test_one_thread_may_begin_more_than_fit_before_it_waits_for_any() -> None:
    known, work = Slots(), Work()
    begun = [known.begin({("make", "pve1"): 2}, work.begin, work.is_running) for _ in range(5)]
    assert len(set(begun)) == 5
    assert work.most == 2


def test_storages_and_nodes_are_counted_apart() -> None:
    known, work = Slots(), Work(60)
    began: list[str] = []

    def start(node: str, storage: str) -> None:
        known.begin(limit_making(node, storage), work.begin, work.is_running)
        began.append(storage)

    for number in range(slots.MADE_ON_STORAGE):
        start("pve1", "full")
        assert len(began) == number + 1
    late = threading.Thread(target=start, args=("pve1", "full"), daemon=True)
    late.start()
    start("pve1", "other")
    start("pve2", "full")
    assert late.is_alive()
    assert began[-2:] == ["other", "full"]


def test_a_dump_waits_for_the_one_before_it_and_says_so() -> None:
    known, work, told = Slots(), Work(), list[int]()
    for _ in range(3):
        known.begin(limit_dump("pve1"), work.begin, work.is_running, told.append)
    assert (work.most, told) == (1, [1, 1])


@pytest.mark.parametrize("error", [ApiFailed("POST x", 500, "already exists"), KeyboardInterrupt()])
def test_what_could_not_be_begun_takes_no_place(error: BaseException) -> None:
    known, work = Slots(), Work(60)

    def fail() -> Upid:
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            known.begin({("make", "pve1"): 1}, fail, work.is_running)
    known.begin({("make", "pve1"): 1}, work.begin, work.is_running)


def test_a_task_that_the_node_has_forgotten_takes_no_place() -> None:
    known, work = Slots(), Work(60)

    def forgotten(_upid: Upid) -> bool:
        raise ApiFailed("GET x", 500, "no such task")

    for _ in range(3):
        known.begin({("make", "pve1"): 1}, work.begin, forgotten)


def test_after_its_patience_work_begins_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MOST_PATIENCE", 0.05)
    known, work = Slots(), Work(60)
    begin: Callable[[], Upid] = lambda: known.begin({("make", "pve1"): 1}, work.begin, work.is_running)  # noqa: E731
    assert begin() != begin()
