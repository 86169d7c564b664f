"""Findings of an examination, for a person and as JSON."""

from __future__ import annotations

from dataclasses import asdict

from goldsmith.base.digest import JsonValue
from goldsmith.base.findings import Finding

MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
INDENT = " " * 9


def describe_finding(finding: Finding) -> JsonValue:
    """Return a finding as a JSON object."""
    return asdict(finding)


def render_finding(finding: Finding) -> str:
    """Render a finding for a person, with what to do about it below."""
    first, *rest = [f"{finding.subject}: {finding.message}", *finding.hint.splitlines()]
    told = "\n".join([first.replace("\n", f"\n{INDENT}"), *(f"{INDENT}{line}" for line in rest)])
    return f"{MARKS[finding.level]}  {told}"
