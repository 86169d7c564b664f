"""What of a guest exists while it runs: directories, LXC's command socket, process ids, control groups, veths.

LXC's own directory is `/run/goldsmith/<node key>/<vmid>`: a guest's root user must be able to reach it, which
the node's state directory forbids. The key is made of the state directory, so that nodes never meet.
"""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goldsmith.base.process import Argument, run
from goldsmith.node.context import Node
from goldsmith.node.settings import NodeSettings

RUN = Path("/run/goldsmith")
CGROUPS = Path("/sys/fs/cgroup")
_SOCKET_NAME_LIMIT = 106


def node_key(settings: NodeSettings) -> str:
    """Return eight letters that tell this node's things from other nodes' on the same machine."""
    return hashlib.sha256(str(settings.state.resolve()).encode()).hexdigest()[:8]


def device_name(settings: NodeSettings, kind: str, vmid: int, index: int) -> str:
    """Return a device's name on the machine's side: `veth100i0`, as Proxmox; other letters for nodes beside the first.

    :param kind: `veth` or `tap`.

    An interface's name has at most 15 letters (linux/if.h, IFNAMSIZ).
    """
    default = NodeSettings.__dataclass_fields__["host_bridge"].default
    prefix = kind if settings.host_bridge == default else f"{kind[0]}{node_key(settings)[:3]}"
    return f"{prefix}{vmid}i{index}"


@dataclass(frozen=True)
class Runtime:
    """One guest's run-time places."""

    node: Node
    vmid: int

    @property
    def lxcpath(self) -> Path:
        """LXC's `-P`."""
        return RUN / node_key(self.node.settings)

    @property
    def config(self) -> Path:
        """The generated lxc.container.conf(5)."""
        return self.lxcpath / str(self.vmid) / "config"

    @property
    def folder(self) -> Path:
        """Logs, pid files and hooks; only root can enter."""
        return self.node.run / str(self.vmid)

    @property
    def console_log(self) -> Path:
        """What the guest's console said since its last start; `.1` is the start before."""
        return self.folder / "console.log"

    @property
    def lxc_log(self) -> Path:
        """What LXC said at the last start."""
        return self.folder / "lxc.log"

    @property
    def cgroup(self) -> str:
        """The guest's control group, below every hierarchy's root."""
        return f"goldsmith/{node_key(self.node.settings)}/{self.vmid}"

    def veth(self, index: int) -> str:
        """Return the name of a network device's outer end."""
        return device_name(self.node.settings, "veth", self.vmid, index)

    def command(self, program: str, *arguments: Argument) -> list[Argument]:
        """Return an `lxc-*` command for this guest."""
        return [program, "-P", self.lxcpath, "-n", self.vmid, *arguments]

    def freeze(self) -> None:
        """Hold all processes of the guest still."""
        run(self.command("lxc-freeze"))

    def thaw(self) -> None:
        """Let the guest's processes go on, whatever a worker that is gone has left.

        A lxc-freeze that has outlived its worker would freeze the guest again behind our back, so it is ended first.
        LXC then says FREEZING, and its lxc-unfreeze does nothing about anything but FROZEN (lxc 5.0, lxccontainer.c):
        such a guest is frozen whole before.
        """
        for pid in self._list_freezing():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if run(self.command("lxc-info", "-s", "-H"), check=False).stdout.strip() == "FREEZING":
            run(self.command("lxc-freeze"), check=False)
        run(self.command("lxc-unfreeze"), check=False)

    def _list_freezing(self) -> list[int]:
        """Return the processes that freeze this guest just now."""
        wanted = [str(word).encode() for word in self.command("lxc-freeze")]
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0") == wanted:
                    found.append(int(folder.name))
        return found

    def is_running(self) -> bool:
        """Tell whether LXC's monitor of this guest lives; asks the kernel, starts no program (as PVE does)."""
        return self.socket_name() in list_socket_names()

    def socket_name(self) -> str:
        """Return the abstract name of LXC's command socket (lxc/commands_utils.c)."""
        name = f"{self.lxcpath}/{self.vmid}/command"
        assert len(name) <= _SOCKET_NAME_LIMIT
        return name

    def find_init(self) -> int | None:
        """Return the process id of the guest's first process, seen from the machine."""
        if not self.is_running():
            return None
        if (known := self._recorded_init()) is not None:
            return known
        said = run(self.command("lxc-info", "-p", "-H"), check=False).stdout.strip()
        if not said.isdigit():
            return None
        with suppress(OSError):
            (self.folder / "init").write_text(f"{said} {_start_time(int(said))}")
        return int(said)

    def _recorded_init(self) -> int | None:
        with suppress(OSError, ValueError):
            pid, started = (self.folder / "init").read_text().split()
            if _start_time(int(pid)) == started:
                return int(pid)
        return None

    def monitor(self) -> int | None:
        """Return the process id of LXC's monitor, which outlives the guest's first process a little."""
        with suppress(OSError, ValueError):
            return int((self.folder / "monitor.pid").read_text())
        return None

    def wait_stopped(self, timeout: float) -> bool:
        """Wait until the guest and its monitor have ended and everything is released; tell whether they have."""
        if not self.is_running():
            return True
        with suppress(OSError, TypeError):
            pidfd = os.pidfd_open(self.monitor() or -1)
            try:
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll(timeout * 1000)
            finally:
                os.close(pidfd)
        return not self.is_running()

    def clean(self) -> None:
        """Remove what a guest that does not run leaves in /run and among control groups."""
        shutil.rmtree(self.config.parent, ignore_errors=True)
        remove_cgroups(f"{self.cgroup}.monitor")
        remove_cgroups(self.cgroup)

    def forget(self) -> None:
        """Remove everything of a guest that is there no more, its logs too."""
        self.clean()
        shutil.rmtree(self.folder, ignore_errors=True)


def list_socket_names() -> frozenset[str]:
    """Return the names of all abstract sockets on the machine."""
    lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    return frozenset(line.rpartition(" @")[2] for line in lines if " @" in line)


def _start_time(pid: int) -> str:
    """Return a process's start time in clock ticks since boot: with the pid it names a process for good (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def remove_cgroups(name: str, root: Path = CGROUPS) -> None:
    """Remove a control group in every hierarchy; one with processes in it stays, the kernel sees to that."""
    for hierarchy in (root, *(path for path in root.iterdir() if path.is_dir())):
        top = hierarchy / name
        for path in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True) if top.is_dir() else []:
            with suppress(OSError):
                path.rmdir()
        with suppress(OSError):
            top.rmdir()


def release_node(settings: NodeSettings) -> None:
    """Remove what a node that is given up leaves in /run and among control groups. Its guests have ended."""
    shutil.rmtree(RUN / node_key(settings), ignore_errors=True)
    remove_cgroups(f"goldsmith/{node_key(settings)}")
