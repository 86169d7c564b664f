"""A named user of the node, a real sshd, and the real sudo: with its password, without one, and not at all."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath

import pytest

from goldsmith.base.errors import ShellFailed
from goldsmith.base.secrets import Secret
from goldsmith.pve.ssh import SshAccess, open_ssh_shell
from tests.lxc.test_provision import read_processes
from tests.unit.pve.sshd import open_sshd

pytestmark = pytest.mark.root

PASSWORD = "only for sudo, 'quoted' $HOME"
DATA = os.urandom(300_001)


@pytest.fixture
def user() -> Iterator[SshAccess]:
    """A user of this machine with a password, who may become root with it (Debian's group sudo), behind a real sshd."""
    name = f"gs{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="gs-") as folder, open_sshd(Path(folder)) as sshd:
        Path(folder).chmod(0o711)  # sshd reads a user's keys as that user
        (Path(folder) / "authorized").chmod(0o644)
        yield from add_user(name, sshd.access())


def add_user(name: str, access: SshAccess) -> Iterator[SshAccess]:
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", "--groups", "sudo", name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{PASSWORD}", text=True, check=True)
        yield replace(access, user=name, sudo_password=Secret(PASSWORD))
    finally:
        subprocess.run(["pkill", "-KILL", "-u", name], check=False)
        subprocess.run(["userdel", name], check=True)


def test_sudo_with_a_password(user: SshAccess) -> None:
    seen: list[bytes] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            seen.extend(read_processes(user.user))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with open_ssh_shell(user) as shell:
            assert shell.run(["id", "-u"]).stdout == "0\n"
            assert shell.run(["cat"], text="given on its input").stdout == "given on its input"
            folder = PurePosixPath("/root") / f"goldsmith-{os.getpid()}"
            shell.make_directory(folder)
            shell.put(BytesIO(DATA), folder / "file", mode=0o600)
            with shell.open_read(folder / "file") as stream:
                assert stream.read() == DATA
            with pytest.raises(ShellFailed) as failed:
                shell.run(["sh", "-c", "echo went wrong >&2; exit 3"])
            shell.run(["rm", "-r", "--", str(folder)])
    finally:
        done.set()
        watcher.join()
    assert "went wrong" in failed.value.detail
    assert PASSWORD not in f"{failed.value.message} {failed.value.detail} {failed.value.hint}"
    assert len(seen) > 5
    assert not [words for words in seen if PASSWORD.encode() in words]


def test_a_wrong_password_is_told_and_not_repeated(user: SshAccess) -> None:
    wrong = replace(user, sudo_password=Secret("hunter2"))
    with pytest.raises(ShellFailed) as failed, open_ssh_shell(wrong):
        pass
    told = f"{failed.value.message} {failed.value.detail} {failed.value.hint}"
    assert "incorrect password" in told
    assert "hunter2" not in told


def test_the_password_is_asked_for_where_none_is_given(user: SshAccess) -> None:
    asked: list[str] = []

    def ask() -> Secret:
        asked.append("once")
        return Secret(PASSWORD)

    with open_ssh_shell(replace(user, sudo_password=None), ask) as shell:
        assert [shell.run(["id", "-un"]).stdout for _ in range(3)] == ["root\n"] * 3
    assert asked == ["once"]


def test_without_a_password_where_sudoers_says_so(user: SshAccess) -> None:
    """As docs/proxmox.md has the line; then nothing is asked for."""
    rule = Path("/etc/sudoers.d") / user.user
    rule.write_text(f"{user.user} ALL=(root) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    try:
        with open_ssh_shell(replace(user, sudo_password=None), lambda: pytest.fail("asked")) as shell:
            assert shell.run(["id", "-u"]).stdout == "0\n"
    finally:
        rule.unlink()


def test_who_may_not_become_root_is_told(user: SshAccess) -> None:
    subprocess.run(["gpasswd", "--delete", user.user, "sudo"], check=True, capture_output=True)
    with pytest.raises(ShellFailed) as failed, open_ssh_shell(user):
        pass
    assert "not in the sudoers file" in f"{failed.value.message} {failed.value.detail}"
    with pytest.raises(ShellFailed, match="may not become root"), open_ssh_shell(replace(user, sudo_password=None)):
        pass
