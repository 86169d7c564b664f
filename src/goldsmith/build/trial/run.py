"""Carrying out trials: several side by side, as many as the node bears; whatever happens, no guest of theirs stays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.errors import GoldsmithError, Interrupted
from goldsmith.base.events import Events, Notice
from goldsmith.build.credentials import ensure_credentials
from goldsmith.build.facts import Site, check_consoles, note_answering, read_guest_facts
from goldsmith.build.guest import TempGuest
from goldsmith.build.journal import Kind, open_journal
from goldsmith.build.plan import NOTHING_RESERVED
from goldsmith.build.play import make_play
from goldsmith.build.sweep import sweep_orphans
from goldsmith.build.templates import ensure_version
from goldsmith.build.trial.context import Trial
from goldsmith.build.trial.guests import await_guest, request_guest, start_guest
from goldsmith.build.trial.phases import Session, begin, examine, finish, make_trial_key
from goldsmith.build.trial.plan import COMPARED, TrialPlan, judge_capacity, plan_trial
from goldsmith.build.trial.sessions import Sessions
from goldsmith.build.undo import Undo
from goldsmith.definition.hosts import Reserved
from goldsmith.definition.image import Image
from goldsmith.verify.outcome import Verdict
from goldsmith.verify.tests import TestGroup, get_user_tests


@dataclass(frozen=True)
class Subject:
    """A version that is to be tested, and the image whose tests and settings are used."""

    image: Image
    version: Version
    repository: Repository
    site: Site
    groups: Sequence[TestGroup] = ()
    """The image's own tests, as `verify.session.collect_groups` found them."""


@dataclass(frozen=True)
class Surrounding:
    """What all trials of one command share."""

    state: Path
    """Goldsmith's own directory for journals, on this machine."""
    logs: Path
    """Folder for what pytest says."""
    events: Events
    reserved: Reserved = NOTHING_RESERVED


@dataclass(frozen=True)
class Tested:
    """A version with its verdict, which has been stored."""

    subject: Subject
    verdict: Verdict


@dataclass
class _Running:
    subject: Subject
    stack: ExitStack
    trial: Trial
    sessions: Sessions
    shared: Session | None = None
    is_examined: bool = False


def run_trials(subjects: Sequence[Subject], around: Surrounding) -> Iterator[Tested]:
    """Test versions, several side by side; each is yielded when its verdict has been stored.

    One that cannot be tested does not keep the others from it.

    :raises GoldsmithError: why the first that could not be tested was not; the events have told of each.
    """
    failures: list[GoldsmithError] = []
    with ExitStack() as stack:
        runner = _Runner(around, stack, failures)
        yield from runner.run(deque(subjects))
    if failures:
        raise failures[0]


