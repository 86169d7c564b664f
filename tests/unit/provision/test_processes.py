"""Processes are found by their mark and ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from goldsmith.provision.processes import MARK, end_marked, list_marked

FORKING = (
    "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork() and os._exit(0); os.setsid(); time.sleep(60)"
)


def start(mark: str, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, env={MARK: mark})


def wait_for(mark: str) -> list[int]:
    deadline = time.monotonic() + 10
    while not (found := list_marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_only_marked_processes_end(tmp_path: Path) -> None:
    ours, theirs = start(str(tmp_path / "a"), "/bin/sleep", "60"), start(str(tmp_path / "b"), "/bin/sleep", "60")
    with ours, theirs:
        assert wait_for(str(tmp_path / "a")) == [ours.pid]
        assert end_marked(str(tmp_path / "a")) == []
        assert ours.wait(5) == -15
        assert theirs.poll() is None
        theirs.kill()


def test_a_deserted_child_that_ignores_sigterm_ends_too(tmp_path: Path) -> None:
    with start(str(tmp_path), sys.executable, "-c", FORKING) as parent:
        parent.wait(10)
        assert len(wait_for(str(tmp_path))) == 1
        assert end_marked(str(tmp_path), grace=0.1) == []
    assert list_marked(str(tmp_path)) == []


def test_a_master_of_ssh_is_known_by_its_title(tmp_path: Path) -> None:
    """It writes its title over its environment; here the title is given, and there is no mark."""
    titled = ["-c", f"exec -a 'ssh: {tmp_path}/guest [mux]' sleep 60"]
    with subprocess.Popen(["/bin/bash", *titled], env={}) as process:
        assert wait_for(str(tmp_path)) == [process.pid]
        assert list_marked(str(tmp_path)[:-1]) == []
        end_marked(str(tmp_path))
        assert process.wait(5) == -15
