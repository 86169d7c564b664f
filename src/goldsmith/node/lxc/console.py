"""Consoles of containers: the program that `cmode` names, on a terminal that everybody shares, behind a port.

    client - websocket - server - TCP port (5900 to 5999) - worker of the task - socket - terminal - lxc-attach

As Proxmox does it (pve-xtermjs' termproxy and dtach): the worker waits ten seconds for one connection, reads a line
`USER:TICKET`, answers `OK` and then passes on: to it `0:LENGTH:DATA`, `1:COLUMNS:ROWS:` and `2`, from it bytes.
"""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from goldsmith.base.files import open_lock
from goldsmith.base.process import Argument, start_detached
from goldsmith.node.access.permissions import AclCaller
from goldsmith.node.access.tickets import Tickets
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.config import Options, load_config
from goldsmith.node.lxc.programs import module_command, module_environment
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.terminal import WINDOW, pack
from goldsmith.node.routing import Task

HOST = "127.0.0.1"
PORTS = range(5900, 6000)
PATIENCE = 10.0
"""Seconds that a worker waits for its client, and for its ticket."""
POLL = 0.01
TICKET_ROOM = 4096
PRIVILEGE = "VM.Console"
_LISTENING = "0A"
"""A socket's state in /proc/net/tcp."""
_MESSAGE = re.compile(rb"(?:0:(?P<length>\d{1,10}):|1:(?P<columns>\d{1,5}):(?P<rows>\d{1,5}):)")
_UNFINISHED = re.compile(rb"(?:[01](?::[\d:]*)?)?")


def choose_command(runtime: Runtime, options: Options) -> list[Argument]:
    """Return what runs on the console: a root shell where `cmode` is `shell`, else LXC's console or a terminal."""
    match options.get("cmode", "tty"):
        case "shell":
            return runtime.command("lxc-attach", "--clear-env")
        case "console":
            return runtime.command("lxc-console", "-t", "0", "-e", "-1")
        case _:
            return runtime.command("lxc-console", "-e", "-1")


def choose_port() -> int:
    """Return a port at which nobody listens.

    :raises ApiFault: there is none; PVE's words.
    """
    taken = _list_listening()
    free = [port for port in PORTS if port not in taken]
    if not free:
        raise ApiFault("unable to find free port (5900-5999)")
    return random.choice(free)  # noqa: S311 - so that two who choose at once rarely choose the same


def _list_listening() -> set[int]:
    """Return all ports of this machine at which somebody listens; to connect would take a worker's only client away."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {int(words[1].rpartition(":")[2], 16) for words in lines if words[3] == _LISTENING}


def _wait_for(check: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(POLL)
    return found


def await_port(port: int) -> None:
    """Wait until a worker listens.

    :raises ApiFault: it does not in time; PVE's words.
    """
    if not _wait_for(lambda: port in _list_listening(), PATIENCE / 2):
        raise ApiFault("Timeout while waiting for port to get ready!")


def run_console(task: Task, node: Node, vmid: int, port: int, user: str) -> None:
    """Worker of `termproxy`: wait for the one client that has the ticket, then pass bytes on until either side ends."""
    task.log(f"starting lxc termproxy {task.upid}")
    with closing(_accept(port)) as client:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = _check_ticket(client, node, vmid, port, user)
        client.sendall(b"OK")
        with closing(_open_terminal(node, vmid)) as terminal:
            client.settimeout(None)
            _relay(client, terminal, rest)


def _accept(port: int) -> socket.socket:
    with socket.create_server((HOST, port), backlog=1) as listener:
        listener.settimeout(PATIENCE)
        try:
            return listener.accept()[0]
        except TimeoutError as error:
            raise ApiFault("failed waiting for client: timed out") from error


def _check_ticket(client: socket.socket, node: Node, vmid: int, port: int, user: str) -> bytearray:
    """Read the first line, and check that it is the ticket which was given out for this port; return what follows it.

    :raises ApiFault: it is another, or comes too late; termproxy's words.
    """
    received = bytearray()
    while b"\n" not in received:
        try:
            data = client.recv(TICKET_ROOM - len(received))
        except TimeoutError as error:
            raise ApiFault("failed reading ticket: timed out") from error
        if not data:
            raise ApiFault("failed reading ticket: connection closed before authentication")
        received += data
    line, _, rest = bytes(received).partition(b"\n")
    given, _, ticket = line.decode(errors="replace").partition(":")
    tickets = Tickets(node.settings.state / "authkey")
    path = f"/vms/{vmid}"
    is_good = given == user and tickets.has_console_ticket(ticket, user, path, port)
    if not (is_good and AclCaller(user, node.access.load()).may(path, PRIVILEGE)):
        raise ApiFault("authentication request failed")
    return bytearray(rest)


def _open_terminal(node: Node, vmid: int) -> socket.socket:
    """Connect to the guest's terminal; the first who wants it starts it."""
    runtime = Runtime(node, vmid)
    path = runtime.folder / "console.sock"
    with open_lock(node.locks / f"console-{vmid}.lock", timeout=PATIENCE, what="console"):
        if (found := _connect(path)) is not None:
            return found
        runtime.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = choose_command(runtime, load_config(node, vmid).current)
        environment = {**module_environment(), "TERM": "xterm-256color"}
        argv = module_command("goldsmith.node.lxc.terminal", path, *command)
        start_detached(argv, log=runtime.folder / "terminal.log", env=environment)
        _wait_for(path.exists, PATIENCE)
        if (found := _connect(path)) is None:
            raise ApiFault(f"unable to open the console of CT {vmid}")
        return found


def _connect(path: Path) -> socket.socket | None:
    """Connect by way of the directory's descriptor: a socket's own path may have 107 bytes only (unix(7))."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
    except OSError:
        connection.close()
        return None
    return connection


def _relay(client: socket.socket, terminal: socket.socket, received: bytearray) -> None:
    """Pass bytes on, each direction for itself: a command that reads nothing does not keep its output back."""
    output = threading.Thread(target=_pass_output, args=(client, terminal), daemon=True)
    output.start()
    with suppress(OSError):
        remaining = _pass_messages(terminal, received, 0)
        while data := client.recv(1 << 16):
            received += data
            remaining = _pass_messages(terminal, received, remaining)
    with suppress(OSError):
        terminal.shutdown(socket.SHUT_RDWR)
    output.join(PATIENCE)


def _pass_output(client: socket.socket, terminal: socket.socket) -> None:
    with suppress(OSError):
        while data := terminal.recv(1 << 16):
            client.sendall(data)
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _pass_messages(terminal: socket.socket, received: bytearray, remaining: int) -> int:
    """Pass on what has come; return how many bytes of a message are still to come. Unknown bytes are left out (PVE)."""
    while received:
        if remaining:
            data = bytes(received[: min(remaining, 1 << 15)])
            terminal.sendall(pack(b"d", data))
            del received[: len(data)]
            remaining -= len(data)
        elif (match := _MESSAGE.match(received)) is not None:
            length, columns, rows = match.groups(b"")
            del received[: match.end()]
            if length:
                remaining = int(length)
            else:
                terminal.sendall(pack(b"w", WINDOW.pack(min(int(rows), 0xFFFF), min(int(columns), 0xFFFF))))
        elif _UNFINISHED.fullmatch(received):
            break
        else:
            del received[:1]
    return remaining
