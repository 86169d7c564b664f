"""What a version may be used for: it has passed its tests, or somebody took it upon himself to say that it may be used.

An override names the verdict that it overrides. Any newer verdict makes it void.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from goldsmith.artifacts.record import parse_time, render_time
from goldsmith.artifacts.repository import Attached, Repository, Version
from goldsmith.artifacts.store import CREATED
from goldsmith.artifacts.verdicts import StoredVerdict, TestState, find_verdict
from goldsmith.base.digest import render_canonical_json
from goldsmith.base.errors import RepositoryDamaged, RepositoryError, UsageError

MEDIA_TYPE = "application/vnd.goldsmith.override.v1+json"
REASON, WHO, VERDICT = "vnd.goldsmith.reason", "vnd.goldsmith.who", "vnd.goldsmith.override.verdict"
UNTESTED = "untested"
"""Stands for the verdict where there is none."""


class NotProven(RepositoryError):
    """A version's tests failed, or have not been run."""


@dataclass(frozen=True)
class Override:
    """Somebody's word that a version may be used although it has not passed. `at` is UTC."""

    reason: str
    who: str
    at: datetime
    verdict: str
    """Digest of the verdict that is overridden; `untested` where there was none."""


def put_override(
    repository: Repository, version: Version, *, reason: str, who: str, at: datetime | None = None
) -> Override:
    """Record that a version may be used as it is: whatever its newest verdict says, until there is another one.

    :param who: the person, as others will recognise him: `jane@ops`.
    :raises UsageError: there is no reason, or nobody who gives it; or the version has passed.
    :raises VersionNotFound: the version has gone.
    """
    verdict = find_verdict(repository, version)
    if verdict is not None and verdict.state is TestState.PASSED:
        raise UsageError(f"{version} has passed its tests; there is nothing to override")
    override = Override(check_reason(reason), check_reason(who), at or datetime.now(UTC), _name(verdict))
    annotations = {
        CREATED: render_time(override.at), REASON: override.reason, WHO: override.who, VERDICT: override.verdict
    }  # fmt: skip
    repository.attach(version, MEDIA_TYPE, {MEDIA_TYPE: render_canonical_json(annotations)}, annotations)
    return override


def check_reason(text: str) -> str:
    """Return a reason or a name, on one line.

    :raises UsageError: it is empty.
    """
    if not (line := " ".join(text.split())):
        raise UsageError("a reason and the name of who gives it are needed", hint="others will read them")
    return line


def _name(verdict: StoredVerdict | None) -> str:
    return UNTESTED if verdict is None else verdict.digest


def find_override(repository: Repository, version: Version) -> Override | None:
    """Return the newest override that still holds: one of the newest verdict."""
    current = _name(find_verdict(repository, version))
    found = [_parse(attached) for attached in repository.list_attached(version, MEDIA_TYPE)]
    holding = [override for override in found if override.verdict == current]
    return holding[-1] if holding else None


def _parse(attached: Attached) -> Override:
    said = attached.annotations
    try:
        return Override(said[REASON], said[WHO], parse_time(said[CREATED]), said[VERDICT])
    except KeyError as error:
        raise RepositoryDamaged(f"an override cannot be read: it lacks {error}") from error


def check_proven(repository: Repository, version: Version) -> None:
    """Ask whether a version has passed its tests, or that was overridden.

    :raises NotProven: neither.
    """
    verdict = find_verdict(repository, version)
    if verdict is not None and verdict.state is TestState.PASSED:
        return
    if find_override(repository, version) is not None:
        return
    if verdict is None:
        raise NotProven(f"{version} has not been tested", hint=f"goldsmith test {version}")
    raise NotProven(
        f"{version} has failed its tests: {verdict.summary}",
        hint="correct the image and build it again; or override the verdict, and say why",
    )
