"""What ansible-runner tells, read."""

from __future__ import annotations

import io
from typing import Any

import pytest

from goldsmith.base.events import Event, Events, PlaybookTask, PlaybookTaskStarted
from goldsmith.base.secrets import Masker, Secret
from goldsmith.provision.reading import Failure, Reader, describe_result


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def reader(heard: list[Event]) -> Reader:
    return Reader(Events(heard.append, masker=Masker([Secret("hush")])), io.StringIO())


def end(kind: str, result: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    given = {"task": "Do it", "host": "guest", "duration": 1.5, "res": result, **data}
    return {"event": kind, "event_data": given}


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (end("runner_on_ok", {"changed": False}), "ok"),
        (end("runner_on_ok", {"changed": True}), "changed"),
        (end("runner_on_skipped"), "skipped"),
        (end("runner_on_failed", {"msg": "no"}, ignore_errors=True), "ignored"),
        (end("runner_on_failed", {"msg": "no"}, ignore_errors=None), "failed"),
        (end("runner_on_unreachable", {"msg": "gone"}), "unreachable"),
    ],
)
def test_each_end_of_a_task_is_an_event(
    reader: Reader, heard: list[Event], event: dict[str, Any], outcome: str
) -> None:
    reader.read(event)
    (task,) = heard
    assert isinstance(task, PlaybookTask)
    assert (task.task, task.host, task.outcome, task.seconds) == ("Do it", "guest", outcome, 1.5)


def test_a_task_is_named_with_its_role(reader: Reader, heard: list[Event]) -> None:
    reader.read({"event": "playbook_on_task_start", "event_data": {"name": "web : Do it", "task": "Do it"}})
    reader.read(end("runner_on_ok", {}, role="web"))
    assert isinstance(heard[0], PlaybookTaskStarted)
    assert [event.task for event in heard if isinstance(event, PlaybookTask | PlaybookTaskStarted)] == [
        "web : Do it"
    ] * 2


def test_failures_are_kept_masked(reader: Reader) -> None:
    reader.read(end("runner_on_failed", {"msg": "it was hush"}))
    reader.read(end("runner_on_unreachable", {"msg": "gone hush"}))
    assert reader.failures == [Failure("Do it", "guest", "it was ********")]
    assert reader.unreachable == [Failure("Do it", "guest", "gone ********")]


def test_the_log_has_all_output_and_the_tail_its_end(reader: Reader) -> None:
    for number in range(30):
        reader.read({"event": "verbose", "stdout": f"\r\nline {number} hush"})
    assert isinstance(reader.log, io.StringIO)
    assert reader.log.getvalue() == "".join(f"\nline {number} ********\n" for number in range(30))
    assert reader.tail.splitlines() == [f"line {number} ********" for number in range(10, 30)]


def test_items_of_a_loop_are_no_events(reader: Reader, heard: list[Event]) -> None:
    reader.read(end("runner_item_on_ok", {"changed": True}))
    reader.read(end("runner_item_on_failed", {"failed": True}))
    assert heard == []


def test_only_debug_speaks_when_all_is_well(reader: Reader, heard: list[Event]) -> None:
    reader.read(end("runner_on_ok", {"msg": "hello"}, resolved_action="ansible.builtin.debug"))
    reader.read(end("runner_on_ok", {"msg": "All items completed", "results": []}, task_action="debug"))
    reader.read(end("runner_on_ok", {"msg": "hello"}, resolved_action="ansible.builtin.command"))
    assert [event.message for event in heard if isinstance(event, PlaybookTask)] == ["hello", "", ""]


def test_sums_are_those_of_ansible(reader: Reader) -> None:
    assert reader.count("ok", "guest") == 0
    reader.read({"event": "playbook_on_stats", "event_data": {"ok": {"guest": 3}, "dark": {}, "ignored": 0}})
    assert (reader.count("ok", "guest"), reader.count("dark", "guest"), reader.count("ok", "other")) == (3, 0, 0)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"msg": "No package matching 'x'"}, "No package matching 'x'"),
        (
            {"msg": "non-zero return code", "rc": 3, "stderr": "a\nb\nc\n\nd\n", "stdout": "out"},
            "ended with code 3: b\nc\nd",
        ),
        ({"msg": "non-zero return code", "rc": 1, "stderr": "", "stdout": "out"}, "ended with code 1: out"),
        ({"msg": "Could not: E: broken", "stderr": "E: broken"}, "Could not: E: broken"),
        ({"msg": "MODULE FAILURE", "module_stderr": "Traceback\nKeyError"}, "MODULE FAILURE: Traceback\nKeyError"),
        ({"msg": "Assertion failed", "assertion": "1 == 2"}, "Assertion failed (1 == 2)"),
        ({"censored": "hidden", "msg": "never"}, "hidden"),
        ({}, "failed without a message"),
        (
            {"msg": "One or more items failed",
             "results": [{"item": n, "failed": n > 0, "msg": f"no {n}"} for n in range(6)]},
            "1: no 1; 2: no 2; 3: no 3; and 2 more",
        ),
        ({"results": [{"_ansible_item_label": "x", "item": {}, "failed": True, "censored": "hidden"}]}, "x: hidden"),
    ],
)  # fmt: skip
def test_a_failed_result_says_what_a_person_needs(result: dict[str, Any], said: str) -> None:
    assert describe_result(result) == said
