"""The user's own tests, run for real: pytest in a process of its own, testinfra over a real ssh."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from goldsmith.base.errors import DefinitionError, Interrupted
from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText
from goldsmith.pve.target import Target
from goldsmith.verify.outcome import State
from goldsmith.verify.tests import TestGroup

from .conftest import Bench

pytestmark = pytest.mark.slow  # each starts pytest
PASSED, FAILED, SKIPPED = State.PASSED, State.FAILED, State.SKIPPED


def test_outcomes_come_back_with_their_words(bench: Bench, subject: Target) -> None:
    bench.write("""
import pytest
def test_good(host):
    assert host.file("/etc/passwd").exists
    assert host.user("root").uid == 0
def test_bad(host):
    print("looked for it")
    assert host.file("/nowhere").exists, "it should be there"
@pytest.mark.skip(reason="not here")
def test_left_out(host): pass
@pytest.mark.xfail(reason="a known bug")
def test_known(host): assert False
def test_in_a_fixture(missing): pass
@pytest.mark.parametrize("name", ["root", "nobody"])
def test_many(host, name): assert host.user(name).exists
""")
    outcomes = bench.run(subject)
    assert {name: one.state for name, one in outcomes.items()} == {
        "test_good": PASSED, "test_bad": FAILED, "test_left_out": SKIPPED, "test_known": SKIPPED,
        "test_in_a_fixture": FAILED, "test_many[root]": PASSED, "test_many[nobody]": PASSED,
    }  # fmt: skip
    bad = outcomes["test_bad"]
    assert bad.message == "it should be there"
    assert "looked for it" in bad.detail
    assert "def test_bad" in bad.detail
    assert outcomes["test_left_out"].message == "not here"
    assert outcomes["test_known"].message == "known to fail: a known bug"
    assert outcomes["test_in_a_fixture"].message.startswith("setting up: ")
    assert outcomes["test_good"].seconds > 0
    assert "1 failed" not in bench.log.read_text().splitlines()[0]
    assert stat.S_IMODE(bench.log.stat().st_mode) == 0o600


def test_commands_run_on_the_subject_over_ssh(bench: Bench, subject: Target) -> None:
    bench.write(
        """
def test_where(host):
    assert host.backend.NAME == "ssh"
    assert host.run("echo $SSH_CONNECTION").stdout.split()[3].strip() == "PORT"
""".replace("PORT", str(subject.port))
    )
    assert bench.states(subject) == {"test_where": PASSED}


def test_a_module_that_names_other_hosts_still_tests_the_guest(bench: Bench, subject: Target) -> None:
    bench.write("""
testinfra_hosts = ["ssh://production.example.com", "local://"]
def test_it(host): assert host.run("echo $SSH_CONNECTION").stdout.strip()
""")
    assert bench.states(subject) == {"test_it": PASSED}


def test_variables_are_plain_and_secrets_are_files(bench: Bench, subject: Target) -> None:
    bench.variables = {
        "apps": ["git", "htop"], "flag": True, "none": None, "raw": UnsafeText("{{ x }}"),
        "token": Secret('hush "quoted" hush'), "deep": {"password": Secret("deep-hush")},
    }  # fmt: skip
    bench.write("""
def test_it(variables):
    assert variables["apps"] == ["git", "htop"]
    assert variables["flag"] is True
    assert variables["none"] is None
    assert variables["raw"] == "{{ x }}"
    file = variables["token"]
    assert file.stat().st_mode & 0o777 == 0o600
    print(file.read_text(), variables["deep"]["password"].read_text())
    assert [file.read_text()] == []
""")
    outcome = bench.run(subject)["test_it"]
    assert outcome.state is FAILED
    for text in (outcome.message, outcome.detail, bench.log.read_text(), repr(bench.told)):
        assert "hush" not in text
    assert "********" in outcome.detail


def test_a_test_runs_for_each_item_of_a_variable(bench: Bench, subject: Target) -> None:
    bench.variables = {"users": ["root", "nobody"]}
    bench.write("""
