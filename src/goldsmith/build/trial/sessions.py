"""The user's own tests, each group a process watched by a thread, so that groups run side by side."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from types import TracebackType

from goldsmith.build.guest import TempGuest
from goldsmith.build.trial.context import Trial
from goldsmith.build.trial.entrance import choose_target
from goldsmith.verify.outcome import Outcome
from goldsmith.verify.session import run_session
from goldsmith.verify.tests import TestGroup


class Sessions:
    """Sessions of one trial. Left, it ends those that run, and waits for them: an interrupt reaches no thread."""

    def __init__(self, at_once: int) -> None:
        self._stop = Event()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="tests")

    def submit(self, trial: Trial, group: TestGroup, guest: TempGuest) -> Future[list[Outcome]]:
        """Begin a group of tests on a guest."""
        log = trial.logs / name_log(trial, group)
        target = choose_target(trial.plan.image, trial.site, guest)
        return self._pool.submit(
            run_session, trial.tests, group, target, events=trial.events, log=log, is_stopped=self._stop.is_set
        )

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def name_log(trial: Trial, group: TestGroup) -> str:
    """Return the name of the file that takes what pytest says of a group."""
    version, moment = trial.plan.version, f"{trial.started:%Y%m%dT%H%M%SZ}"
    return f"{version.name}-{version.tag}-test-{moment}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', group.name)[:80]}.log"
