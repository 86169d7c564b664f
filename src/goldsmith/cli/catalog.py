"""Stored versions in words, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from goldsmith.artifacts.proof import find_override
from goldsmith.artifacts.record import BuildRecord, render_record, render_time
from goldsmith.artifacts.verdicts import find_verdict, get_state
from goldsmith.base.digest import JsonValue
from goldsmith.base.units import render_bytes
from goldsmith.cli.table import render_pairs, render_table
from goldsmith.cli.versions import Stored
from goldsmith.cli.words import render_seconds


def render_list(stored: Iterable[Stored]) -> str:
    """Render versions as a table."""
    rows = [
        (
            str(item.version),
            render_state(item),
            f"{item.version.created.astimezone():%Y-%m-%d %H:%M}",
            render_bytes(item.version.size),
            item.record.base_name if item.record else "-",
            str(len(item.record.packages)) if item.record else "-",
        )
        for item in stored
    ]
    return render_table(("VERSION", "STATE", "CREATED", "SIZE", "BASE", "PACKAGES"), rows)


def render_state(stored: Stored) -> str:
    """Return whether a version has passed, and whether somebody has said that it may be used all the same."""
    state = get_state(stored.repository, stored.version).value
    return f"{state} (overridden)" if find_override(stored.repository, stored.version) is not None else state


def _describe_state(stored: Stored) -> dict[str, str]:
    verdict = find_verdict(stored.repository, stored.version)
    override = find_override(stored.repository, stored.version)
    described = {"state": get_state(stored.repository, stored.version).value}
    if verdict is not None:
        described["tested"] = f"{verdict.tested.astimezone():%Y-%m-%d %H:%M:%S %z}\n{verdict.summary}"
    if override is not None:
        described["override"] = f"by {override.who}, {override.at.astimezone():%Y-%m-%d %H:%M}: {override.reason}"
    return described


def render_stored(stored: Stored) -> str:
    """Render a version with its record."""
    version, record = stored.version, stored.record
    pairs = {
        "version": str(version),
        "digest": version.digest,
        **_describe_state(stored),
        "created": f"{version.created.astimezone():%Y-%m-%d %H:%M:%S %z}",
        "size": render_bytes(version.size),
        "repository": str(stored.repository.path),
        "layers": "\n".join(f"{layer.digest}  {render_bytes(layer.size)}" for layer in version.layers),
    }
    return render_pairs({**pairs, **(_describe_record(record) if record else {"record": "none"})})


def _describe_record(record: BuildRecord) -> dict[str, str]:
    commit = f"{record.git.commit}{', with changes' if record.git.dirty else ''}" if record.git else "none"
    return {
        "image": record.image,
        "base": f"{record.base_name}\n{record.base_digest}",
        "playbook": record.playbook_digest,
        "commit": commit,
        "built": f"in {render_seconds(record.seconds)} on {record.node_kind} {record.node_version}".rstrip(),
        "build": record.build_id,
        "tools": "\n".join(f"{name} {version}" for name, version in sorted(record.tools.items())),
        "variables": "\n".join(f"{name}: {_render_value(value)}" for name, value in sorted(record.variables.items())),
        "packages": "\n".join(f"{package.name} {package.version}" for package in record.packages),
    }


def _render_value(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _describe_verdict(stored: Stored) -> dict[str, JsonValue]:
    verdict = find_verdict(stored.repository, stored.version)
    override = find_override(stored.repository, stored.version)
    return {
        "state": get_state(stored.repository, stored.version).value,
        "tested": render_time(verdict.tested) if verdict else None,
        "summary": verdict.summary if verdict else None,
        "override": {"who": override.who, "reason": override.reason, "at": render_time(override.at)}
        if override
        else None,
    }


def describe(stored: Stored, *, whole: bool = False) -> JsonValue:
    """Return a version as JSON; `whole`: with everything that was recorded."""
    version, record = stored.version, stored.record
    short: dict[str, JsonValue] = {
        "version": str(version),
        "name": version.name,
        "tag": version.tag,
        "digest": version.digest,
        **_describe_verdict(stored),
        "created": render_time(version.created),
        "size": version.size,
        "repository": str(stored.repository.path),
        "base": record.base_name if record else None,
        "packages": len(record.packages) if record else None,
    }
    if not whole:
        return short
    layers: list[JsonValue] = [{"digest": layer.digest, "size": layer.size} for layer in version.layers]
    return {**short, "layers": layers, "record": json.loads(render_record(record)) if record else None}
