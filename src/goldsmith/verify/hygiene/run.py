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


def run_hygiene(shells: Sequence[Shell], policy: Policy, *, events: Events) -> tuple[list[Outcome], Portrait]:
    """Look at guests and judge what was found; return the outcome of every check, and what the first guest is like.

    The guests are to have settled, and nothing else should have run in them.

    :param shells: of one or more guests of the same image. The first is judged; others are compared with it.
    :raises ShellFailed, GuestError: a guest could not be looked at.
    """
    probes = read_probes(shells, policy)
    outcomes = judge_probes(probes, policy)
    for outcome in outcomes:
        events.emit(tell_outcome(outcome))
    return outcomes, make_portrait(probes[0])


def tell_outcome(outcome: Outcome) -> TestFinished:
    """Return the event of an outcome."""
    return TestFinished(
        test=outcome.name, outcome=outcome.state.value, seconds=outcome.seconds, message=outcome.message
    )


def read_probes(shells: Sequence[Shell], policy: Policy) -> list[Probe]:
    """Look at all guests at once; then the last one is asked for upgrades (of two, while the first is looked at)."""
    wants_upgrades = policy.network and "upgrade-state" not in policy.skip
    with ThreadPoolExecutor(len(shells)) as pool:
        probing = [pool.submit(read_probe, shell) for shell in shells]
        last = probing[-1].result()  # before it is asked, which takes memory and disk there
        upgrades = read_upgrades(shells[-1]) if wants_upgrades else None
        probes = [*(one.result() for one in probing[:-1]), last]
    if upgrades is None:
        return probes
    return [replace(probes[0], sections={**probes[0].sections, "upgrades": upgrades}), *probes[1:]]


def judge_probes(probes: Sequence[Probe], policy: Policy) -> list[Outcome]:
    """Judge what was found in guests, in the order of `HYGIENE_CHECKS`."""
    return [_judge(CHECKS[name], probes, policy) for name in HYGIENE_CHECKS]


def _judge(check: Check, probes: Sequence[Probe], policy: Policy) -> Outcome:
    reason = _find_reason_to_skip(check, probes, policy)
    if reason is not None:
        return Outcome(check.name, State.SKIPPED, message=reason)
    begun = time.monotonic()
    judged = check.judge(probes, policy)
    looked = sum(probes[0].sections[name].seconds for name in check.needs)
    seconds = time.monotonic() - begun + looked
    return Outcome(check.name, judged.state, seconds, judged.message, judged.detail, judged.figures)


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
