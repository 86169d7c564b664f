"""The guest agent's protocol against a real qemu-ga, which runs on this machine instead of in a guest."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.base.process import open_process
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.qemu import agent as agents
from goldsmith.node.qemu.agent import Agent, ask_socket, decode_data, encode_data
from goldsmith.node.qemu.channel import ChannelFault
from goldsmith.node.settings import NodeSettings

QEMU_GA = Path("/usr/sbin/qemu-ga")
SECONDS = 20.0


class Beside(Agent):
    """An agent that is reached without a machine around it."""

    def _ask(self, command: str, arguments: object, timeout: float) -> dict[str, object]:
        path = self.node.settings.state / "qga"
        return ask_socket(path, command, dict(arguments), timeout=SECONDS)  # type: ignore[call-overload]


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Beside]:
    if os.geteuid() != 0 or not QEMU_GA.exists():
        pytest.skip("needs root and qemu-guest-agent")
    state = tmp_path / "state"
    state.mkdir()
    command = [QEMU_GA, "-m", "unix-listen", "-p", tmp_path / "qga", "-t", state, "-f", tmp_path / "pid"]
    with open_process(command):
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "qga").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield Beside(Node(NodeSettings(state=tmp_path)), 100)


def run(agent: Agent, *command: str, data: str | None = None) -> dict[str, object]:
    pid = agent.execute(command, data)["pid"]
    deadline = time.monotonic() + SECONDS
    while not (status := agent.get_status(pid))["exited"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return status


def test_a_program_gets_bytes_and_gives_bytes(real: Beside) -> None:
    every = "".join(chr(code) for code in range(256))
    status = run(real, "/bin/sh", "-c", "cat; echo problem >&2; exit 7", data=every)
    assert status == {
        "exited": 1, "exitcode": 7, "out-data": every, "err-data": "problem\n",
    } | {key: 0 for key in status if key.endswith("-truncated")}  # fmt: skip


def test_a_signal_is_told(real: Beside) -> None:
    assert run(real, "/bin/sh", "-c", "kill -9 $$")["signal"] == 9


def test_output_beyond_16_mib_is_cut(real: Beside) -> None:
    status = run(real, "/usr/bin/head", "-c", str(17 << 20), "/dev/zero")
    assert status["out-truncated"] == 1
    assert len(str(status["out-data"])) == 16 << 20


def test_files(real: Beside, tmp_path: Path) -> None:
    path = tmp_path / "file"
    real.write_file(str(path), "\x00\xff", encode=True)
    assert path.read_bytes() == b"\x00\xff"
    real.write_file(str(path), "aGk=", encode=False)
    assert real.read_file(str(path)) == {"content": "hi", "bytes-read": 2}
    with pytest.raises(ApiFault, match=r"^Agent error: .*No such file or directory"):
        real.read_file(str(tmp_path / "missing"))


def test_a_large_file_is_read_in_parts_and_cut(real: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1024) * 2560)
    assert real.read_file(str(path))["content"] == path.read_bytes().decode("latin-1")
    monkeypatch.setattr(agents, "READ_LIMIT", 1 << 20)
    assert real.read_file(str(path))["truncated"] == 1


def test_refusals_of_the_agent(real: Beside) -> None:
    with pytest.raises(ApiFault, match=r"^Agent error: .*Failed to execute child process"):
        real.execute(["/no/such/program"], None)
    with pytest.raises(ApiFault, match=r"^Agent error: "):
        real.get_status(4194000)
    assert "error" in real.ask("guest-no-such-command")
    with pytest.raises(ApiFault, match=r"^command or input-data \(or both\) required$"):
        real.execute([], None)
    assert real.ask("guest-ping") == {}


def test_what_an_earlier_caller_left_is_passed_over(real: Beside, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as impatient:
        impatient.connect(str(tmp_path / "qga"))
        impatient.sendall(b'{"execute": "guest-info"}\n{"exec')  # and goes in the middle of a word
    assert real.ask("guest-ping") == {}


def test_nobody_behind_the_socket(tmp_path: Path) -> None:
    with pytest.raises(ChannelFault, match="unable to connect"):
        ask_socket(tmp_path / "none", "guest-ping", {}, timeout=1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        with pytest.raises(ChannelFault, match="got timeout"):
            ask_socket(tmp_path / "silent", "guest-ping", {}, timeout=0.1)


def test_text_is_bytes_to_the_agent() -> None:
    assert decode_data(encode_data("h\xe9\x00\xff")) == "h\xe9\x00\xff"
    with pytest.raises(ApiFault, match="Wide character"):
        encode_data("\u20ac")
