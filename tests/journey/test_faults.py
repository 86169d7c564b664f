"""Commands that are interrupted or killed, and secrets: real signals to real processes."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.node import daemon
from tests.journey.conftest import GOLDSMITH, PASSWORD, PROJECT, Journey
from tests.lxc.guests import wait_until
from tests.lxc.images import SMALL

pytestmark = pytest.mark.root

LONG = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Something long
      ansible.builtin.command: sleep 300
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_of_the_playbook_leaves_nothing(journey: Journey, number: signal.Signals) -> None:
    journey.write_image(LONG)
    build = journey.start("--json", "build", "lxc")
    build.await_text("Something long")
    build.send(number)
    assert build.wait(seconds=30) == 130
    assert f"interrupted by {number.name}" in build.output
    assert "Traceback" not in build.output
    assert journey.find_leftovers() == []
    assert daemon.status(journey.node.settings) is None


def test_impatient_signals_do_not_hinder_the_cleaning_up(journey: Journey) -> None:
    journey.write_image(LONG)
    build = journey.start("--json", "build", "lxc")
    build.await_text("Something long")
    for _ in range(5):
        build.send(signal.SIGINT)
    assert build.wait(seconds=30) == 130
    assert journey.find_leftovers() == []


@pytest.mark.parametrize("step", ["base image", "create", "start, wait", "vzdump", "store"])
def test_a_signal_at_other_steps_leaves_nothing(journey: Journey, step: str) -> None:
    journey.write_image(SMALL)
    build = journey.start("build", "lxc")
    build.await_text(f"] {step}")
    build.send(signal.SIGTERM)
    build.wait(seconds=60)
    assert journey.find_leftovers() == [], build.output
    assert daemon.status(journey.node.settings) is None


@pytest.mark.parametrize("text", ["] create", "Something long"])
def test_after_kill_9_the_next_build_removes_the_orphan(journey: Journey, text: str) -> None:
    journey.write_image(LONG)
    build = journey.start("--json", "build", "lxc")
    build.await_text("create lxc-build" if text == "] create" else text)
    os.kill(build.process.pid, signal.SIGKILL)
    build.wait()
    wait_until(lambda: journey.list_processes() == [], what="what the build had started ends with it")
    journey.write_image(SMALL)
    done = journey.goldsmith("build", "lxc")
    if text == "Something long":
        assert "left by build" in done.stderr
    assert journey.find_leftovers() == []
    assert daemon.status(journey.node.settings) is None


def test_clean_removes_an_orphan_too(journey: Journey) -> None:
    journey.write_image(LONG)
    build = journey.start("--json", "build", "lxc")
    build.await_text("Something long")
    os.kill(build.process.pid, signal.SIGKILL)
    build.wait()
    journey.goldsmith("clean")
    assert [left for left in journey.find_leftovers() if left.startswith("guest")] == []


class Watcher(threading.Thread):
    """Looks at every process of the machine again and again: at its command line and its environment."""

    def __init__(self, secret: str) -> None:
        super().__init__(daemon=True)
        self._secret, self._ended = secret.encode(), threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    command = (folder / "cmdline").read_bytes()
                    environment = (folder / "environ").read_bytes()
                    later = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                ours = any(str(GOLDSMITH).encode() in found for found in (command, later))  # it may just become another
                if self._secret in command or (self._secret in environment and not ours):
                    self.seen.add(command.replace(b"\0", b" ").decode(errors="replace"))

    def stop(self) -> set[str]:
        self._ended.set()
        self.join()
        return self.seen


def test_secrets_are_seen_nowhere(journey: Journey) -> None:
    """Neither in a command line, another program's environment, a log, what is printed, nor in what is stored."""
    vault = journey.home / "vault-password"
    vault.write_text("opens the vault\n")
    token = "t0ken-of-a-service"
    journey.write_image(
        SMALL + '    - name: Show it\n      ansible.builtin.debug: {msg: "it is {{ service_token }}"}\n'
        "    - name: Fail with it\n      ansible.builtin.raw: echo {{ service_token }}; false\n"
        "      ignore_errors: true\n"
    )
    subprocess.run(
        [GOLDSMITH.parent / "ansible-vault", "encrypt", "--vault-password-file", vault, "--output",
         journey.images / "lxc" / "vault.yml"],
        input=f"service_token: {token}\n", text=True, check=True, env=journey.env, capture_output=True,
    )  # fmt: skip
    watchers = [Watcher(PASSWORD), Watcher(token)]
    for watcher in watchers:
        watcher.start()
    done = journey.goldsmith("-v", "--vault-password-file", str(vault), "build", "lxc")
    assert [watcher.stop() for watcher in watchers] == [set(), set()]
    for secret in (PASSWORD, token):
        assert secret not in done.stdout + done.stderr
        found = subprocess.run(
            ["grep", "-rlF", secret, journey.project, journey.home, journey.node.settings.state, "/tmp/.ansible"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found.stdout == ""


@pytest.fixture
def person() -> Iterator[str]:
    """An ordinary user of the machine who may use sudo."""
    name = "gs-journey"
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
    rule = Path("/etc/sudoers.d") / name
    rule.write_text(f"{name} ALL=(ALL) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    yield name
    rule.unlink()
    subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A Python that everybody may run, with what is installed here: the venv's own may lie in root's home."""
    system = Path("/usr/bin") / f"python3.{sys.version_info.minor}"
    if not system.exists():
        pytest.skip(f"there is no {system}, whose Python an ordinary user can run")
    folder = Path(tempfile.mkdtemp(prefix="gs-python-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        subprocess.run([system, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        packages = next((folder / "venv").glob("lib/python3*/site-packages"))
        installed = next((PROJECT / ".venv").glob("lib/python3*/site-packages"))
        for source, name in ((installed, "installed"), (PROJECT / "src", "src")):
            shutil.copytree(source, folder / name, symlinks=True)
        (packages / "reach.pth").write_text(f"{folder / 'src'}\n{folder / 'installed'}\n")
        yield folder / "venv/bin/python"
    finally:
        shutil.rmtree(folder)


def test_an_ordinary_user_builds_through_sudo(journey: Journey, person: str, reachable: Path) -> None:
    home = Path(pwd.getpwnam(person).pw_dir)
    project = home / "project"
    subprocess.run(["cp", "-r", str(journey.project), str(project)], check=True)
    (project / "images/lxc/playbook.yml").write_text(SMALL)
    subprocess.run(["chown", "-R", person, str(project)], check=True)
    state = journey.node.settings.state
    for folder in state.parents:  # pytest's folders are for root only
        if str(folder).startswith(f"{tempfile.gettempdir()}/"):
            folder.chmod(0o755)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "GOLDSMITH_NODE_STATE": str(state), "LC_ALL": "C.UTF-8"}
    command = [
        "/usr/sbin/runuser",
        "-u",
        person,
        "--",
        reachable,
        "-c",
        "from goldsmith.cli.main import run; run()",
        "build",
        "lxc",
    ]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[1]).exists()
    assert (project / "repository/index.json").stat().st_uid == pwd.getpwnam(person).pw_uid
    assert journey.find_leftovers() == []
    assert daemon.status(journey.node.settings) is None
