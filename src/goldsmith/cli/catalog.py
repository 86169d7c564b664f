"""Stored versions in words, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from goldsmith.artifacts.record import BuildRecord, render_record, render_time
from goldsmith.base.digest import JsonValue
from goldsmith.base.units import render_bytes
from goldsmith.cli.standing import Signed, Standing
from goldsmith.cli.table import render_pairs, render_table
from goldsmith.cli.versions import Stored
from goldsmith.cli.words import render_seconds

_SIGNED = {"none": "-", "valid": "yes", "invalid": "not validly", "unchecked": "unchecked"}


def render_list(listed: Iterable[tuple[Stored, Standing]]) -> str:
    """Render versions as a table."""
    rows = [
        (
            str(stored.version),
            standing.word,
            ",".join(standing.channels) or "-",
            _SIGNED[standing.signed.state],
            f"{stored.version.created.astimezone():%Y-%m-%d %H:%M}",
            render_bytes(stored.version.size),
            stored.record.base_name if stored.record else "-",
            str(len(stored.record.packages)) if stored.record else "-",
        )
        for stored, standing in listed
    ]
    return render_table(("VERSION", "STATE", "CHANNELS", "SIGNED", "CREATED", "SIZE", "BASE", "PACKAGES"), rows)


def _describe_standing(standing: Standing) -> dict[str, str]:
    verdict, override = standing.verdict, standing.override
    described = {"state": standing.state.value}
    if verdict is not None:
        described["tested"] = f"{verdict.tested.astimezone():%Y-%m-%d %H:%M:%S %z}\n{verdict.summary}"
    if override is not None:
        described["override"] = f"by {override.who}, {override.at.astimezone():%Y-%m-%d %H:%M}: {override.reason}"
    if standing.revoked:
        described["revoked"] = standing.revoked
    return {
        **described, "channels": ", ".join(standing.channels) or "none", "signed": _render_signed(standing.signed)
    }  # fmt: skip


def _render_signed(signed: Signed) -> str:
    if signed.signature is None:
        return ": ".join(filter(None, (_SIGNED[signed.state].replace("-", "no"), signed.message)))
    signature = signed.signature
    when = f"{signature.statement.at.astimezone():%Y-%m-%d %H:%M}"
    return f"by {signature.signer}, {when}, with {signature.fingerprint}"


def render_stored(stored: Stored, standing: Standing) -> str:
    """Render a version with its record."""
    version, record = stored.version, stored.record
    pairs = {
        "version": str(version),
        "digest": version.digest,
        **_describe_standing(standing),
        "created": f"{version.created.astimezone():%Y-%m-%d %H:%M:%S %z}",
        "size": render_bytes(version.size),
        "repository": stored.repository.location,
        **({"backup": f"{version.backup}, on its node alone"} if version.backup else {}),
        "layers": "\n".join(f"{layer.digest}  {render_bytes(layer.size)}" for layer in version.layers) or "none",
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


def describe_standing(standing: Standing) -> dict[str, JsonValue]:
    """Return how a version stands as JSON."""
    verdict, override, signature = standing.verdict, standing.override, standing.signed.signature
    return {
        "state": standing.state.value,
        "tested": render_time(verdict.tested) if verdict else None,
        "summary": verdict.summary if verdict else None,
        "override": {"who": override.who, "reason": override.reason, "at": render_time(override.at)}
        if override
        else None,
        "revoked": standing.revoked or None,
        "channels": list(standing.channels),
        "signed": {
            "state": standing.signed.state,
            "signer": signature.signer if signature else None,
            "fingerprint": signature.fingerprint if signature else None,
            "at": render_time(signature.statement.at) if signature else None,
            "message": standing.signed.message or None,
        },
    }


def describe(stored: Stored, standing: Standing, *, whole: bool = False) -> JsonValue:
    """Return a version as JSON; `whole`: with everything that was recorded."""
    version, record = stored.version, stored.record
    short: dict[str, JsonValue] = {
        "version": str(version),
        "name": version.name,
        "tag": version.tag,
        "digest": version.digest,
        **describe_standing(standing),
        "created": render_time(version.created),
        "size": version.size,
        "repository": stored.repository.location,
        "backup": version.backup or None,
        "base": record.base_name if record else None,
        "packages": len(record.packages) if record else None,
    }
    if not whole:
        return short
    layers: list[JsonValue] = [{"digest": layer.digest, "size": layer.size} for layer in version.layers]
    return {**short, "layers": layers, "record": json.loads(render_record(record)) if record else None}
