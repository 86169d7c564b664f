"""The shell: the same files through a plain pipe, through a sudo that wants a password, and through a real sshd."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.base.errors import NodeUnreachable, ProgramTimedOut, ShellFailed, ShellMissing
from goldsmith.base.secrets import Secret
from goldsmith.pve.absent import AbsentShell
from goldsmith.pve.shell import CommandShell, LocalShell, Shell, TargetExists
from goldsmith.pve.ssh import SshAccess, SshShell, open_ssh_shell
from goldsmith.pve.way import Way
from tests.unit.pve.sshd import Sshd, listens, open_sshd

SUDO = """#!/bin/sh
# Wants a password on its input, and takes not a byte more, as sudo -S does.
password=""
while c=$(dd bs=1 count=1 2>/dev/null; echo x); [ "$c" != "
x" ] && [ "$c" != x ]; do password="$password${c%x}"; done
[ "$password" = secret ] || { echo "sudo: no password was provided" >&2; exit 1; }
exec "$@"
"""


class PlainShell(CommandShell):
    """Programs as they are: what every shell does behind its way there."""

    machine = "here"

    def get_way(self, *, terminal: bool = False) -> Way:
        return Way()


class PasswordShell(CommandShell):
    """Programs behind something that reads a password first."""

    machine = "there"

    def __init__(self, sudo: Path, password: str = "secret") -> None:
        self._path, self._password = sudo, Secret(password)

    def get_way(self, *, terminal: bool = False) -> Way:
        return Way((str(self._path),), first_input=self._password)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with open_sshd(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture(params=["plain", "local", "password", "ssh"])
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    if request.param == "plain":
        yield PlainShell()
    elif request.param == "local":
        if os.geteuid() != 0 and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode:
            pytest.skip("neither root nor sudo without a password")
        yield LocalShell()
    elif request.param == "password":
        sudo = tmp_path_factory.mktemp("bin") / "sudo"
        sudo.write_text(SUDO)
        sudo.chmod(0o755)
        yield PasswordShell(sudo)
    else:
        with open_ssh_shell(request.getfixturevalue("sshd").access()) as made:
            yield made


DATA = os.urandom(3_000_001)


def test_a_program_is_run(shell: Shell) -> None:
    completed = shell.run(["printf", "%s|", "a b", "$HOME", "'", "*", "", "ü\n"])
    assert completed.stdout == "a b|$HOME|'|*||ü\n|"
    assert shell.run(["cat"], text="in\nput").stdout == "in\nput"
    assert shell.run(["false"], check=False).returncode == 1


def test_a_program_that_fails_says_why(shell: Shell) -> None:
    with pytest.raises(ShellFailed, match=f"ls failed on {shell.machine}: .*No such file"):
        shell.run(["ls", "/nowhere"])


@pytest.mark.slow
def test_a_program_that_hangs_is_stopped_there_too(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(ProgramTimedOut):
        shell.run(["sh", "-c", 'echo $$ >"$1"; exec sleep 300', "sh", str(tmp_path / "pid")], timeout=0.5)
    there = Path("/proc", (tmp_path / "pid").read_text().strip())
    deadline = time.monotonic() + 10
    while there.exists():
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.02)


def test_a_file_is_put_and_read(shell: Shell, tmp_path: Path) -> None:
    seen: list[int] = []
    target = tmp_path / "with space 'and' quote"
    assert shell.put(io.BytesIO(DATA), str(target), mode=0o640, on_bytes=seen.append) == len(DATA)
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o7777 == 0o640
    assert seen[-1] == len(DATA)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    with shell.open_read(str(target)) as stream:
        assert stream.read() == DATA
    assert shell.size(str(target)) == len(DATA)


def test_a_file_is_never_overwritten(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(TargetExists, match="not overwritten"):
        shell.put(io.BytesIO(b"new"), str(tmp_path / "a"))
    assert (tmp_path / "a").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_is_left_of_a_stream_that_breaks(shell: Shell, tmp_path: Path) -> None:
    class Broken:
        pieces = 2

        def read(self, size: int, /) -> bytes:
            self.pieces -= 1
            if self.pieces < 0:
                raise OSError("the source is gone")
            return bytes(size)

    with pytest.raises(OSError, match="the source is gone"):
        shell.put(Broken(), str(tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(ShellFailed, match="dd failed"):
        shell.put(io.BytesIO(DATA), str(tmp_path / "missing/a"))


def test_a_missing_file_cannot_be_read(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(ShellFailed, match="No such file"), shell.open_read(str(tmp_path / "a")) as stream:
        stream.read()


def test_reading_may_stop_early(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with shell.open_read(str(tmp_path / "a")) as stream:
        assert stream.read(10) == DATA[:10]


def test_looking_around(shell: Shell, tmp_path: Path) -> None:
    assert shell.list_directory(str(tmp_path / "sub")) == []
    shell.make_directory(str(tmp_path / "sub/deeper"))
    (tmp_path / "sub/-dash").touch()
    (tmp_path / "sub/new\nline").touch()
    (tmp_path / "sub/dangling").symlink_to("nowhere")
    assert shell.list_directory(str(tmp_path / "sub")) == ["-dash", "dangling", "deeper", "new\nline"]
    assert shell.exists(str(tmp_path / "sub"))
    assert shell.exists(str(tmp_path / "sub/dangling"))
    assert not shell.exists(str(tmp_path / "nothing"))
    for _ in range(2):
        shell.remove(str(tmp_path / "sub/-dash"))
    assert not (tmp_path / "sub/-dash").exists()
    free = shell.free_space(str(tmp_path / "not/yet/there"))
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 30


def test_a_wrong_password_is_a_failure(tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    shell = PasswordShell(sudo, "hunter2")
    with pytest.raises(ShellFailed, match="no password was provided") as failed:
        shell.run(["true"])
    assert "hunter2" not in failed.value.detail
    with pytest.raises(ShellFailed, match="no password"):
        shell.put(io.BytesIO(DATA), str(tmp_path / "a"))


# --- ssh's own faults


def test_an_unknown_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    with (
        pytest.raises(ShellFailed, match="Host key verification failed") as refused,
        open_ssh_shell(sshd.access(known_hosts=tmp_path / "none")),
    ):
        pass
    assert "ssh-keyscan" in refused.value.hint


def test_another_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed.write_text(f"[127.0.0.1]:{sshd.port} {(sshd.folder / 'other.pub').read_text()}")
    with (
        pytest.raises(ShellFailed, match="Host key verification failed"),
        open_ssh_shell(sshd.access(known_hosts=changed)),
    ):
        pass


def test_a_key_that_is_not_authorized(sshd: Sshd) -> None:
    with pytest.raises(ShellFailed, match="Permission denied") as refused, open_ssh_shell(sshd.access("other")):
        pass
    assert "authorized_keys" in refused.value.hint


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NodeUnreachable, match="Connection refused"), open_ssh_shell(SshAccess("127.0.0.1", port=port)):
        pass


def test_the_connection_is_made_once_and_ends_with_the_shell(sshd: Sshd) -> None:
    before = threading.active_count()
    with open_ssh_shell(sshd.access()) as shell:
        parents = {shell.run(["sh", "-c", "ps -o ppid= -p $PPID"]).stdout for _ in range(3)}
        control = shell._control
        assert control.exists()
    assert isinstance(shell, SshShell)
    assert len(parents) == 1
    assert not control.exists()
    assert threading.active_count() == before


def test_a_port_there_leads_to_a_socket_here(sshd: Sshd) -> None:
    with open_ssh_shell(sshd.access()) as shell:
        path = shell.directory / "here"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            with shell.open_forward(path) as port:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as there:
                    here, _ = listener.accept()
                    with here:
                        there.sendall(b"question")
                        assert here.recv(20) == b"question"
                        here.sendall(b"answer")
                        assert there.recv(20) == b"answer"
                assert port >= 1024
            deadline = time.monotonic() + 5
            while listens(port) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not listens(port)


def test_an_sshd_that_forwards_nothing_is_told_of(sshd: Sshd) -> None:
    authorized = sshd.folder / "authorized"
    before = authorized.read_text()
    authorized.write_text(f"restrict,pty {before}")
    try:
        with open_ssh_shell(sshd.access()) as shell, pytest.raises(ShellFailed, match="forwards no port"):
            shell.open_forward(shell.directory / "here").__enter__()
    finally:
        authorized.write_text(before)


def test_where_there_is_no_shell_whatever_needs_one_says_so(tmp_path: Path) -> None:
    shell: Shell = AbsentShell("pve1")
    assert shell.machine == "pve1"
    for work in (
        lambda: shell.run(["true"]), lambda: shell.exists(tmp_path), lambda: shell.size(tmp_path),
        lambda: shell.make_directory(tmp_path), lambda: shell.remove(tmp_path), lambda: shell.free_space(tmp_path),
        lambda: shell.put(io.BytesIO(b"x"), tmp_path / "file"), lambda: shell.open_read(tmp_path).__enter__(),
    ):  # fmt: skip
        with pytest.raises(ShellMissing, match="root's shell on pve1, and there is none") as missing:
            work()
        assert "proxmox_shell to ssh" in missing.value.hint
