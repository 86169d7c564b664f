"""A real qemu-ga, on a socket of this machine, in place of a virtual machine's."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from goldsmith.base.errors import ApiFailed
from goldsmith.pve.agent import SHELL, Ended, parse_ended

PROGRAM = shutil.which("qemu-ga", path="/usr/sbin:/usr/bin")


GONE = b'{"error": {"desc": "qemu-ga has gone"}}'


class RealAgent:
    """What `Agent` is, without a node: it asks the real qemu-ga, and answers as Proxmox's API does."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._turn = threading.Lock()
        self.most = 0
        self.looks = 0

    def ask(self, command: str, **arguments: Any) -> Any:
        answer = json.loads(GONE)
        request = json.dumps({"execute": command, "arguments": arguments}).encode()
        with self._turn, suppress(OSError):
            self._socket.sendall(request + b"\n")
            answer = json.loads(self._lines.readline() or GONE)
        if "error" in answer:
            raise ApiFailed("exec", 500, f"Agent error: {answer['error']['desc']}", {})
        return answer["return"]

    def start(self, script: str) -> int:
        self.most = max(self.most, len(script))
        given = base64.b64encode(script.encode()).decode()
        answer = self.ask("guest-exec", path=SHELL, **{"input-data": given, "capture-output": True})
        return int(answer["pid"])

    def find_end(self, pid: int) -> Ended | None:
        self.looks += 1
        answer = self.ask("guest-exec-status", pid=pid)
        for name in ("out-data", "err-data"):
            if name in answer:
                answer[name] = base64.b64decode(answer[name]).decode("latin-1")
        return parse_ended({name: int(value) if isinstance(value, bool) else value for name, value in answer.items()})

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@contextmanager
def open_agent(*, path: str = os.defpath) -> Iterator[tuple[RealAgent, subprocess.Popen[bytes]]]:
    """Run qemu-ga with nothing but `PATH` in its environment, while the block runs."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="qga-") as folder:
        place = Path(folder) / "s"
        argv = [PROGRAM, "-m", "unix-listen", "-p", str(place), "-t", folder, "-f", f"{folder}/pid"]
        process = subprocess.Popen(argv, env={"PATH": path}, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not place.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            with closing(RealAgent(place)) as agent:
                yield agent, process
        finally:
            process.kill()
            process.wait()