import pytest
@pytest.mark.for_each("name", "users")
def test_user(host, name): assert host.user(name).exists
""")
    assert bench.states(subject) == {"test_user[root]": PASSED, "test_user[nobody]": PASSED}
    bench.write("import pytest\n@pytest.mark.for_each('n', 'usres')\ndef test_user(n): pass\n")
    with pytest.raises(DefinitionError) as caught:
        bench.groups()
    assert "the image has no variable 'usres'" in caught.value.problems[0].message


def test_destructive_tests_classes_and_modules_are_groups_of_their_own(bench: Bench, subject: Target) -> None:
    bench.write("""
import pytest
def test_calm(): pass
@pytest.mark.destructive
def test_wild(host): assert host.run("true").rc == 0
@pytest.mark.destructive
class TestBoth:
    def test_one(self): pass
    @pytest.mark.destructive
    def test_two(self): pass
""")
    bench.write("import pytest\npytestmark = pytest.mark.destructive\ndef test_a(): pass\ndef test_b(): pass\n",
                "test_module.py")  # fmt: skip
    groups = bench.groups()
    assert groups == [
        TestGroup("shared", ("test_it.py::test_calm",)),
        TestGroup("test_it.py::test_wild", ("test_it.py::test_wild",), destructive=True),
        TestGroup("test_it.py::TestBoth", ("test_it.py::TestBoth::test_one", "test_it.py::TestBoth::test_two"),
                  destructive=True),
        TestGroup("test_module.py", ("test_module.py::test_a", "test_module.py::test_b"), destructive=True),
    ]  # fmt: skip
    assert list(bench.run(subject, groups[0])) == ["test_calm"]
    bench.told.clear()
    assert list(bench.run(subject, groups[1])) == ["test_wild"]


def test_a_file_that_cannot_be_read_is_named_with_its_line(bench: Bench) -> None:
    bench.write("def test_it(:\n")
    with pytest.raises(DefinitionError) as caught:
        bench.groups()
    (problem,) = caught.value.problems
    assert problem.file == bench.directory / "test_it.py"
    assert "invalid syntax" in problem.message or "SyntaxError" in problem.message
    bench.write("import nothing_of_that_name\n")
    with pytest.raises(DefinitionError, match="1 problem") as caught:
        bench.groups()
    assert "nothing_of_that_name" in caught.value.problems[0].message


def test_without_tests_there_are_no_groups(bench: Bench) -> None:
    assert bench.groups() == []
    bench.write("", "notes.txt")
    assert bench.groups() == []
    bench.write("X = 1\n", "helper.py")
    assert bench.groups() == []


# --- whose configuration counts


def test_the_configuration_beside_the_tests_counts_and_none_from_above(bench: Bench, subject: Target) -> None:
    bench.write("import pytest\n@pytest.fixture\ndef number(): return 7\n", "conftest.py")
    bench.write("from helper import X\ndef check_it(number): assert number == X\n")
    bench.write("X = 7\n", "helper.py")
    bench.write("[pytest]\npython_functions = check_*\n", "pytest.ini")
    (bench.folder / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (bench.folder / "images" / "conftest.py").write_text("raise RuntimeError('not yours')\n")
    assert bench.states(subject) == {"check_it": PASSED}
    assert sorted(path.name for path in bench.directory.iterdir()) == [
        "conftest.py", "helper.py", "pytest.ini", "test_it.py",
    ]  # fmt: skip


def test_a_configuration_that_pytest_refuses_is_a_problem(bench: Bench) -> None:
    bench.write("def test_it(): pass\n")
    bench.write("[pytest]\naddopts = --no-such-option\n", "pytest.ini")
    with pytest.raises(DefinitionError) as caught:
        bench.groups()
    assert "--no-such-option" in caught.value.problems[0].message


# --- limits, interrupts, deaths

HANGING = """
import time
def test_before(): pass
def test_hangs(host):
    print("about to wait")
    host.run("sleep 60")
