"""A verdict as JSON, and back; what a later goldsmith adds is passed over."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from goldsmith.base.digest import Digest, JsonValue, render_canonical_json
from goldsmith.base.errors import RepositoryDamaged
from goldsmith.verify.outcome import Installed, Outcome, Portrait, State, UnitStart, Verdict


def describe_verdict(verdict: Verdict) -> dict[str, JsonValue]:
    """Return a verdict as a JSON object. `skipped` and `figures` repeat what `outcomes` say, to be read alone."""
    return {
        "version": verdict.version,
        "digest": verdict.digest,
        "state": verdict.state.value,
        "started": verdict.started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(verdict.seconds, 3),
        "outcomes": [_describe_outcome(outcome) for outcome in verdict.outcomes],
        "figures": verdict.figures,
        "skipped": {outcome.name: outcome.message for outcome in verdict.list_in(State.SKIPPED)},
        "portrait": _describe_portrait(verdict.portrait),
        "facts": dict(verdict.facts),
    }


def render_verdict(verdict: Verdict) -> bytes:
    """Render a verdict as canonical JSON."""
    return render_canonical_json(describe_verdict(verdict))


def _describe_outcome(outcome: Outcome) -> dict[str, JsonValue]:
    return {
        "name": outcome.name,
        "group": outcome.group,
        "state": outcome.state.value,
        "seconds": round(outcome.seconds, 3),
        "message": outcome.message,
        "detail": outcome.detail,
        "figures": dict(outcome.figures),
    }


def _describe_portrait(portrait: Portrait) -> dict[str, JsonValue]:
    return {
        "system": portrait.system,
        "bootSeconds": round(portrait.boot_seconds, 3),
        "timeline": [[unit.unit, round(unit.begin, 4), round(unit.end, 4)] for unit in portrait.timeline],
        "journalErrors": list(portrait.journal_errors),
        "packages": [[package.name, package.version, package.arch] for package in portrait.packages],
    }


def parse_verdict(data: bytes) -> Verdict:
    """Parse a verdict.

    :raises RepositoryDamaged: it is none.
    """
    try:
        value = json.loads(data)
        return Verdict(
            version=str(value["version"]),
            digest=Digest(str(value["digest"])),
            started=datetime.fromisoformat(value["started"]),
            seconds=float(value["seconds"]),
            outcomes=tuple(_parse_outcome(outcome) for outcome in value["outcomes"]),
            portrait=_parse_portrait(value.get("portrait", {})),
            facts={str(name): str(text) for name, text in value.get("facts", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RepositoryDamaged(f"a verdict cannot be read: {type(error).__name__}: {error}") from error


def _parse_outcome(value: Mapping[str, Any]) -> Outcome:
    return Outcome(
        name=str(value["name"]),
        state=State(value["state"]),
        seconds=float(value.get("seconds", 0)),
        message=str(value.get("message", "")),
        detail=str(value.get("detail", "")),
        figures={str(name): float(number) for name, number in value.get("figures", {}).items()},
        group=str(value.get("group", "")),
    )


def _parse_portrait(value: Mapping[str, Any]) -> Portrait:
    return Portrait(
        system=str(value.get("system", "")),
        boot_seconds=float(value.get("bootSeconds", 0)),
        timeline=tuple(
            UnitStart(str(unit), float(begin), float(end)) for unit, begin, end in value.get("timeline", [])
        ),
        journal_errors=_texts(value.get("journalErrors", [])),
        packages=tuple(Installed(*map(str, package)) for package in value.get("packages", [])),
    )


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
