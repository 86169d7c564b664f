"""A check has a stable name, the sections that it judges, and a pure function; the decorators collect them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from goldsmith.definition.hygiene import HYGIENE_CHECKS
from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe
from goldsmith.verify.outcome import State

NAMED, SHOWN = 3, 20
"""How many items of a list a message names, and its detail shows."""


@dataclass(frozen=True)
class Judgement:
    """What a check says. See `Outcome` for the fields."""

    state: State
    message: str
    detail: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


Judge = Callable[[Sequence[Probe], Policy], Judgement]


@dataclass(frozen=True)
class Check:
    """One built-in check."""

    name: str
    needs: tuple[str, ...]
    """Sections; where a guest has not all of them, the check is skipped."""
    judge: Judge
    reach: int | None = None
    """How many guests it looks at; None: all."""

    @property
    def meaning(self) -> str:
        """What it checks, in words."""
        return HYGIENE_CHECKS[self.name]


CHECKS: dict[str, Check] = {}


def across(name: str, *needs: str, reach: int | None = None) -> Callable[[Judge], Judge]:
    """Register a check that compares guests; the first one is always there."""

    def register(judge: Judge) -> Judge:
        assert name in HYGIENE_CHECKS, name
        CHECKS[name] = Check(name, needs, judge, reach)
        return judge

    return register


def check(
    name: str, *needs: str
) -> Callable[[Callable[[Probe, Policy], Judgement]], Callable[[Probe, Policy], Judgement]]:
    """Register a check of one guest: the first."""

    def register(judge: Callable[[Probe, Policy], Judgement]) -> Callable[[Probe, Policy], Judgement]:
        def judge_first(probes: Sequence[Probe], policy: Policy) -> Judgement:
            return judge(probes[0], policy)

        across(name, *needs, reach=1)(judge_first)
        return judge

    return register


def passed(message: str, detail: str = "", **figures: float) -> Judgement:
    """Say that it is as it should be."""
    return Judgement(State.PASSED, message, detail, figures)


def failed(message: str, detail: str = "", **figures: float) -> Judgement:
    """Say what is wrong."""
    return Judgement(State.FAILED, message, detail, figures)


def skipped(reason: str) -> Judgement:
    """Say why it cannot be judged."""
    return Judgement(State.SKIPPED, reason)


def judge_list(found: Iterable[str], wrong: str, right: str) -> Judgement:
    """Fail when there is something in a list; `wrong` says what it is, and the first of it follow."""
    items = list(found)
    if not items:
        return passed(right)
    named = ", ".join(items[:NAMED]) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")
    more = f"\nand {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return failed(f"{wrong}: {named}", "\n".join(items[:SHOWN]) + more if len(items) > NAMED else "")


def judge_limit(name: str, value: float, told: str, policy: Policy, **figures: float) -> Judgement:
    """Fail when a measured value is above its limit; without a limit it is told only."""
    limit = policy.limits.get(name)
    if limit is None:
        return Judgement(State.INFO, told, figures=figures)
    if value > limit:
        return failed(f"{told}; the limit is {limit:g}", "", **figures)
    return passed(f"{told}; within the limit of {limit:g}", "", **figures)