def test_after(): pass
"""


def test_a_hanging_test_is_stopped_at_its_limit_and_the_others_run(bench: Bench, subject: Target) -> None:
    bench.write(HANGING)
    bench.test_timeout = 1.0
    begun = time.monotonic()
    outcomes = bench.run(subject)
    assert time.monotonic() - begun < 10
    assert {name: one.state for name, one in outcomes.items()} == {
        "test_before": PASSED, "test_hangs": FAILED, "test_after": PASSED,
    }  # fmt: skip
    hangs = outcomes["test_hangs"]
    assert hangs.message == "stopped: it did not end within 1 s"
    assert "about to wait" in hangs.detail
    assert 'host.run("sleep 60")' in hangs.detail


def test_a_test_that_cannot_be_stopped_is_ended_from_outside(bench: Bench, subject: Target,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("goldsmith.verify.session.STOP_GRACE", 1.0)
    bench.write("""
import signal, time
def test_before(): pass
def test_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(60)
def test_after(): pass
""")
    bench.test_timeout = 1.0
    outcomes = bench.run(subject)
    assert outcomes["test_before"].state is PASSED
    assert outcomes["test_deaf"].message == "stopped: it did not end within 1 s"
    assert outcomes["test_after"].message == "was not run: stopped: it did not end within 1 s"
    assert "test_before PASSED" in outcomes["test_deaf"].detail


def test_a_session_is_stopped_at_its_own_limit(bench: Bench, subject: Target) -> None:
    bench.write("import time\ndef test_a(): time.sleep(0.3)\ndef test_b(): time.sleep(60)\n")
    bench.session_timeout = 2.0
    outcomes = bench.run(subject)
    assert outcomes["test_a"].state is PASSED
    assert outcomes["test_b"].message == "stopped: all tests together did not end within 2 s"


def test_a_session_that_dies_fails_what_it_has_not_done(bench: Bench, subject: Target) -> None:
    bench.write("import os, signal\ndef test_a(): pass\ndef test_b(): os.kill(os.getpid(), 9)\ndef test_c(): pass\n")
    outcomes = bench.run(subject)
    assert outcomes["test_a"].state is PASSED
    assert outcomes["test_b"].message.startswith("pytest was killed by signal 9")
    assert outcomes["test_c"].message.startswith("was not run: pytest was killed by signal 9")


def test_a_subject_that_cannot_be_reached_fails_its_tests(bench: Bench, subject: Target, tmp_path: Path) -> None:
    bench.write("def test_it(host): host.run('true')\n")
    foreign = tmp_path / "known_hosts"
    foreign.write_text("")
    stranger = Target("x", subject.address, subject.private_key, foreign, subject.port, subject.user)
    outcome = bench.run(stranger)["test_it"]
    assert outcome.state is FAILED
    assert "Host key verification failed" in outcome.detail


def test_an_interrupt_ends_everything(bench: Bench, subject: Target) -> None:
    bench.write(HANGING)
    seen: list[str] = []

    def is_stopped() -> bool:
        seen[:] = list_ours(bench)
        return any("sleep 60" in command for command in seen)

    with pytest.raises(Interrupted):
        bench.run(subject, is_stopped=is_stopped)
    assert any("pytest" in command for command in seen)
    assert list_ours(bench) == []


def test_nothing_is_left_of_a_session(
    bench: Bench, subject: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    bench.write("def test_it(host): assert host.run('true').rc == 0\n")
    assert bench.states(subject) == {"test_it": PASSED}
    assert list((tmp_path / "t").iterdir()) == []
    assert list_ours(bench) == []


def test_what_a_killed_session_has_left_is_removed_by_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "goldsmith-test-left"
    left.mkdir(mode=0o700)
    (left / "lock").touch()
    foreign = tmp_path / "goldsmith-test-foreign"
    foreign.mkdir(mode=0o755)
    bench.write("def test_it(): pass\n")
    bench.groups()
    assert not left.exists()
    assert foreign.exists()


def list_ours(bench: Bench) -> list[str]:
    """Processes that work in the folder of the tests: pytest, its ssh, and the master that ssh leaves behind."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where, command = os.readlink(process / "cwd"), (process / "cmdline").read_bytes()  # noqa: PTH115
        except OSError:
            continue
        if where.startswith(str(bench.folder)):
            found.append(command.decode(errors="replace"))
    return found
