"""Signals: the first interrupts, the others are answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from goldsmith.base.errors import Interrupted
from goldsmith.base.events import Event, StepFailed, StepFinished, StepStarted, Undone
from goldsmith.cli.signals import HEARD, Interrupts, catch_signals
from tests.unit.cli.running import make_environment

pytestmark = pytest.mark.usefixtures("hear_signals")

WORK = """
import sys, time
from goldsmith.base.errors import Interrupted
from goldsmith.base.events import StepFinished
from goldsmith.cli.signals import catch_signals

with catch_signals() as interrupts:
    interrupts.hear(StepFinished(step="create", seconds=0.1, result="guest 900, 10.0.0.1"))
    try:
        print("working", flush=True)
        time.sleep(30)
    except Interrupted as error:
        print(error.message, flush=True)
        sys.stdin.readline()
        print("cleaned up", flush=True)
print("done", flush=True)
"""


def start(tmp_path: Path, *prefix: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=make_environment(tmp_path),
    )  # fmt: skip


@pytest.mark.parametrize("number", HEARD)
def test_a_first_signal_interrupts_and_a_second_is_answered(number: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"interrupted by {number.name}\n"
    for again in (number, signal.SIGTERM):
        process.send_signal(again)
        assert process.stderr.readline() == "still cleaning up (guest 900): please wait\n"
    said, rest = process.communicate("go on\n", timeout=20)
    assert said == "cleaned up\ndone\n"
    assert rest == ""
    assert process.returncode == 0


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    process = start(tmp_path, "nohup")
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "interrupted by SIGTERM\n"
    process.communicate("\n", timeout=20)


def test_handlers_are_in_force_only_during_the_work() -> None:
    before = {number: signal.getsignal(number) for number in HEARD}
    with catch_signals() as interrupts:
        assert {signal.getsignal(number) for number in HEARD} == {interrupts.handle}
    assert {number: signal.getsignal(number) for number in HEARD} == before


def test_handlers_are_given_back_after_an_interrupt_too() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="interrupted by SIGINT"), catch_signals():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


LAST = StepStarted(step="remove the build guest", index=10, total=10)


@pytest.mark.parametrize(
    ("heard", "clearing"),
    [
        ([], False),
        ([StepStarted(step="a", index=1, total=10)], False),
        ([StepStarted(step="a", index=9, total=10), StepFailed(step="a", seconds=1.0, message="x")], True),
        ([LAST], True),
        ([LAST, StepFinished(step="remove the build guest", seconds=1.0)], False),
        ([StepStarted(step="only", index=1, total=1)], False),
    ],
)
def test_clearing_up_is_not_interrupted(heard: list[Event], clearing: bool) -> None:
    interrupts = Interrupts()
    for event in heard:
        interrupts.hear(event)
    assert interrupts.clearing is clearing


def test_once_the_work_has_ended_what_is_left_is_not_interrupted() -> None:
    answers: list[str] = []
    interrupts = Interrupts(answers.append)
    with interrupts.work():
        assert not interrupts.clearing
    interrupts.handle(signal.SIGINT, None)
    assert answers == ["still cleaning up: please wait"]


def test_a_guest_that_is_gone_is_not_named_any_more() -> None:
    answers: list[str] = []
    interrupts = Interrupts(answers.append)
    interrupts.hear(StepFinished(step="create", seconds=0.1, result="guest 900, 10.0.0.1"))
    interrupts.hear(StepFailed(step="start", seconds=1.0, message="x"))
    interrupts.handle(signal.SIGINT, None)
    interrupts.hear(Undone(what="build guest 900"))
    interrupts.handle(signal.SIGINT, None)
    assert answers == ["still cleaning up (guest 900): please wait", "still cleaning up: please wait"]


def test_after_a_failed_step_further_work_can_be_interrupted() -> None:
    interrupts = Interrupts()
    interrupts.hear(StepFailed(step="boot", seconds=1.0, message="x"))
    assert interrupts.clearing
    interrupts.hear(StepStarted(step="verdict", index=6, total=7))
    assert not interrupts.clearing


def test_a_signal_in_a_last_step_comes_before_the_next_work_begins() -> None:
    said: list[str] = []
    interrupts = Interrupts(said.append)
    interrupts.hear(StepStarted(step="remove", index=7, total=7))
    interrupts.handle(signal.SIGINT, None)
    assert said == ["still cleaning up: please wait"]
    interrupts.hear(StepFinished(step="remove", seconds=0.1))
    with pytest.raises(Interrupted, match="SIGINT"):
        interrupts.hear(StepStarted(step="template", index=1, total=7))
    assert interrupts.clearing
