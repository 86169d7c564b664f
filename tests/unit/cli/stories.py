"""A recorded stream of events: a build whose playbook fails, with text in it that would drive a terminal."""

from __future__ import annotations

from goldsmith.base.events import (
    Event,
    LogLine,
    Notice,
    PlaybookTask,
    PlaybookTaskStarted,
    StepFailed,
    StepFinished,
    StepStarted,
    Transfer,
    Undone,
)

NASTY = "Install \x1b[2J\x1b[31mpackages\x07 [red]"


def record_failure() -> list[Event]:
    """Ten steps were planned, the fourth fails."""
    lxc = "lxc"
    return [
        Notice(subject=lxc, time=0.0, message="starting the embedded node"),
        StepStarted(
            subject=lxc, time=1.0, step="base image debian-12-standard", reason="local lacks it", index=1, total=4
        ),
        LogLine(subject=lxc, time=1.1, source="download", line="downloading\r"),
        *[
            Transfer(subject=lxc, time=1.0 + n, what="debian-12.tar.zst", done=n * 4_000_000, total=100_000_000)
            for n in range(26)
        ],
        StepFinished(
            subject=lxc, time=27.0, step="base image debian-12-standard", seconds=26.0, result="debian-12.tar.zst"
        ),
        StepStarted(subject=lxc, time=27.0, step="create lxc-build", reason="vmid 900, on pve", index=2, total=4),
        StepFinished(subject=lxc, time=27.4, step="create lxc-build", seconds=0.41, result="guest 900, 10.86.125.8"),
        StepStarted(subject=lxc, time=27.4, step="playbook playbook.yml", reason="strategy linear", index=3, total=4),
        PlaybookTaskStarted(subject=lxc, time=27.5, task="Gathering Facts"),
        PlaybookTask(subject=lxc, time=28.5, task="Gathering Facts", host="g", outcome="ok", seconds=1.0),
        PlaybookTaskStarted(subject=lxc, time=28.5, task=NASTY),
        PlaybookTask(subject=lxc, time=29.5, task=NASTY, host="g", outcome="changed", seconds=1.0),
        PlaybookTaskStarted(subject=lxc, time=29.5, task="Start it"),
        PlaybookTask(
            subject=lxc, time=30.0, task="Start it", host="g", outcome="failed", seconds=0.5, message="no unit"
        ),
        StepFailed(subject=lxc, time=30.1, step="playbook playbook.yml", seconds=2.7, message="task 'Start it' failed"),
        Undone(subject=lxc, time=30.5, what="build guest 900"),
    ]
