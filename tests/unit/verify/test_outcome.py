"""Verdicts: when one is good, and what is written of it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from goldsmith.base.errors import RepositoryDamaged
from goldsmith.verify.document import describe_verdict, parse_verdict, render_verdict
from goldsmith.verify.junit import render_junit
from goldsmith.verify.outcome import Outcome, State, judge

from .verdicts import make_good_verdict, make_verdict


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["passed", "info", "skipped"], State.PASSED),
        (["passed", "failed"], State.FAILED),
        (["skipped", "info"], State.FAILED),
        ([], State.FAILED),
    ],
)
def test_one_failure_fails_it_and_silence_proves_nothing(states: list[str], wanted: State) -> None:
    assert judge([Outcome("x", State(state)) for state in states]) is wanted


def test_a_verdict_comes_back_from_json() -> None:
    verdict = make_verdict()
    assert parse_verdict(render_verdict(verdict)) == verdict
    described = describe_verdict(verdict)
    assert described["state"] == "failed"
    assert described["skipped"] == {"root-locked": "switched off: a rescue image"}
    assert described["figures"] == {"disk_bytes": 338223104.0}
    assert make_good_verdict().state is State.PASSED


def test_what_is_no_verdict_is_an_error() -> None:
    for data in (b"", b"[]", b"{}", b'{"version": 1}'):
        with pytest.raises(RepositoryDamaged, match="a verdict cannot be read"):
            parse_verdict(data)


def test_junit_holds_every_outcome() -> None:
    root = ET.fromstring(render_junit(make_verdict()))
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["hygiene", "tests"]
    hygiene = suites["hygiene"]
    assert [hygiene.get(key) for key in ("tests", "failures", "skipped")] == ["4", "1", "1"]
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert len(cases) == 6
    failure = cases["machine-id"].find("failure")
    assert failure is not None
    assert "<script>" in str(failure.get("message"))
    assert "second line" in str(failure.text)
    assert cases["test_user"].get("classname") == "test_image.py"
    measured = cases["disk-used"].find("properties/property")
    assert measured is not None
    assert measured.attrib == {"name": "disk_bytes", "value": "338223104"}
    skipped = cases["root-locked"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "switched off: a rescue image"
