"""What goss says is read; what it must not see is not given to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from goldsmith.base.events import Event, Events
from goldsmith.base.process import SAFE_PATH, Completed
from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText, VaultText
from goldsmith.pve.target import Target
from goldsmith.verify.goss import drop_secrets, has_goss, parse_goss, run_goss
from goldsmith.verify.outcome import State
from goldsmith.verify.subject import open_subject
from goldsmith.verify.tests import UserTests

RESULT = {
    "duration": 1_500_000, "err": None, "property": "exists", "resource-id": "/etc/passwd", "resource-type": "File",
    "result": 0, "skipped": False, "successful": True, "summary-line": "File: /etc/passwd: exists: matches [true]",
}  # fmt: skip
WRONG = {
    "result": 1, "successful": False, "property": "installed", "resource-id": "git", "resource-type": "Package",
    "summary-line": "Package: git: installed:\nExpected\n    false\nto equal\n    true",
}  # fmt: skip


def say(results: object, code: int = 0) -> Completed:
    return Completed("goss", code, json.dumps({"results": results, "summary": {}}), "")


def test_results_become_outcomes() -> None:
    skipped = {**RESULT, "property": "mode", "result": 2, "summary-line": "File: /etc/passwd: mode: skipped"}
    good, bad, left_out = parse_goss(say([RESULT, {**RESULT, **WRONG}, skipped], 1))
    assert (good.name, good.state, round(good.seconds, 4)) == ("File::/etc/passwd: exists", State.PASSED, 0.0015)
    assert (bad.state, bad.message) == (State.FAILED, "Package: git: installed:")
    assert "to equal" in bad.detail
    assert left_out.state is State.SKIPPED
    assert {good.group, bad.group} == {"goss"}


@pytest.mark.parametrize("said", ["", "Error: yaml: line 3: mapping values", '{"summary": {}}', "[]"])
def test_what_cannot_be_read_is_a_failure_with_its_words(said: str) -> None:
    (outcome,) = parse_goss(Completed("goss", 1, said, "Error: it is broken"))
    assert outcome.state is State.FAILED
    assert outcome.message == "goss cannot run it: Error: it is broken"


def test_an_odd_exit_code_is_a_failure() -> None:
    assert [outcome.state for outcome in parse_goss(say([RESULT], 78))] == [State.PASSED, State.FAILED]


def test_secrets_are_not_given_to_goss() -> None:
    given = {"a": 1, "s": Secret("x"), "v": VaultText("y"), "deep": {"s": Secret("z"), "u": UnsafeText("{{ }}")},
             "many": ["b", Secret("w")], "path": Path("/etc")}  # fmt: skip
    assert drop_secrets(given) == {"a": 1, "deep": {"u": "{{ }}"}, "many": ["b"], "path": "/etc"}


def test_without_goss_it_is_skipped_with_the_reason(subject: Target, tmp_path: Path) -> None:
    if shutil.which("goss", path=SAFE_PATH):
        pytest.skip("goss is installed here")
    tests, told = UserTests(tmp_path), list[Event]()
    assert not has_goss(tests)
    tests.goss_file.write_text("file: {}\n")
    assert has_goss(tests)
    with open_subject(subject) as shell:
        (outcome,) = run_goss(tests, shell, events=Events(told.append))
    assert (outcome.name, outcome.state) == ("goss.yaml", State.SKIPPED)
    assert "installed neither" in outcome.message
    assert len(told) == 1
