"""All built-in checks on one guest, or on two of the same image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from goldsmith.base.events import Events, TestFinished
from goldsmith.definition.hygiene import HYGIENE_CHECKS
from goldsmith.pve.shell import Shell
from goldsmith.verify.hygiene import accounts, identity, measures, system, traces
from goldsmith.verify.hygiene.measures import read_upgrades
from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe, read_probe
from goldsmith.verify.hygiene.registry import CHECKS, Check
from goldsmith.verify.outcome import Outcome, Portrait, State
from goldsmith.verify.portrait import make_portrait

MODULES = (accounts, identity, measures, system, traces)
"""Their checks are registered when they are imported."""
UPGRADES = "upgrade-state"
"""The last check: it waits for the package mirror."""


def run_hygiene(shells: Sequence[Shell], policy: Policy, *, events: Events) -> tuple[list[Outcome], Portrait]:
    """Look at guests and judge what was found; return the outcome of every check, and what the first guest is like.

    The guests are to have settled, and nothing else should have run in them. Left early (Ctrl-C), what still runs in
    them ends with their shells.

    :param shells: of one or more guests of the same image. The first is judged; others are compared with it.
    :raises ShellFailed, GuestError: a guest could not be looked at.
    """
    pool = ThreadPoolExecutor(len(shells), thread_name_prefix="hygiene")
    try:
        probing = [pool.submit(read_probe, shell) for shell in shells]
        probing[-1].result()  # before it is asked for upgrades, which takes memory and disk there
        wants_upgrades = policy.network and UPGRADES not in policy.skip
        asking = pool.submit(read_upgrades, shells[-1]) if wants_upgrades else None
        probes = [one.result() for one in probing]
        outcomes = [_tell(judge_check(name, probes, policy), events) for name in HYGIENE_CHECKS if name != UPGRADES]
        if asking is not None:
            probes[0] = replace(probes[0], sections={**probes[0].sections, "upgrades": asking.result()})
        outcomes.append(_tell(judge_check(UPGRADES, probes, policy), events))
        return outcomes, make_portrait(probes[0])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _tell(outcome: Outcome, events: Events) -> Outcome:
    events.emit(tell_outcome(outcome))
    return outcome


def tell_outcome(outcome: Outcome) -> TestFinished:
    """Return the event of an outcome."""
    return TestFinished(
        test=outcome.name, outcome=outcome.state.value, seconds=outcome.seconds, message=outcome.message
    )


def judge_probes(probes: Sequence[Probe], policy: Policy) -> list[Outcome]:
    """Judge what was found in guests, in the order of `HYGIENE_CHECKS`."""
    return [judge_check(name, probes, policy) for name in HYGIENE_CHECKS]


def judge_check(name: str, probes: Sequence[Probe], policy: Policy) -> Outcome:
    """Return the outcome of one check."""
    check = CHECKS[name]
    reason = _find_reason_to_skip(check, probes, policy)
    if reason is not None:
        return Outcome(name, State.SKIPPED, message=reason)
    begun = time.monotonic()
    judged = check.judge(probes, policy)
    looked = sum(probes[0].sections[section].seconds for section in check.needs)
    seconds = time.monotonic() - begun + looked
    return Outcome(name, judged.state, seconds, judged.message, judged.detail, judged.figures)


def _find_reason_to_skip(check: Check, probes: Sequence[Probe], policy: Policy) -> str | None:
    if check.name in policy.skip:
        return f"switched off: {policy.skip[check.name]}"
    if "upgrades" in check.needs and not policy.network:
        return "the guest has no network"
    lacking = next((name for probe in probes[: check.reach] for name in check.needs if name not in probe), None)
    if lacking in ("running", "failed-units", "boot"):
        return f"the guest has no systemd; its init is {probes[0].text('init').strip() or 'unknown'}"
    if lacking in ("apt-sources", "apt-check", "caches"):
        return "the guest has no apt"
    return None if lacking is None else f"the guest does not tell ({lacking})"
