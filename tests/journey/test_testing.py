"""Testing versions, from the command line: passing, failing, interrupted, killed; and looking around in one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from goldsmith.node import daemon
from tests.journey.conftest import PASSWORD, Journey
from tests.lxc.images import SMALL

pytestmark = pytest.mark.root

FAILING = """
def test_what_is_not_there(host, variables):
    print("the password is", variables["template_password_hash"].read_text())
    assert host.file("/etc/not-there").exists
"""
PASSING = """
def test_what_is_there(host):
    assert host.file("/etc/debian_version").exists
"""
LONG = """
def test_long(host):
    host.check_output("sleep 300")
"""


def write_tests(journey: Journey, text: str, *, image: str = "lxc") -> None:
    folder = journey.images / image / "tests"
    folder.mkdir(exist_ok=True)
    for file in folder.glob("test_*.py"):
        file.unlink()
    (folder / "test_own.py").write_text(text)


def list_templates(journey: Journey) -> list[str]:
    """Templates that builds have left on the node; other journeys' too."""
    return sorted(path.name for path in (journey.node.settings.state / "plain/template/cache").glob("*"))


def test_a_version_passes_and_says_so_everywhere(journey: Journey) -> None:
    version = journey.goldsmith("build", "images/lxc").stdout.splitlines()[0]
    assert "untested" in journey.goldsmith("images").stdout
    done = journey.goldsmith("test", "lxc")
    assert done.stdout.startswith(f"{version} passed: ")
    for said in ("[1/7]", "hygiene", "has passed: ", "report: logs/debian-12-golden-"):
        assert said in done.stderr
    assert "passed" in journey.goldsmith("images").stdout
    page = journey.project / "logs" / f"{version.replace(':', '-')}.html"
    text = page.read_text()
    for said in ("test_the_account_is_there", "machine-id", "systemd", "openssh-server"):
        assert said in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    suites = ET.parse(page.with_suffix(".xml")).getroot()
    assert {suite.get("name") for suite in suites} == {"boot", "hygiene", "tests"}
    folder = journey.home / "reports"
    written = journey.goldsmith("images", "report", version, str(folder)).stdout.strip()
    assert Path(written).read_text() == text
    assert journey.find_leftovers() == []
    assert daemon.status(journey.node.settings) is None


def test_build_and_test_in_one_takes_a_failed_template_away(journey: Journey) -> None:
    journey.write_image(SMALL)
    write_tests(journey, FAILING)
    before = list_templates(journey)
    done = journey.goldsmith("build", "--test", "lxc", code=10)
    assert done.stdout == ""
    for said in (
        "error: lxc:",
        "failed",
        "test_own.py::test_what_is_not_there",
        "hint: look around in it: goldsmith shell",
    ):
        assert said in done.stderr
    assert "[removed template " in done.stderr
    (told,) = json.loads(journey.goldsmith("--json", "images").stdout)["images"]
    assert told["state"] == "failed"
    assert list_templates(journey) == before
    hashed = (journey.project / ".goldsmith" / "lxc.shadow").read_text().strip()
    for file in (journey.project / "logs").iterdir():
        assert hashed not in file.read_text()
        assert PASSWORD not in file.read_text()
    write_tests(journey, PASSING)
    done = journey.goldsmith("build", "--test", "lxc")
    version, template = done.stdout.splitlines()
    assert Path(template).is_file()
    assert "passed" in journey.goldsmith("images", "show", version).stdout


def test_a_throw_away_guest_of_a_version_is_gone_afterwards(journey: Journey) -> None:
    journey.write_image(SMALL)
    version = journey.goldsmith("build", "lxc").stdout.splitlines()[0]
    done = journey.goldsmith("shell", version, "sh", "-c", "hostname; id -un; exit 3", code=3)
    assert done.stdout.split() == ["lxc-test", "root"]
    assert "[removed test guest 900]" in done.stderr
    assert journey.find_leftovers() == []
    journey.write_image(SMALL, "test_connection: direct\n")
    done = journey.goldsmith(
        "shell", version, "sh", "-c", 'hostname; id -un; pwd; echo "$1"; exit 3', "sh", "a  b", code=3
    )
    assert done.stdout.splitlines() == ["lxc-test", "root", "/root", "a  b"]
    assert "entered through pve" in done.stderr
    assert journey.find_leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_test_leaves_nothing(journey: Journey, number: signal.Signals) -> None:
    journey.write_image(SMALL)
    write_tests(journey, LONG)
    journey.goldsmith("build", "lxc")
    started = journey.start("test", "lxc")
    started.await_text("[5/7] tests")
    started.send(number)
    assert started.wait(seconds=40) == 130
    assert "Traceback" not in started.output
    assert journey.find_leftovers() == []
    assert daemon.status(journey.node.settings) is None


def test_what_a_killed_test_leaves_is_removed_by_clean(journey: Journey) -> None:
    journey.write_image(SMALL)
    write_tests(journey, LONG)
    journey.goldsmith("build", "lxc")
    started = journey.start("test", "lxc")
    started.await_text("[5/7] tests")
    os.killpg(started.process.pid, signal.SIGKILL)
    started.wait()
    done = journey.goldsmith("clean")
    assert "[removed guest 900, left by test " in done.stderr
    assert [found for found in journey.find_leftovers() if "/tmp/" not in found] == []
    assert daemon.status(journey.node.settings) is None


def test_a_test_file_that_cannot_be_read_is_named_before_anything_starts(journey: Journey) -> None:
    journey.write_image(SMALL)
    journey.goldsmith("build", "lxc")
    write_tests(journey, "import nothing_of_that_name\n")
    done = journey.goldsmith("test", "lxc", code=2)
    assert "images/lxc/tests/test_own.py:1: " in done.stderr
    assert "nothing_of_that_name" in done.stderr
    assert journey.find_leftovers() == []
