"""The files of tasks, without any process."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.node.tasks import TaskStore, Upid

TEXT = "UPID:pve:00002DD3:000527DE:6B0473CE:vzcreate:100:root@pam!ci:"


def make(store: TaskStore, number: int, last: str = "TASK OK") -> Upid:
    upid = Upid("pve", 4_000_000 + number, 1, 0x6B000000 + number, "vzstart", "100", "root@pam")
    store.register(upid).write_text(f"line\n{last}\n")
    return upid


@pytest.fixture
def store(tmp_path: Path) -> TaskStore:
    made = TaskStore(tmp_path)
    made.ensure()
    return made


def test_a_upid_both_ways() -> None:
    upid = Upid.parse(TEXT)
    assert upid == Upid("pve", 0x2DD3, 0x527DE, 0x6B0473CE, "vzcreate", "100", "root@pam!ci")
    assert str(upid) == TEXT
    assert upid.describe()["user"] == "root@pam"
    assert upid.describe()["tokenid"] == "ci"


@pytest.mark.parametrize(
    "text",
    [
        "UPID:pve:00002DD3:000527DE:6B0473CE:imgcopy::root@pam:",
        "UPID:pve:00002DD3:000527DE:6B0473CE:imgdel:100@local:root@pam:",
        "UPID:pve:00002DD3:000527DE:6B0473CE:move_volume:151-mp0>152-mp0:root@pam:",
    ],
)
def test_odd_upids_of_real_nodes(text: str) -> None:
    assert str(Upid.parse(text)) == text


@pytest.mark.parametrize("text", ["", "UPID:", TEXT[:-1], TEXT.lower(), TEXT + "x", TEXT.replace("pve", "../x")])
def test_what_is_no_upid(text: str) -> None:
    assert Upid.parse(text) is None


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("TASK OK", "OK"),
        ("TASK WARNINGS: 3", "WARNINGS: 3"),
        ("TASK ERROR: it broke: badly", "it broke: badly"),
        ("a line", "unexpected status"),
        ("TASK OK ", "unexpected status"),
    ],
)
def test_a_status_is_the_last_line(store: TaskStore, last: str, status: str) -> None:
    assert store.read_status(make(store, 1, last)) == status


def test_ended_tasks_are_filed_away_once(store: TaskStore) -> None:
    first, second = make(store, 1), make(store, 2, "TASK ERROR: no")
    assert store.list_active() == []
    store.finish(first)
    assert [(task.upid, task.status) for task in store.list_finished()] in (
        [(first, "OK"), (second, "no")],
        [(second, "no"), (first, "OK")],
    )


def test_old_tasks_are_forgotten_with_their_logs(store: TaskStore) -> None:
    upids = [make(store, number) for number in range(5)]
    for upid in upids:
        store.finish(upid)
    store.forget_old(keep=3)
    assert [task.upid for task in store.list_finished()] == upids[:1:-1]
    assert [store.exists(upid) for upid in upids] == [False, False, True, True, True]


def test_only_an_empty_log_says_no_content_a_page_beyond_the_end_is_empty(store: TaskStore) -> None:
    upid = make(store, 1)
    assert store.read_log(upid, 0, 50) == ([{"n": 1, "t": "line"}, {"n": 2, "t": "TASK OK"}], 2)
    assert store.read_log(upid, 2, 50) == ([], 2)
    store.log_path(upid).write_text("")
    assert store.read_log(upid, 0, 50) == ([{"n": 1, "t": "no content"}], 1)
