"""What ends with whom: real processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from goldsmith.provision.playbook import LAUNCH
from tests.lxc.guests import wait_until

FORKING = f"""
import os, runpy, time
runpy.run_path({str(LAUNCH)!r})["end_with_parents"]()
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


@pytest.mark.parametrize("which", ["starter", "launched"])
def test_forked_processes_end_with_the_one_that_forked_them(which: str) -> None:
    starter = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {FORKING!r}]).wait())"
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        grandchild = Path("/proc", process.stdout.readline().strip())
        child = _parent(grandchild)
        launched = _parent(Path("/proc", str(child)))
        os.kill(process.pid if which == "starter" else launched, signal.SIGKILL)
        wait_until(lambda: not _lives(grandchild) and not _lives(Path("/proc", str(child))), seconds=10)
    assert not _lives(Path("/proc", str(launched)))


def _parent(process: Path) -> int:
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])


def _lives(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
