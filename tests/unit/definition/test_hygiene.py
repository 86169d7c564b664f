"""What vars.yml may say about the built-in checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goldsmith.definition.describe import render_json_schema
from goldsmith.definition.hygiene import HYGIENE_CHECKS, LIMITED_CHECKS

from .making import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_checks_are_switched_off_by_name_with_a_reason(place: Place) -> None:
    place.write("why: open spool\nhygiene_skip:\n  no-world-writable: '{{ why }}'\n  root-locked: rescue\n")
    wanted = {"no-world-writable": "open spool", "root-locked": "rescue"}
    assert dict(place.load().variables.hygiene_skip) == wanted


def test_without_a_word_all_checks_are_made(place: Place) -> None:
    variables = place.load().variables
    assert (variables.hygiene_skip, variables.hygiene_users, variables.hygiene_limits) == ({}, (), {})
    assert variables.test_timeout == 300
    assert variables.test_connection == "ssh"


def test_tests_may_enter_their_guests_directly(place: Place) -> None:
    place.write("test_connection: direct\n")
    assert place.load().variables.test_connection == "direct"
    forms = json.loads(render_json_schema())["properties"]["test_connection"]["anyOf"]
    assert forms[0] == {"type": "string", "enum": ["ssh", "direct", "console"]}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("hygiene_skip: {no-failed-unit: x}", "'no-failed-unit' is no check (did you mean 'no-failed-units'?)"),
        ("hygiene_skip: {machine_id: x}", "'machine_id' is no check (did you mean 'machine-id'?)"),
        ("hygiene_skip: {zebra: x}", "'zebra' is no check"),
        ("hygiene_skip: {machine-id: }", "'machine-id' has no reason; say in a few words why"),
        ("hygiene_skip: {machine-id: ' '}", "'machine-id' has no reason"),
        ("hygiene_skip: [machine-id]", "is not a mapping from names of checks"),
        ("hygiene_users: ops", "is not a list"),
        ("hygiene_users: ['Bad Name']", "'Bad Name' cannot be a login name"),
        ("hygiene_limits: {machine-id: 3}", "'machine-id' is no check with a limit"),
        ("hygiene_limits: {disk-used: much}", "the limit for 'disk-used' is not a number of MiB"),
        ("hygiene_limits: {disk-used: -1}", "the limit for 'disk-used' is not a number of MiB"),
        ("hygiene_limits: {time-to-ready: true}", "the limit for 'time-to-ready' is not a number of seconds"),
        ("test_timeout: 0", "0 is too small"),
        ("test_timeout: soon", "not a whole number"),
        ("test_connection: telnet", "is 'telnet', not ssh, direct or console"),
        ("test_connection: yes", "is a truth value, not ssh, direct or console"),
    ],
)
def test_what_is_wrong_is_said_at_its_line(place: Place, written: str, said: str) -> None:
    place.write(f"apps: []\n{written}\n")
    (problem,) = place.fail()
    assert problem.startswith(f"vars.yml:2: {written.partition(':')[0]}")
    assert said in problem


def test_editors_complete_the_names_of_checks() -> None:
    properties = json.loads(render_json_schema())["properties"]
    assert list(properties["hygiene_skip"]["anyOf"][0]["properties"]) == list(HYGIENE_CHECKS)
    assert list(properties["hygiene_limits"]["anyOf"][0]["properties"]) == list(LIMITED_CHECKS)
