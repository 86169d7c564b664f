"""The phases of a trial. Each leaves its part in the trial; all of them in order make a verdict."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from goldsmith import __version__
from goldsmith.artifacts.verdicts import TestState, put_verdict
from goldsmith.base.errors import BootFailed
from goldsmith.base.events import StepResult, VersionTested
from goldsmith.build.credentials import make_key_pair
from goldsmith.build.templates import ensure_version
from goldsmith.build.trial.context import Trial, TrialGuest
from goldsmith.build.trial.guests import boot_guests, request_guest
from goldsmith.build.trial.sessions import Sessions
from goldsmith.pve.shell import Shell
from goldsmith.verify.document import render_verdict
from goldsmith.verify.goss import has_goss, run_goss
from goldsmith.verify.hygiene.policy import Policy, make_policy
from goldsmith.verify.hygiene.run import run_hygiene, tell_outcome
from goldsmith.verify.junit import render_junit
from goldsmith.verify.outcome import Outcome, State, Verdict
from goldsmith.verify.page.render import render_html
from goldsmith.verify.settle import Settled
from goldsmith.verify.tests import TestGroup

PHASES = ("template", "make guests", "boot", "hygiene", "tests", "verdict", "remove the test guests")
BOOT = "boot"
"""Name of the outcome that says whether guests of the version come up at all, and of its group."""
POLL = 0.1

Session = Future[list[Outcome]]


@contextmanager
def open_phase(trial: Trial, name: str, reason: str = "") -> Iterator[StepResult]:
    """Tell of a phase as a step of the trial."""
    number = PHASES.index(name) + 1
    with trial.events.step(name, reason=reason, index=number, total=len(PHASES)) as outcome:
        yield outcome


def begin(trial: Trial) -> None:
    """Have the template on the node, and ask for the first guests; they are made while others are looked at."""
    with open_phase(trial, "template", f"{trial.plan.version} as it is stored") as outcome:
        trial.key = make_trial_key(trial)
        outcome.result = trial.volid = ensure_version(trial.plan.version, trial.repository, trial.bringing)
    with open_phase(trial, "make guests", f"{trial.plan.compared} side by side") as outcome:
        asked = [request_guest(trial) for _ in range(trial.plan.compared)]
        outcome.result = ", ".join(f"guest {one.guest.vmid}" for one in asked)


def make_trial_key(trial: Trial) -> str:
    """Make the key that opens this trial's guests, and return its public line."""
    return make_key_pair(trial.journal.directory / "id_ed25519", f"goldsmith-test-{trial.journal.run_id}")


def examine(trial: Trial, sessions: Sessions) -> Session | None:
    """Look at the first guests, and begin the tests that share one; None where there are none, or no guest boots."""
    with ExitStack() as stack:
        try:
            with open_phase(trial, "boot") as outcome:
                booted = boot_guests(trial, list(trial.guests), stack)
                outcome.result = "; ".join(dict.fromkeys(settled.describe() for _, settled in booted))
        except BootFailed as error:
            _add(trial, [Outcome(BOOT, State.FAILED, 0.0, error.message, error.detail, group=BOOT)])
            return None
        _note_boot(trial, booted[0][1])
        look(trial, booted)
    return begin_shared(trial, sessions)


