"""Programs and files go through a container's console alone: the guest has no network device at all."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goldsmith.base.errors import ProgramTimedOut, ProvisionError, ShellFailed, UsageError
from goldsmith.base.process import open_process, run
from goldsmith.cli.site import STATE_VARIABLE
from goldsmith.node import daemon
from goldsmith.pve.client import Pve, open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.console.shell import ConsoleShell, open_console
from goldsmith.verify.settle import find_unreadiness
from tests.lxc.desks import ALL_BYTES, MIB, PLAY, Desk, make_desk, measure_copies
from tests.lxc.guests import Guest, Guests, RunningNode, wait_until

pytestmark = pytest.mark.root
GOLDSMITH = Path(sys.executable).with_name("goldsmith")
LARGE = 21 * MIB


@pytest.fixture(scope="module")
def guest(node: RunningNode) -> Iterator[Guest]:
    guests = Guests(node)
    yield guests(start=True, cmode="shell", net0=None, memory=512)
    guests.remove_all()


@pytest.fixture(scope="module")
def pve(node: RunningNode) -> Iterator[Pve]:
    """A token, and nothing else; the certificate is pinned."""
    access = daemon.start(node.settings)
    address = access.address
    connection = Connection(
        address.host, address.port, token_id=access.token_id, token_secret=access.token_secret,
        fingerprint=address.fingerprint,
    )  # fmt: skip
    with open_pve(connection) as pve:
        yield pve


@pytest.fixture(scope="module")
def shell(guest: Guest, pve: Pve) -> Iterator[ConsoleShell]:
    with open_console(pve, "pve", guest.vmid, "the guest") as shell:
        wait_until(lambda: find_unreadiness(shell) is None, seconds=60, what="guest")
        yield shell


def start(shell: ConsoleShell, *argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(word) for word in shell.get_way().wrap(argv)], capture_output=True, check=False, timeout=60
    )


def count(guest: Guest, pattern: str) -> int:
    """How many processes of the guest look like this."""
    return len(guest.sh(f"pgrep -f '[{pattern[0]}]{pattern[1:]}'", check=False).split())


def test_every_byte_comes_back_in_its_own_stream_with_the_code(shell: ConsoleShell) -> None:
    script = "cat >/tmp/bytes; cat /tmp/bytes; cat /tmp/bytes /tmp/bytes >&2; exit 77"
    done = subprocess.run(
        [str(word) for word in shell.get_way().wrap(["sh", "-c", script])], input=ALL_BYTES, capture_output=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (77, ALL_BYTES, ALL_BYTES * 2)


def test_words_variables_and_codes_arrive_as_they_are(shell: ConsoleShell) -> None:
    odd = ["printf", "%s|", "", " ", "a\nb", "'\"$(x)`\\", "ünd €", "*", "-n"]
    assert start(shell, *odd).stdout == "|".join([*odd[2:], ""]).encode()
    said = shell.run(["sh", "-c", "id -u; echo $HOME $USER $LANG; pwd; umask; tty; cat"]).stdout
    assert said.split("\n") == ["0", "/root root C.UTF-8", "/", "0022", "not a tty", ""]
    assert [start(shell, "sh", "-c", f"exit {code}").returncode for code in (0, 1, 255)] == [0, 1, 255]
    assert start(shell, "sh", "-c", "kill -9 $$").returncode == 137
    gone = start(shell, "nothing-of-that-name")
    assert gone.returncode == 127
    assert b"not found" in gone.stderr


def test_programs_have_no_way_to_the_console(shell: ConsoleShell) -> None:
    assert start(shell, "sh", "-c", "echo x >/dev/tty").returncode != 0
    assert "socket" not in shell.run(["sh", "-c", "ls -l /proc/self/fd"]).stdout
    assert sorted(path.name for path in shell.socket.parent.iterdir()) == ["lock", "s"]
    assert shell.socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_goes_there_and_back_whole(shell: ConsoleShell, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = measure_copies(shell, LARGE)
    with capsys.disabled():
        print(f"\nconsole: {LARGE / MIB:.0f} MiB there {there:.2f} MiB/s, back {back:.2f} MiB/s")


def test_output_that_nobody_takes_waits_and_fills_no_memory(shell: ConsoleShell) -> None:
    with open_process(shell.get_way().wrap(["sh", "-c", "yes | head -c 300000000; touch /tmp/all-out"])) as process:
        assert process.stdout is not None
        process.stdout.read(MIB)
        before = int(Path("/proc/self/statm").read_text().split()[1])
        time.sleep(1)
        assert int(Path("/proc/self/statm").read_text().split()[1]) - before < 2048  # pages: 8 MiB
        assert shell.run(["echo", "others go on"]).stdout == "others go on\n"
        process.kill()
    assert not shell.exists("/tmp/all-out")


def test_programs_run_side_by_side(shell: ConsoleShell) -> None:
    def ask(number: int) -> tuple[str, str]:
        script = f"sleep 0.5; seq {number} {number + 3000}; echo said-{number} >&2"
        done = shell.run(["sh", "-c", script], timeout=60)
        return done.stdout, done.stderr

    with ThreadPoolExecutor(6) as pool:
        for number, (said, complained) in enumerate(pool.map(ask, range(6))):
            assert said.split() == [str(each) for each in range(number, number + 3001)]
            assert complained == f"said-{number}\n"


def test_a_program_that_takes_too_long_is_ended_there_with_its_children(guest: Guest, shell: ConsoleShell) -> None:
    with pytest.raises(ProgramTimedOut):
        shell.run(["sh", "-c", "sleep 3301 & sleep 3301"], timeout=2)
    wait_until(lambda: count(guest, "sleep 3301") == 0, what="end")


def test_a_signal_reaches_the_program_which_may_answer_it(shell: ConsoleShell) -> None:
    script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    with open_process(shell.get_way().wrap(["sh", "-c", script])) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.read() == b"got it\n"
        assert process.wait(20) == 9


def test_a_program_in_the_background_holds_nobody_up(guest: Guest, shell: ConsoleShell) -> None:
    begun = time.monotonic()
    assert shell.run(["sh", "-c", "setsid sleep 3302 & echo done"]).stdout == "done\n"
    assert time.monotonic() - begun < 15
    assert count(guest, "sleep 3302") == 1
    guest.sh("pkill -f '[s]leep 3302'")


@pytest.fixture
def desk(shell: ConsoleShell, tmp_path: Path) -> Desk:
    return make_desk(tmp_path, shell)


def test_a_playbook_runs_over_it(desk: Desk, shell: ConsoleShell) -> None:
    outcome = desk.run(PLAY)
    assert (outcome.failed, outcome.ok) == (0, 13)
    assert (desk.project / "fetched").read_bytes() == ALL_BYTES * 10
    assert shell.run(["cat", "/root/page", "/root/raw"]).stdout == "page of ünd\nraw"
    assert shell.run(["stat", "-c", "%a", "/root/copied"]).stdout == "640\n"
    notices = [getattr(event, "message", "") for event in desk.told]
    assert "mitogen needs ssh, and the guest is entered through its console: linear is used instead of " \
           "mitogen_linear" in notices  # fmt: skip


def test_a_command_is_run_in_it_from_the_command_line(guest: Guest, node: RunningNode, tmp_path: Path) -> None:
    environment = {**os.environ, STATE_VARIABLE: str(node.settings.state), "HOME": str(tmp_path)}

    def enter(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [GOLDSMITH, "enter", *words], cwd=tmp_path, env=environment, input=ALL_BYTES, capture_output=True,
            check=False, timeout=60,
        )  # fmt: skip

    done = enter(str(guest.vmid), "sh", "-c", "cat; hostname >&2; exit 9")
    assert (done.returncode, done.stdout) == (9, ALL_BYTES), done.stderr
    assert f"t{guest.vmid}\n".encode() in done.stderr
    wrong = enter("nobody", "true")
    assert wrong.returncode == UsageError.exit_code
    assert b"there is no guest 'nobody'" in wrong.stderr


def lose_in_the_middle(shell: ConsoleShell, lose: Callable[[], object], *, seconds: float = 40.0) -> ShellFailed:
    """Run something long, and lose the console meanwhile."""
    timer = threading.Timer(2.0, lose)
    timer.start()
    begun = time.monotonic()
    try:
        with pytest.raises(ShellFailed) as caught:
            shell.run(["sh", "-c", "echo begun; sleep 3303"], timeout=seconds)
    finally:
        timer.join()
    assert time.monotonic() - begun < seconds
    return caught.value


def kill_workers(node: RunningNode) -> None:
    """End the node's side of all consoles, as a crash would."""
    for task in node.api.nodes("pve").tasks.get(source="active"):
        if task["type"] == "vncproxy":
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(task["pid"]), 9)


