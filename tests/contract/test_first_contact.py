"""The command line before a Proxmox that it has never seen: what is asked at a real terminal, and what without one."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakepve import FakePve

from goldsmith.pve.connection import Endpoint
from goldsmith.pve.tls import find_shown_fingerprint

from .conftest import TEMPLATE

SECRET = "unmistakable-9b21"


@pytest.fixture
def project(tmp_path: Path, fakepve: FakePve) -> Path:
    fakepve.store_file("local", TEMPLATE, 1000, "vztmpl")
    fakepve.apitokens["root@pam!ci"] = SECRET
    folder = tmp_path / "images/lxc"
    folder.mkdir(parents=True)
    (folder / "vars.yml").write_text(
        f"proxmox_api_host: '{fakepve.host}:{fakepve.port}'\nproxmox_api_token_id: ci\n"
        "temp_ip_address: 192.0.2.9/24\ntemp_gateway: 192.0.2.1\n"
    )
    (folder / "playbook.yml").write_text("- hosts: all\n  tasks: []\n")
    return tmp_path


def make_environment(project: Path, **more: str) -> dict[str, str]:
    home = {"HOME": str(project), "XDG_STATE_HOME": str(project / "state"), "TERM": "xterm"}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **home, "PROXMOX_API_TOKEN_SECRET": SECRET, **more}


GOLDSMITH = str(Path(sys.executable).with_name("goldsmith"))
CHECK = [GOLDSMITH, "build", "--check", "images/lxc"]


def run_at_terminal(project: Path, answers: dict[str, str], **more: str) -> tuple[int, str]:
    """Run `goldsmith build --check` at a terminal of its own; type each answer when its question has come."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        CHECK, cwd=project, env=make_environment(project, **more), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said, waiting, deadline = "", dict(answers), time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                said += os.read(ours, 1 << 16).decode(errors="replace")
            except OSError:  # the other end has closed it
                break
        for question in [question for question in waiting if question in said]:
            os.write(ours, f"{waiting.pop(question)}\n".encode())
    os.close(ours)
    code = process.wait(10)
    assert not waiting, said
    return code, said


def test_a_fingerprint_is_shown_and_accepted_once(project: Path, fakepve: FakePve) -> None:
    shown = find_shown_fingerprint(Endpoint(fakepve.host, fakepve.port))
    code, said = run_at_terminal(project, {"trusted from now on?": "y"})
    assert code == 0, said
    assert shown is not None
    assert shown in said
    assert "lxc on pve1 (proxmox):" in said
    assert "nothing was changed" in said
    code, said = run_at_terminal(project, {})
    assert code == 0, said
    assert "from now on" not in said
    assert SECRET not in said


def run_goldsmith(project: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without a terminal."""
    return subprocess.run(
        [GOLDSMITH, *words], cwd=project, env=make_environment(project, **more), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_a_terminal_the_fingerprint_is_told_and_nothing_is_trusted(project: Path, fakepve: FakePve) -> None:
    done = run_goldsmith(project, *CHECK[1:])
    shown = find_shown_fingerprint(Endpoint(fakepve.host, fakepve.port))
    assert done.returncode == 5, done.stderr
    assert f"SHA-256 fingerprint it shows: {shown}" in done.stderr
    assert "proxmox_fingerprint" in done.stderr
    assert not (project / "state/goldsmith/known_nodes").exists()
    assert fakepve.requests == []
