"""Several builds, or replacements of servers, side by side: in the order of ancestry; what they share is built once.

Each runs in a thread, with connections of its own. An interrupt arrives in the main thread: it lets every build
come to its own end at its next event, and waits until all have undone what they had made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from goldsmith.base.errors import GoldsmithError, Interrupted, UsageError
from goldsmith.base.events import Events, Notice
from goldsmith.build.base import is_version
from goldsmith.build.cache.keys import ensure_secret, make_keys
from goldsmith.build.cache.read import NO_BASE, find_base
from goldsmith.build.facts import Site
from goldsmith.definition.image import Image
from goldsmith.provision.stages import Stage

POLL = 0.2
"""Seconds after which the main thread looks up: an interrupt is heard between two looks at the latest."""


T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """One piece of work, mostly a build. `work` does it, and tells of it by the events that it is given."""

    name: str
    work: Callable[[Events], T]
    after: str = ""
    """Name of the image that it is built upon; empty where that is none of these."""
    shares: str = ""
    """What its first layer is made of: of two jobs with the same, the second finds what the first has finished."""


class Brake:
    """Ends builds that run in other threads: each, once, at its next event or pulse; its undoing is left alone."""

    def __init__(self) -> None:
        self._is_pulled = threading.Event()
        self._stopped = threading.local()

    def pull(self) -> None:
        """Let all builds end."""
        self._is_pulled.set()

    def check(self) -> None:
        """End the build of this thread, where that is wanted.

        :raises Interrupted: once in each thread.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if self._is_pulled.is_set() and not is_main and not getattr(self._stopped, "done", False):
            self._stopped.done = True
            raise Interrupted


def describe_start(image: Image, site: Site, stages: tuple[Stage, ...]) -> str:
    """Return what the beginning of an image's build consists of, as `Job.shares`: its base, and its first layer.

    Where the base has still to be downloaded or sent, that alone is shared.
    """
    base = image.variables.base_image
    if not is_version(base) and find_base(image, site) is None:
        return f"{site.name} {base}"
    return f"{site.name} {base} {make_keys(stages[:1], NO_BASE, ensure_secret(image))[0].key}"


def check_order(jobs: Sequence[Job[T]]) -> None:
    """Check that no image is built upon itself, be it over others.

    :raises UsageError: one is.
    """
    after = {job.name: job.after for job in jobs}
    for name, at in after.items():
        chain = [name]
        above = at
        while above in after and above not in chain:
            chain.append(above)
            above = after[above]
        if above == name:
            raise UsageError(f"{' is built upon '.join([*chain, name])}", hint="change base_image in one of them")


def run_jobs(
    jobs: Sequence[Job[T]], at_once: int, events: Events, *, stop: bool = False, failed: str = "was not built"
) -> Iterator[T]:
    """Do jobs side by side; each result is yielded when it is there.

    One that fails keeps only those from being done that are built upon it, or, with `stop`, all that have not begun.

    :param at_once: most jobs at a time.
    :param events: of all; the brake hears them first.
    :param failed: what is told of one that has failed, after its name.
    :raises GoldsmithError: why the first that failed did.
    """
    check_order(jobs)
    runner = _Runner(list(jobs), at_once, events, stop=stop, failed=failed)
    yield from runner.run()
    if runner.failures:
        raise runner.failures[0]


class _Runner(Generic[T]):
    def __init__(self, waiting: list[Job[T]], at_once: int, events: Events, *, stop: bool, failed: str) -> None:
        self._waiting, self._at_once, self._events = waiting, at_once, events
        self._stop, self._told = stop, failed
        self._running: dict[Future[T], Job[T]] = {}
        self._failed: set[str] = set()
        self._brake = Brake()
        self.failures: list[GoldsmithError] = []

    def run(self) -> Iterator[T]:
        """Do all jobs."""
        events = self._events.with_pulse(self._brake.check)
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="build") as pool:
            try:
                while self._waiting or self._running:
                    self._drop_hopeless()
                    for job in self._choose_ready():
                        self._waiting.remove(job)
                        self._running[pool.submit(job.work, events)] = job
                    yield from self._collect()
            except BaseException:
                self._brake.pull()
                raise

    def _choose_ready(self) -> list[Job[T]]:
        """Return the jobs that can begin now: those that nothing unfinished is before."""
        ready: list[Job[T]] = []
        unfinished = {job.name for job in [*self._waiting, *self._running.values()]}
        shared = {job.shares for job in self._running.values() if job.shares}
        for job in self._waiting:
            if (
                len(self._running) + len(ready) < self._at_once
                and job.after not in unfinished
                and job.shares not in shared
            ):
                ready.append(job)
                shared |= {job.shares} if job.shares else set()
        return ready

    def _collect(self) -> Iterator[T]:
        done, _ = wait(self._running, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in done:
            job = self._running.pop(future)
            try:
                result = future.result()
            except Interrupted:
                raise
            except GoldsmithError as error:
                self._fail(job, error)
            else:
                yield result

    def _fail(self, job: Job[T], error: GoldsmithError) -> None:
        self._failed.add(job.name)
        self.failures.append(error)
        if self._waiting or self._running:
            told = f"{job.name} {self._told}: {error.message}"
            self._events.emit(Notice(message=told, level="warning", subject=job.name))
        if self._stop and self._waiting:
            rest = ", ".join(waiting.name for waiting in self._waiting)
            self._waiting.clear()
            self._events.emit(Notice(message=f"left as they are: {rest}", level="warning"))

    def _drop_hopeless(self) -> None:
        while hopeless := [job for job in self._waiting if job.after in self._failed]:
            for job in hopeless:
                self._waiting.remove(job)
                self._failed.add(job.name)
                told = f"{job.name} is not built: {job.after}, which it is built upon, has failed"
                self._events.emit(Notice(message=told, level="warning", subject=job.name))
