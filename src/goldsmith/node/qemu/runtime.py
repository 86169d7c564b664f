"""What of a virtual machine exists while it runs: its process, its sockets, its tap devices.

Sockets and the pid file are in `/run/goldsmith/<node key>/<vmid>`, because a socket's path must be short (unix(7): 107
bytes). The process is known by the pid file that its own command line names: another one that has the same number by
now does not. Tap devices are QEMU's own and go with it, however it ends.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.runtime import RUN, device_name, node_key


@dataclass(frozen=True)
class Runtime:
    """One machine's run-time places."""

    node: Node
    vmid: int

    @property
    def place(self) -> Path:
        """Sockets and the pid file; only root can enter."""
        return RUN / node_key(self.node.settings) / str(self.vmid)

    @property
    def folder(self) -> Path:
        """Logs."""
        return self.node.run / str(self.vmid)

    @property
    def pid_file(self) -> Path:
        """Written by QEMU itself."""
        return self.place / "pid"

    @property
    def monitor(self) -> Path:
        """QEMU's QMP socket."""
        return self.place / "qmp"

    @property
    def agent(self) -> Path:
        """The socket that leads to the guest agent."""
        return self.place / "qga"

    def serial(self, key: str) -> Path:
        """Return the socket of a serial port."""
        return self.place / key

    def serial_log(self, key: str) -> Path:
        """Return what a serial port said since the last start."""
        return self.folder / f"{key}.log"

    def tap(self, index: int) -> str:
        """Return the name of a network device's outer end."""
        return device_name(self.node.settings, "tap", self.vmid, index)

    def prepare(self) -> None:
        """Make an empty place for a start."""
        self.clean()
        self.place.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.place.mkdir(mode=0o700)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find_pid(self) -> int | None:
        """Return the process id of the machine's QEMU; None when it does not run."""
        with suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if str(self.pid_file).encode() in words:
                return pid
        return None

    def is_running(self) -> bool:
        """Tell whether it runs."""
        return self.find_pid() is not None

    def check_running(self) -> None:
        """Raise unless it runs; PVE's words."""
        if not self.is_running():
            raise ApiFault(f"VM {self.vmid} not running")

    def wait_stopped(self, timeout: float) -> bool:
        """Wait until it has ended; tell whether it has."""
        pid = self.find_pid()
        if pid is None:
            return True
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                return bool(select.select([pidfd], [], [], timeout)[0])
            finally:
                os.close(pidfd)
        return True

    def send_signal(self, number: int) -> None:
        """Send QEMU a signal, if it runs."""
        if (pid := self.find_pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, timeout: float = 10.0) -> bool:
        """End it, first with SIGTERM, then with SIGKILL; tell whether it has ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.send_signal(number)
            if self.wait_stopped(timeout):
                self.clean()
                return True
        return False

    def clean(self) -> None:
        """Remove what a machine that does not run leaves in /run."""
        if not self.is_running():
            shutil.rmtree(self.place, ignore_errors=True)

    def forget(self) -> None:
        """Remove everything of a machine that is there no more, its logs too."""
        self.clean()
        shutil.rmtree(self.folder, ignore_errors=True)
