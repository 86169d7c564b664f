"""Testinfra through a node's shell, without a guest: behind what wants a password first, commands run right here."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.base.secrets import Secret
from goldsmith.pve.shell import CommandShell
from goldsmith.pve.target import DirectTarget
from goldsmith.pve.way import Way
from goldsmith.verify.outcome import State

from .conftest import Bench

SUDO = """#!/bin/sh
# Wants a password on its input, and takes not a byte more, as sudo -S does; then it is lxc-attach, and comes in here.
password=""
while c=$(dd bs=1 count=1 2>/dev/null; echo x); [ "$c" != "
x" ] && [ "$c" != x ]; do password="$password${c%x}"; done
[ "$password" = 'se cret' ] || { echo "sudo: no password was provided" >&2; exit 1; }
while [ "$1" != -- ]; do shift; done; shift
exec "$@"
"""


class Node(CommandShell):
    """A node whose root wants a password, behind a shell that takes words apart as ssh's does."""

    machine = "node"

    def __init__(self, sudo: Path, password: str) -> None:
        self._way = Way(("sh", "-c"), (str(sudo),), Secret(password))

    def get_way(self, *, terminal: bool = False) -> Way:
        return self._way


def make_target(folder: Path, password: str = "se cret") -> DirectTarget:
    sudo = folder / "sudo of this test"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    return DirectTarget("guest", "192.0.2.7", 900, Node(sudo, password))


def test_commands_run_at_the_ways_end_and_never_see_the_password(bench: Bench, tmp_path: Path) -> None:
    bench.write(r"""
ODD = ["a b", "$HOME `id`", "'", '"', "\\", "*", "", "new\nline", "ü€", "%s"]
def test_words(host):
    command = "printf '%%s\\0' " + " ".join(["%s"] * len(ODD))
    assert host.check_output(command, *ODD).split("\0")[:-1] == ODD
def test_input(host):
    assert host.run("cat").stdout == ""
def test_streams(host):
    done = host.run("printf '\\377\\000\\n' >&2; printf '\\376\\000'; exit 255")
    assert (done.rc, done.stdout_bytes, done.stderr_bytes) == (255, b"\xfe\0", b"\xff\0\n")
def test_address(host):
    assert host.backend.get_hostname() == "192.0.2.7"
def test_settings_hold_no_password():
    import os, pathlib
    assert "se cret" not in pathlib.Path(os.environ["GOLDSMITH_TEST_SETTINGS"]).read_text()
""")
    assert set(bench.states(make_target(tmp_path)).items()) == {
        (name, State.PASSED)
        for name in ("test_words", "test_input", "test_streams", "test_address", "test_settings_hold_no_password")
    }


def test_a_way_that_ends_early_is_an_error_and_no_exit_code(bench: Bench, tmp_path: Path) -> None:
    bench.write("def test_it(host):\n    assert host.run('exit 1').rc == 1\n")
    outcome = bench.run(make_target(tmp_path, "wrong"))["test_it"]
    assert outcome.state is State.FAILED
    assert outcome.message == "RuntimeError: the guest cannot be entered: sudo: no password was provided"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sleep 60", "trap '' TERM; sleep 60; sleep 60"])
def test_a_command_that_hangs_is_ended_with_its_test(bench: Bench, tmp_path: Path, how: str) -> None:
    bench.test_timeout = 1.0
    bench.write(f"import os\ndef test_it(host):\n    host.run({f'echo $$ >{tmp_path}/pid; {how}'!r})\n")
    outcome = bench.run(make_target(tmp_path))["test_it"]
    assert outcome.message == "stopped: it did not end within 1 s"
    assert not runs((tmp_path / "pid").read_text().strip())


def runs(pid: str) -> bool:
    """Tell whether a process runs; one that has ended may lie about until its parent has asked for it."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