def _add(trial: Trial, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        trial.events.emit(tell_outcome(outcome))
    trial.outcomes += outcomes


def _note_boot(trial: Trial, settled: Settled) -> None:
    seconds = get_ready_seconds(trial)
    _add(trial, [Outcome(BOOT, State.PASSED, seconds + settled.seconds, f"guests let us in after {seconds:.1f} s",
                         group=BOOT)])  # fmt: skip


def get_ready_seconds(trial: Trial) -> float:
    """Return how long a guest takes until it lets us in: of several that boot at once, the one that was asked last."""
    return min(one.ready_seconds for one in trial.guests if one.ready_seconds is not None)


def look(trial: Trial, booted: list[tuple[Shell, Settled]]) -> None:
    """Do the built-in checks, then goss, which may change its guest."""
    with open_phase(trial, "hygiene", f"built-in checks, on {len(booted)} guests") as outcome:
        shells = [shell for shell, _ in booted]
        found, trial.portrait = run_hygiene(shells, choose_policy(trial), events=trial.events)
        trial.outcomes += [_explain(one, booted[0][1]) for one in found]
        if has_goss(trial.tests):
            trial.outcomes += run_goss(trial.tests, shells[0], events=trial.events)
        outcome.result = count_outcomes(trial.outcomes)


def choose_policy(trial: Trial) -> Policy:
    """Return what hygiene expects of this version's guests."""
    return make_policy(
        trial.plan.image,
        made_after=trial.plan.version.created.timestamp(),
        own_keys=frozenset({trial.key}),
        ready_seconds=get_ready_seconds(trial),
    )


def _explain(outcome: Outcome, settled: Settled) -> Outcome:
    """Add the journal of failed units, which only whoever waited for them has, to the check that is about them."""
    if outcome.name in ("no-failed-units", "system-running") and outcome.state is State.FAILED:
        parts = [part for part in (outcome.detail, settled.render_evidence()) if part]
        return replace(outcome, detail="\n".join(parts))
    return outcome


def begin_shared(trial: Trial, sessions: Sessions) -> Session | None:
    """Begin the tests that share a guest on the first one, and let the others go."""
    first, *others = list(trial.guests)
    shared = next((group for group in trial.plan.groups if not group.destructive), None)
    session = None if shared is None else sessions.submit(trial, shared, first.guest)
    for one in others if session is not None else list(trial.guests):
        trial.let_go(one)
    return session


def finish(trial: Trial, sessions: Sessions, shared: Session | None) -> Verdict:
    """Run what is left of the tests, store the verdict, and remove the guests."""
    has_booted = any(outcome.group == BOOT and outcome.state is State.PASSED for outcome in trial.outcomes)
    if has_booted:
        with open_phase(trial, "tests", f"{trial.tests.directory.parent.name}/{trial.tests.directory.name}") as outcome:
            own = run_tests(trial, sessions, shared)
            trial.outcomes += own
            outcome.result = count_outcomes(own) if own else "the image has none of its own"
    else:
        trial.outcomes += [_leave_out(test) for group in trial.plan.groups for test in group.tests]
    with open_phase(trial, "verdict", f"into {trial.repository.location}") as outcome:
        verdict = store_verdict(trial)
        outcome.result = f"{verdict.state}: {count_outcomes(verdict.outcomes)}"
    with open_phase(trial, "remove the test guests"):
        for one in list(trial.guests):
            trial.let_go(one)
    return verdict


def _leave_out(test: str) -> Outcome:
    return Outcome(test, State.SKIPPED, message="not run: no guest of the version comes up", group="tests")


def run_tests(trial: Trial, sessions: Sessions, shared: Session | None) -> list[Outcome]:
    """Wait for the tests that share a guest, and give every other group a guest of its own, as many as may be."""
    waiting = deque(group for group in trial.plan.groups if group.destructive)
    running: dict[Session, tuple[str, TrialGuest]] = {}
    if shared is not None:
        running[shared] = ("", trial.guests[0])
    results: dict[str, list[Outcome]] = {}
    while waiting or running:
        asked = [(waiting.popleft(), request_guest(trial)) for _ in range(min(trial.room, len(waiting)))]
        for group, one in asked:
            running[_begin_alone(trial, sessions, group, one)] = (group.name, one)
        done, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
        for session in done:
            name, one = running.pop(session)
            trial.let_go(one)
            results[name] = session.result()
    return [outcome for name in ["", *(group.name for group in trial.plan.groups)] for outcome in results.get(name, [])]


def _begin_alone(trial: Trial, sessions: Sessions, group: TestGroup, one: TrialGuest) -> Session:
    """Boot a guest and begin a group of tests on it; when it does not come up, they have failed."""
    try:
        with ExitStack() as stack:
            boot_guests(trial, [one], stack)
    except BootFailed as error:
        failed = [Outcome(test, State.FAILED, 0.0, error.message, error.detail, group="tests") for test in group.tests]
        ended: Session = Future()
        ended.set_result(failed)
        return ended
    return sessions.submit(trial, group, one.guest)


def store_verdict(trial: Trial) -> Verdict:
    """Say what it came to, and store that beside the version."""
    version = trial.plan.version
    verdict = Verdict(
        version=version.reference,
        digest=version.digest,
        started=trial.started,
        seconds=time.monotonic() - trial.begun,
        outcomes=tuple(trial.outcomes),
        portrait=trial.portrait,
        facts={"node": f"{trial.site.kind} {trial.site.version}", "goldsmith": __version__},
    )
    summary = render_summary(verdict)
    put_verdict(
        trial.repository,
        version,
        state=TestState(verdict.state.value),
        summary=summary,
        document=render_verdict(verdict),
        junit=render_junit(verdict),
        html=render_html(verdict),
    )
    told = VersionTested(version=version.reference, state=verdict.state.value, summary=summary, seconds=verdict.seconds)
    trial.events.emit(told)
    return verdict


def count_outcomes(outcomes: list[Outcome] | tuple[Outcome, ...]) -> str:
    """Return how many ended how: `22 passed, 1 failed`."""
    states = [outcome.state for outcome in outcomes]
    return ", ".join(f"{states.count(state)} {state}" for state in State if state in states)


def render_summary(verdict: Verdict) -> str:
    """Return a verdict in one line, with the names of what has failed."""
    failed = [outcome.name for outcome in verdict.list_in(State.FAILED)]
    named = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
    return count_outcomes(verdict.outcomes) + (f": {named}" if failed else "")