def test_a_lost_connection_is_told_what_ran_is_ended_and_the_next_program_runs(
    node: RunningNode, guest: Guest, shell: ConsoleShell
) -> None:
    error = lose_in_the_middle(shell, lambda: kill_workers(node))
    assert "the guest cannot be entered through its console: the connection to the guest has ended" in error.message
    assert shell.run(["echo", "again"], timeout=40).stdout == "again\n"  # by a new one, in place of the old one
    wait_until(lambda: count(guest, "sleep 3303") == 0, what="end")


def test_somebody_who_types_into_it_is_noticed(node: RunningNode, guest: Guest, shell: ConsoleShell) -> None:
    from goldsmith.node.lxc.console import _connect
    from goldsmith.node.lxc.terminal import pack

    def disturb() -> None:
        other = _connect(guest.runtime.folder / "console.sock")
        assert other is not None
        with other:
            other.sendall(pack(b"d", b"ls\n"))

    error = lose_in_the_middle(shell, disturb)
    assert "garbled" in error.message
    assert "does somebody type in the guest's console?" in error.message
    assert shell.run(["echo", "again"], timeout=40).stdout == "again\n"


def test_a_guest_that_is_stopped_is_told_and_entered_again_when_it_runs(
    guest: Guest, shell: ConsoleShell, desk: Desk
) -> None:
    error = lose_in_the_middle(shell, guest.stop)
    assert "does the guest still run?" in error.message
    with pytest.raises(ShellFailed, match="cannot be entered through its console"):
        shell.run(["true"], timeout=40)
    with pytest.raises(ProvisionError, match="cannot be entered through its console"):
        desk.run(PLAY)
    guest.start()
    wait_until(lambda: find_unreadiness(shell) is None, seconds=60, what="guest")
    assert run(shell.get_way().wrap(["hostname"])).stdout == f"t{guest.vmid}\n"
