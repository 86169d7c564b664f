"""Starting, stopping and rebooting virtual machines. QEMU goes into the background by itself and outlives the node."""

from __future__ import annotations

from collections.abc import Callable

from goldsmith.base.errors import ProgramFailed, ProgramMissing
from goldsmith.base.process import run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.network import get_bridge
from goldsmith.node.qemu.agent import Agent
from goldsmith.node.qemu.command import Machine, pick_accel, render_command
from goldsmith.node.qemu.config import FILES, GuestConfig, Options
from goldsmith.node.qemu.disks import find_images
from goldsmith.node.qemu.monitor import ask_monitor
from goldsmith.node.qemu.runtime import Runtime
from goldsmith.node.qemu.update import apply_pending
from goldsmith.node.routing import Task

LOCK_SECONDS = 60.0
START_SECONDS = 60.0
SHUTDOWN_SECONDS = 60
KILL_SECONDS = 10.0


def run_start(task: Task, node: Node, vmid: int) -> None:
    """Worker `qmstart`: start a machine and return when QEMU runs."""
    with FILES.open(node, vmid, timeout=LOCK_SECONDS) as config:
        config.check_lock()
        start_machine(task, node, vmid, config)


def start_machine(task: Task, node: Node, vmid: int, config: GuestConfig) -> None:
    """Start a machine whose config the caller has locked."""
    runtime = Runtime(node, vmid)
    if config.current.is_template:
        raise ApiFault("you can't start a vm if it's a template")
    if runtime.is_running():
        raise ApiFault(f"VM {vmid} already running")
    apply_pending(task, node, vmid, config)
    options = config.current
    bridges = {runtime.tap(net.index): get_bridge(node.settings, net.bridge) for net in options.nets() if net.bridge}
    unplugged = {runtime.tap(net.index) for net in options.nets() if net.link_down}
    machine = Machine(options, runtime, pick_accel(node.settings.accel, options), find_images(node, options))
    if machine.accel == "tcg":
        task.log("no KVM is used: the processor is emulated, which is slow")
    try:
        _launch(task, machine)
        for tap, bridge in bridges.items():
            if tap not in unplugged:
                run(["ip", "link", "set", tap, "master", bridge, "up"])
    except BaseException:
        runtime.kill(KILL_SECONDS)
        raise


def _launch(task: Task, machine: Machine) -> None:
    machine.runtime.prepare()
    try:
        run(render_command(machine), timeout=START_SECONDS)
    except ProgramMissing as error:
        raise ApiFault(f"{error.message}: apt-get install qemu-system-x86") from error
    except ProgramFailed as error:
        for line in error.output.splitlines():
            task.log(line)
        raise ApiFault(f"start failed: QEMU exited with code {error.returncode}") from error


def run_stop(task: Task, node: Node, vmid: int, timeout: int) -> None:
    """Worker `qmstop`: end a machine at once."""
    with FILES.open(node, vmid, timeout=LOCK_SECONDS) as config:
        config.check_lock()
        runtime = Runtime(node, vmid)
        _end(task, runtime, lambda: ask_monitor(runtime, "quit"), timeout=timeout, force=True)


def run_shutdown(task: Task, node: Node, vmid: int, timeout: int, force: bool) -> None:
    """Worker `qmshutdown`: ask a machine to end; after `timeout` seconds give up, or end it."""
    with FILES.open(node, vmid, timeout=LOCK_SECONDS) as config:
        config.check_lock()
        shutdown_machine(task, node, vmid, config.current, timeout=timeout, force=force)


def shutdown_machine(task: Task, node: Node, vmid: int, options: Options, *, timeout: int, force: bool) -> None:
    """Ask a machine to end, by its guest agent where there is one that answers, and wait for it."""
    runtime, agent = Runtime(node, vmid), Agent(node, vmid)

    def ask() -> None:
        if options.has_agent and agent.is_alive():
            agent.ask("guest-shutdown")
        else:
            ask_monitor(runtime, "system_powerdown")

    _end(task, runtime, ask, timeout=timeout, force=force)


def _end(task: Task, runtime: Runtime, ask: Callable[[], object], *, timeout: int, force: bool) -> None:
    """Ask a machine to end and wait; one that does not is ended, or left, as wanted. None running is no failure."""
    if not runtime.is_running():
        runtime.clean()
        return
    problem = "VM quit/powerdown failed - got timeout"
    try:
        ask()
    except ApiFault:
        problem = "VM quit/powerdown failed"
        has_ended = runtime.wait_stopped(0.5)
    else:
        has_ended = runtime.wait_stopped(timeout)
    if not has_ended and not force:
        raise ApiFault(problem)
    if not has_ended:
        task.warn(f"{problem} - terminating now with SIGTERM")
        if not runtime.kill(KILL_SECONDS):
            raise ApiFault(f"VM {runtime.vmid} does not end")
    runtime.clean()


def run_reboot(task: Task, node: Node, vmid: int, timeout: int) -> None:
    """Worker `qmreboot`: shut a machine down, apply pending changes, start it."""
    with FILES.open(node, vmid, timeout=LOCK_SECONDS) as config:
        config.check_lock()
        shutdown_machine(task, node, vmid, config.current, timeout=timeout, force=False)
        start_machine(task, node, vmid, config)
