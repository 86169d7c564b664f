"""Starting, stopping and rebooting guests.

A guest runs under LXC's own monitor, in a session and control group of its own: it outlives the worker that started
it and the node. A reboot from inside ends in the `post-stop` hook, which starts the guest anew, so that pending
changes are applied as Proxmox does; a power-off from inside needs nobody: LXC releases veths and control groups,
and mounts die with their namespace.
"""

from __future__ import annotations

import os
from pathlib import Path

from goldsmith.base.errors import ProgramFailed
from goldsmith.base.files import write_atomic
from goldsmith.base.process import Argument, render_command, run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc import veth
from goldsmith.node.lxc.assemble import Assembly
from goldsmith.node.lxc.config import GuestConfig, Options, open_config, save_config
from goldsmith.node.lxc.disks import close_sources, open_sources, plan_assembly
from goldsmith.node.lxc.guestfs import GuestRoot
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.lxcconf import Host, render_lxc_config, render_seccomp
from goldsmith.node.lxc.pending import apply_pending
from goldsmith.node.lxc.programs import assembled, module_command, module_environment, package_path
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.setup import write_start_files
from goldsmith.node.network import get_bridge
from goldsmith.node.routing import Task
from goldsmith.node.settings import NodeSettings

START_SECONDS = 60.0
STOP_SECONDS = 60.0
RELEASE_SECONDS = 15.0
"""How long LXC's monitor may take to clean up after the guest's last process."""
SHUTDOWN_SECONDS = 60


def run_start(task: Task, node: Node, vmid: int) -> None:
    """Worker `vzstart`: start a guest and return when its first process runs."""
    with open_config(node, vmid, timeout=START_SECONDS) as config:
        config.check_lock()
        start_guest(task, node, vmid, config)


def start_guest(task: veth.Reporter, node: Node, vmid: int, config: GuestConfig) -> None:
    """Start a guest whose config the caller has locked."""
    runtime = Runtime(node, vmid)
    if config.current.is_template:
        raise ApiFault("you can't start a CT if it's a template")
    if runtime.is_running():
        raise ApiFault(f"CT {vmid} already running")
    apply_pending(task.log, node, vmid, config)
    save_config(node, vmid, config)
    options = config.current
    bridges = {net.key: get_bridge(node.settings, net.bridge) for net in options.nets() if net.bridge}
    sources = open_sources(node, options)
    assembly = plan_assembly(sources, IdMap.of(unprivileged=options.is_unprivileged))
    try:
        _prepare(runtime, options, Path(assembly.root), bridges)
        _launch(task, runtime, assembly)
    except BaseException:
        stop_now(runtime)
        close_sources(node, options)
        raise
    for net in options.nets():
        if net.bridge and net.link_down:
            veth.plug(runtime, net, bridges[net.key])
        elif net.bridge:
            veth.forget_neighbour(net, bridges[net.key])
        veth.warn_unsupported(task, net)


def _prepare(runtime: Runtime, options: Options, root: Path, bridges: dict[str, str]) -> None:
    """Write everything that the start reads: files inside the guest, LXC's config, hook, seccomp policy."""
    runtime.clean()
    runtime.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (runtime.folder / "init", runtime.folder / "monitor.pid", runtime.lxc_log):
        path.unlink(missing_ok=True)
    if runtime.console_log.exists():
        runtime.console_log.replace(runtime.console_log.with_suffix(".log.1"))
    idmap = IdMap.of(unprivileged=options.is_unprivileged)
    with GuestRoot(root, idmap) as guest:
        write_start_files(guest, options, str(runtime.node.settings.gateway))
    connected = {net.key: bridges[net.key] for net in options.nets() if net.bridge and not net.link_down}
    runtime.config.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    write_atomic(runtime.config, render_lxc_config(runtime, options, Host.detect(), connected), mode=0o600)
    write_atomic(runtime.folder / "seccomp", render_seccomp(options), mode=0o600)
    write_atomic(runtime.folder / "post-stop", render_hook(runtime), mode=0o700)


def _launch(task: veth.Reporter, runtime: Runtime, assembly: Assembly) -> None:
    logging: list[Argument] = ["-o", runtime.lxc_log, "-l", "INFO"]
    start = runtime.command("lxc-start", "-d", "-p", runtime.folder / "monitor.pid", *logging)
    try:
        run(assembled(assembly, start), env=module_environment(), timeout=START_SECONDS)
    except ProgramFailed as error:
        for line in _read_errors(runtime) or error.output.splitlines():
            task.log(line)
        raise ApiFault(f"startup for container '{runtime.vmid}' failed") from error


def _read_errors(runtime: Runtime) -> list[str]:
    """Return the lines of LXC's log that say what went wrong."""
    if not runtime.lxc_log.exists():
        return []
    lines = runtime.lxc_log.read_text(errors="replace").splitlines()
    return [line.partition("ERROR")[2].strip() for line in lines if " ERROR " in line][:20]


