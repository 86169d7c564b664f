"""A verdict as JUnit XML, which CI systems show.

The form is that of pytest's own `--junit-xml` (family xunit2), of which Jenkins and GitLab publish schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from goldsmith.verify.outcome import Outcome, State, Verdict
from goldsmith.verify.text import clean


def render_junit(verdict: Verdict) -> str:
    """Render a verdict: one suite for each kind of check."""
    root = ET.Element("testsuites", name=clean(verdict.version))
    for group in dict.fromkeys(outcome.group for outcome in verdict.outcomes):
        outcomes = [outcome for outcome in verdict.outcomes if outcome.group == group]
        suite = ET.SubElement(root, "testsuite", _count(group, outcomes, verdict))
        for outcome in outcomes:
            suite.append(_make_case(outcome))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _count(group: str, outcomes: Sequence[Outcome], verdict: Verdict) -> dict[str, str]:
    states = [outcome.state for outcome in outcomes]
    return {
        "name": group,
        "tests": str(len(states)),
        "failures": str(states.count(State.FAILED)),
        "errors": "0",
        "skipped": str(states.count(State.SKIPPED)),
        "time": f"{sum(outcome.seconds for outcome in outcomes):.3f}",
        "timestamp": verdict.started.isoformat(timespec="seconds"),
    }


def _make_case(outcome: Outcome) -> ET.Element:
    where, _, name = outcome.name.rpartition("::")
    attributes = {"classname": where or outcome.group, "name": name, "time": f"{outcome.seconds:.3f}"}
    case = ET.Element("testcase", {key: clean(text) for key, text in attributes.items()})
    if outcome.figures:
        properties = ET.SubElement(case, "properties")
        for figure, value in outcome.figures.items():
            ET.SubElement(properties, "property", name=figure, value=f"{value:.15g}")
    if outcome.state is State.FAILED:
        ET.SubElement(case, "failure", message=clean(outcome.message)).text = clean(outcome.detail)
    elif outcome.state is State.SKIPPED:
        ET.SubElement(case, "skipped", message=clean(outcome.message))
    elif outcome.message or outcome.detail:
        ET.SubElement(case, "system-out").text = clean("\n".join([outcome.message, outcome.detail]).strip())
    return case