class _Runner:
    """Moves trials on, one phase at a time: while guests of one boot and tests of another run, a third is looked at."""

    def __init__(self, around: Surrounding, stack: ExitStack, failures: list[GoldsmithError]) -> None:
        self._around, self._stack, self._failures = around, stack, failures
        self._running: deque[_Running] = deque()
        self._capacity: dict[str, int] = {}

    def run(self, waiting: deque[Subject]) -> Iterator[Tested]:
        """Do all of them."""
        several = len(waiting) > 1
        while waiting or self._running:
            while waiting and self._has_room(waiting[0]):
                self._begin(waiting.popleft(), several=several)
            one = next((one for one in self._running if not one.is_examined), None)
            if one is not None:
                self._examine(one)
            elif self._running:
                yield from self._finish(self._running.popleft())

    def _has_room(self, subject: Subject) -> bool:
        """Tell whether one more trial may begin: each wants two guests, and the first always may begin."""
        return len(self._running) < max(1, self._read_capacity(subject.site) // COMPARED)

    def _read_capacity(self, site: Site) -> int:
        if site.name not in self._capacity:
            self._capacity[site.name] = read_capacity(site)
        return self._capacity[site.name]

    def _begin(self, subject: Subject, *, several: bool) -> None:
        capacity = self._read_capacity(subject.site)
        with ExitStack() as stack, self._noting(subject):
            plan = prepare_trial(subject, self._around, at_once=min(capacity, COMPARED) if several else capacity)
            trial = stack.enter_context(open_trial(plan, subject, self._around, "test"))
            sessions = stack.enter_context(Sessions(plan.at_once))
            begin(trial)
            self._running.append(_Running(subject, self._stack.enter_context(stack.pop_all()), trial, sessions))

    def _examine(self, one: _Running) -> None:
        one.is_examined = True
        with self._noting(one.subject, one):
            one.shared = examine(one.trial, one.sessions)

    def _finish(self, one: _Running) -> Iterator[Tested]:
        verdict = None
        with self._noting(one.subject), one.stack:
            verdict = finish(one.trial, one.sessions, one.shared)
        if verdict is not None:
            yield Tested(one.subject, verdict)

    @contextmanager
    def _noting(self, subject: Subject, running: _Running | None = None) -> Iterator[None]:
        """Let a trial that cannot go on end for itself alone; an interrupt is meant for all."""
        try:
            yield
        except Interrupted:
            raise
        except GoldsmithError as error:
            told = f"{subject.version} could not be tested: {error.message}"
            self._around.events.emit(Notice(message=told, level="warning", subject=str(subject.version)))
            self._failures.append(error)
            if running is not None:
                self._running.remove(running)
                running.stack.close()


def read_capacity(site: Site) -> int:
    """Return how many test guests a site bears at a time."""
    return judge_capacity(next((node for node in site.pve.nodes() if node.name == site.node.name), None))


def prepare_trial(subject: Subject, around: Surrounding, *, at_once: int) -> TrialPlan:
    """Remove what killed runs have left on the node, look at it, and plan.

    :raises NotOurs, DefinitionError, PveError: it cannot work; nothing was created.
    """
    image, site = choose_way_in(subject.image, subject.version), subject.site
    sweep_orphans(site, around.state, around.events.about(str(subject.version)))
    if image.variables.test_connection == "console":
        check_consoles(site)
    facts = note_answering(read_guest_facts(site), image.fixed_address)
    return plan_trial(image, subject.version, facts, subject.groups, at_once=at_once, reserved=around.reserved)


def choose_way_in(image: Image, version: Version) -> Image:
    """Return an image with the way in that guests of a version have.

    Proxmox gives a restored guest no key (PVE 8.4): one that is made from a backup is entered through its console.
    """
    if not version.backup:
        return image
    return replace(image, variables=image.variables.model_copy(update={"test_connection": "console"}))


@contextmanager
def open_trial(plan: TrialPlan, subject: Subject, around: Surrounding, kind: Kind) -> Iterator[Trial]:
    """Have a journal and an undo list for a trial; after the block nothing of it is left on the node."""
    image, events = plan.image, around.events.about(str(subject.version))
    events.masker.add(*image.secrets)
    credentials = ensure_credentials(image)
    events.masker.add(credentials.password_hash)
    tests = get_user_tests(image, make_play(image, credentials).variables)
    with (
        open_journal(around.state, kind, site=subject.site.name, image=str(subject.version)) as journal,
        Undo(events, journal) as undo,
    ):
        yield Trial(plan, subject.site, subject.repository, journal, undo, events, tests, around.logs)


@contextmanager
def open_guest_of(subject: Subject, around: Surrounding) -> Iterator[TempGuest]:
    """Make a throw-away guest of a version and use it while the block runs.

    :raises BootFailed: it does not come up; its console is in `detail`.
    """
    plan = prepare_trial(subject, around, at_once=1)
    with open_trial(plan, subject, around, "shell") as trial, ExitStack() as stack:
        trial.key = make_trial_key(trial)
        with trial.events.step("template", index=1, total=3) as outcome:
            outcome.result = trial.volid = ensure_version(trial.plan.version, trial.repository, trial.bringing)
        with trial.events.step("make a guest", index=2, total=3) as outcome:
            one = request_guest(trial)
            start, since = start_guest(trial, one)
            outcome.result = f"guest {one.guest.vmid}"
        with trial.events.step("boot", index=3, total=3) as outcome:
            await_guest(trial, one, start, since, stack)
            way = plan.image.variables.test_connection
            outcome.result = f"root@{one.guest.ip}" if way == "ssh" else f"entered through {plan.node}"
        yield one.guest