def render_hook(runtime: Runtime) -> str:
    """Render LXC's post-stop hook.

    On a reboot it ends with an error, which makes LXC stop instead (lxc/start.c), and leaves the start to us.
    """
    restart = module_command("goldsmith.node.lxc.restart", runtime.node.settings.state, runtime.vmid, site=True)
    log = runtime.folder / "restart.log"
    return f"""#!/bin/sh
[ "$LXC_TARGET" = reboot ] || exit 0
PYTHONPATH={render_command([package_path()])} \\
setsid --fork {render_command(restart)} </dev/null >{render_command([log])} 2>&1
exit 1
"""


def check_running(runtime: Runtime) -> None:
    """Raise unless the guest runs; PVE's words."""
    if not runtime.is_running():
        raise ApiFault(f"CT {runtime.vmid} not running")


def run_stop(task: Task, node: Node, vmid: int) -> None:
    """Worker `vzstop`: stop a guest at once."""
    del task
    with open_config(node, vmid, timeout=START_SECONDS) as config:
        config.check_lock()
        check_running(Runtime(node, vmid))
        stop_guest(node, vmid, config)


def stop_guest(node: Node, vmid: int, config: GuestConfig) -> None:
    """Stop a guest at once, and release what it held. The caller holds the config's lock."""
    runtime = Runtime(node, vmid)
    stop_now(runtime)
    close_sources(node, config.current)


def stop_now(runtime: Runtime) -> None:
    """Kill a guest's processes and wait until LXC has cleaned up behind it. Idempotent."""
    if runtime.is_running():
        run(runtime.command("lxc-stop", "-k"), timeout=STOP_SECONDS, check=False)
        if not runtime.wait_stopped(RELEASE_SECONDS):
            raise ApiFault(f"CT {runtime.vmid} did not stop")
    runtime.clean()


def run_shutdown(task: Task, node: Node, vmid: int, timeout: int, force: bool) -> None:
    """Worker `vzshutdown`: ask a guest to end; after `timeout` seconds give up, or stop it."""
    del task
    with open_config(node, vmid, timeout=START_SECONDS) as config:
        config.check_lock()
        check_running(Runtime(node, vmid))
        shutdown_guest(node, vmid, config, timeout=timeout, force=force)


def shutdown_guest(node: Node, vmid: int, config: GuestConfig, *, timeout: int, force: bool) -> None:
    """Ask a guest to end and wait for it.

    :raises ApiFault: it still runs after `timeout` seconds and `force` is not set.
    """
    runtime = Runtime(node, vmid)
    command = runtime.command("lxc-stop", "--nokill", "--timeout", timeout)
    completed = run(command, timeout=timeout + RELEASE_SECONDS, check=False)
    if completed.returncode == 0 and runtime.wait_stopped(RELEASE_SECONDS):
        runtime.clean()
        close_sources(node, config.current)
    elif force:
        stop_guest(node, vmid, config)
    else:
        raise ApiFault(f"command '{completed.command}' failed: exit code {completed.returncode or 1}")


def run_reboot(task: Task, node: Node, vmid: int, timeout: int) -> None:
    """Worker `vzreboot`: shut a guest down, apply pending changes, start it."""
    with open_config(node, vmid, timeout=START_SECONDS) as config:
        config.check_lock()
        if Runtime(node, vmid).is_running():
            shutdown_guest(node, vmid, config, timeout=timeout, force=False)
        start_guest(task, node, vmid, config)


def run_suspend(task: Task, node: Node, vmid: int) -> None:
    """Worker `vzsuspend`: hold a guest's processes still."""
    del task
    with open_config(node, vmid) as config:
        config.check_lock()
        Runtime(node, vmid).freeze()


def run_resume(task: Task, node: Node, vmid: int) -> None:
    """Worker `vzresume`: let a guest's processes go on."""
    del task
    with open_config(node, vmid):
        run(Runtime(node, vmid).command("lxc-unfreeze"))


class Journal:
    """The log of a start that no task stands for: a reboot from inside."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def log(self, line: str) -> None:
        """Write a line."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "a") as file:
            file.write(line + "\n")

    def warn(self, line: str) -> None:
        """Write a warning."""
        self.log(f"WARN: {line}")


def restart_guest(state: Path, vmid: int) -> None:
    """Start a guest that has rebooted from inside, once its old monitor has gone."""
    node = Node(NodeSettings.load(state))
    runtime = Runtime(node, vmid)
    journal = Journal(runtime.folder / "restart.log")
    with open_config(node, vmid, timeout=START_SECONDS) as config:
        if not runtime.wait_stopped(RELEASE_SECONDS):
            raise ApiFault(f"CT {vmid} did not stop")
        start_guest(journal, node, vmid, config)
