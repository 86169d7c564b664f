"""Many programs through a guest agent: a real qemu-ga, whose programs run on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from goldsmith.base.errors import ShellFailed
from goldsmith.pve.agent import MOST_INPUT, Agent
from goldsmith.pve.console.agent import open_agent_session
from goldsmith.pve.console.owner import open_owner
from goldsmith.pve.console.shell import ConsoleShell
from tests.unit.pve.console.qga import PROGRAM, RealAgent, open_agent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no qemu-ga here (Debian's qemu-guest-agent)"),
]
ALL = bytes(range(256)) * 300
LARGE = 5 << 20


@contextmanager
def open_shell(agent: RealAgent) -> Iterator[ConsoleShell]:
    with open_owner(lambda: open_agent_session(cast("Agent", agent))) as socket:
        yield ConsoleShell("the machine", socket, "guest agent")


@pytest.fixture(scope="module")
def agent() -> Iterator[RealAgent]:
    with open_agent() as (agent, _):
        yield agent


@pytest.fixture(scope="module")
def shell(agent: RealAgent) -> Iterator[ConsoleShell]:
    with open_shell(agent) as shell:
        yield shell


def start(shell: ConsoleShell, *argv: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    words = [str(word) for word in shell.get_way().wrap(argv)]
    return subprocess.run(words, input=given, capture_output=True, check=False, timeout=60)


def list_folders() -> set[Path]:
    return {path for place in ("/run", "/tmp") for path in Path(place).glob("goldsmith.??????")}


def list_waiting(folder: Path) -> list[Path]:
    """Processes that wait at the pipes of a folder, which may be gone."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            found += [place.parent] if str(place.readlink()).partition(" ")[0] == str(folder) else []
    return found


def wait_until(is_so: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_byte_comes_back_in_its_own_stream_with_the_code(shell: ConsoleShell, agent: RealAgent) -> None:
    done = start(shell, "sh", "-c", "cat >&2; printf 'out%s' \"$1\"; exit 7", "sh", "\n'x\" $y €", given=ALL)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n'x\" $y €".encode(), ALL)
    assert agent.most <= MOST_INPUT


def test_words_variables_and_codes_arrive_as_they_are(shell: ConsoleShell) -> None:
    said = shell.run(["sh", "-c", "echo $HOME $USER $LANG; pwd; umask; cat"]).stdout
    assert said.split("\n") == ["/root root C.UTF-8", "/", "0022", ""]
    assert [start(shell, "sh", "-c", f"exit {code}").returncode for code in (0, 1, 255)] == [0, 1, 255]
    assert start(shell, "sh", "-c", "kill -9 $$").returncode == 137
    assert start(shell, "nothing-of-that-name").returncode == 127


def test_a_file_goes_there_and_back_whole(
    shell: ConsoleShell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, place = os.urandom(LARGE), str(tmp_path / "large")
    begun = time.monotonic()
    assert shell.put(io.BytesIO(data), place, mode=0o600) == LARGE
    there = time.monotonic() - begun
    assert hashlib.sha256(Path(place).read_bytes()).digest() == hashlib.sha256(data).digest()
    begun = time.monotonic()
    with shell.open_read(place) as file:
        assert file.read() == data
    back = time.monotonic() - begun
    with capsys.disabled():
        mib = LARGE / (1 << 20)
        print(f"\nguest agent: {mib:.0f} MiB there {mib / there:.2f} MiB/s, back {mib / back:.2f} MiB/s")


def test_programs_run_side_by_side(shell: ConsoleShell) -> None:
    def ask(number: int) -> bytes:
        return start(shell, "sh", "-c", f"sleep 0.5; seq {number} {number + 3000}").stdout

    begun = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(ask, range(6)))
    assert [text.split()[0] for text in said] == [str(number).encode() for number in range(6)]
    assert [len(text.split()) for text in said] == [3001] * 6
    assert time.monotonic() - begun < 6 * 0.5 + 5


def test_a_program_is_ended_by_a_signal_and_when_nobody_waits_any_more(shell: ConsoleShell, tmp_path: Path) -> None:
    argv = ["sh", "-c", f"trap 'touch {tmp_path}/heard; exit 3' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done"]
    with subprocess.Popen([str(word) for word in shell.get_way().wrap(argv)]) as process:
        wait_until((tmp_path / "up").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 3
    assert (tmp_path / "heard").exists()
    argv = ["sh", "-c", f"touch {tmp_path}/on; exec sleep 7311"]
    with subprocess.Popen([str(word) for word in shell.get_way().wrap(argv)]) as process:
        wait_until((tmp_path / "on").exists)
        process.kill()
    wait_until(
        lambda: subprocess.run(["pgrep", "-f", "^sleep 7311"], check=False, stdout=subprocess.DEVNULL).returncode
    )


def test_nothing_is_left_in_the_guest_and_the_agent_knows_of_no_program(tmp_path: Path) -> None:
    before = list_folders()
    with open_agent() as (agent, process):
        with open_shell(agent) as shell:
            for _ in range(5):
                assert start(shell, "echo", "x").stdout == b"x\n"
            assert len(list_folders() - before) == 2
        wait_until(lambda: list_folders() == before)
        wait_until(lambda: not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())


def test_a_silent_program_is_waited_for_without_hurry(agent: RealAgent, shell: ConsoleShell) -> None:
    start(shell, "true")
    before = agent.looks
    start(shell, "sleep", "3")
    assert agent.looks - before < 60


def test_what_holds_the_pipes_may_die_and_is_begun_anew(agent: RealAgent) -> None:
    before = list_folders()
    with open_shell(agent) as shell:
        assert start(shell, "echo", "x").stdout == b"x\n"
        folders = list_folders() - before
        held = next(folder for folder in folders if (folder / "out").exists())
        command = ["pgrep", "-o", "-f", f"mkfifo .*ack.* {held}|sh {held} .*ack"]
        keeper = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        os.killpg(keeper, signal.SIGKILL)
        done = start(shell, "echo", "y")
        assert done.stdout == b"y\n" or done.returncode == 255
        wait_until(lambda: start(shell, "echo", "z").stdout == b"z\n", 30)
        assert not held.exists()
        wait_until(lambda: not list_waiting(held))
    for folder in folders - {held}:
        shutil.rmtree(folder)  # what only the killed one could have removed
    wait_until(lambda: list_folders() <= before)


def test_a_machine_without_the_programs_that_it_takes_says_so() -> None:
    with (
        open_agent(path="/nowhere") as (agent, _),
        open_shell(agent) as shell,
        pytest.raises(ShellFailed, match="cannot be entered through its guest agent: nothing can be started"),
    ):
        shell.run(["true"])


def test_an_agent_that_ends_is_told() -> None:
    with open_agent() as (agent, process), open_shell(agent) as shell:
        start(shell, "true")
        process.kill()
        for _ in range(2):
            with pytest.raises(ShellFailed, match=r"cannot be entered through its guest agent: .*has gone"):
                shell.run(["true"])
