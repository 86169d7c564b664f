"""What must not go wrong between us and a program that we start: above all an interrupt in the midst of starting it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from goldsmith.base.errors import ProgramTimedOut
from goldsmith.base.process import open_process, run

ROUNDS = 150
LONGEST = 0.003
"""Seconds; starting a program takes about one millisecond."""


class StoppedHere(Exception):
    """What the handler raises."""


@pytest.fixture
def _raising() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise StoppedHere

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


def list_children() -> list[str]:
    return " ".join(file.read_text() for file in Path("/proc/self/task").glob("*/children")).split()


def start_and_be_interrupted(after: float) -> None:
    timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGTERM))
    with suppress(StoppedHere):
        try:
            timer.start()
            with open_process(["sleep", "4711"]):
                for _ in range(500):  # and not all at once: a signal just before a wait begins does not end that
                    time.sleep(0.01)
        finally:
            with suppress(StoppedHere):
                timer.join()


@pytest.mark.usefixtures("_raising")
def test_an_interrupt_while_a_program_is_being_started_leaves_none() -> None:
    before = list_children()
    for number in range(ROUNDS):
        start_and_be_interrupted(LONGEST * number / ROUNDS)
        assert list_children() == before


@pytest.mark.usefixtures("_raising")
def test_afterwards_signals_are_handled_as_before() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with open_process(["true"]) as process:
        assert signal.getsignal(signal.SIGTERM) is handler
        process.wait()


@pytest.mark.usefixtures("_raising")
def test_the_program_itself_can_be_ended_by_a_signal() -> None:
    with open_process(["sleep", "4711"]) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM


def test_a_time_out_does_not_wait_for_who_keeps_the_programs_output_open() -> None:
    """As ssh's master does, which outlives the ssh that is ended: here a grandchild in a group of its own."""
    begun = time.monotonic()
    with pytest.raises(ProgramTimedOut):
        run(["sh", "-c", "setsid sleep 7 & sleep 600"], timeout=0.2)
    assert time.monotonic() - begun < 4
