"""The process that tasks are born from: it has everything imported and no threads, so a task begins in milliseconds.

    server --- forks, before it has threads ---> spawner --- forks ---> worker (one per task)
      |                                             ^                      |
      +------ request: type, id, user, work --------+---- (start=1, ...) --+

Requests come over a socket in the state directory: from the server and from workers alike. The answer is the UPID,
sent by the worker itself once its log exists. When the server ends, however it ends, the spawner stays until its
last worker is done, so that running tasks can still start others; a new server makes a new spawner.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.worker import run_worker

_REQUEST_LIMIT = 4 << 20
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """A task to be started. `work` is a module-level function: `work(task, node, *arguments)`."""

    type: str
    id: str
    user: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]


def socket_path(node: Node) -> Path:
    """Return where the spawner listens."""
    return node.run / "spawner.sock"


def request_task(node: Node, request: Request) -> str:
    """Have a task started and return its UPID; its log exists by then.

    :raises ApiFault: the spawner is gone, or had to refuse.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            _connect(connection, socket_path(node))
            connection.sendall(pickle.dumps(request))
            connection.shutdown(socket.SHUT_WR)
            answer = _receive_all(connection).decode()
        except OSError as error:
            raise ApiFault(f"unable to start worker: {error}") from error
    if not answer.startswith("UPID:"):
        raise ApiFault(answer or "unable to start worker: it ended at once")
    return answer


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect by way of the directory's descriptor: a socket's own path may have 107 bytes only (unix(7))."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _receive_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while piece := connection.recv(1 << 16):
        received += piece
        if len(received) > _REQUEST_LIMIT:
            raise OSError("request is too long")
    return bytes(received)


def fork_spawner(node: Node) -> int:
    """Fork the spawner and return its process number. The caller has one thread; it is the one we watch."""
    listener = _listen(socket_path(node))
    alive, ours = os.pipe()
    gc.collect()
    gc.freeze()  # pages that are not touched by the collector stay shared with every worker
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        try:
            _serve(node, listener, alive)
        finally:
            os._exit(0)
    os.close(alive)
    listener.close()
    # `ours` stays open for as long as this process lives: its end is how the spawner learns of ours.
    return pid


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    listener.listen(64)
    return listener


def _serve(node: Node, listener: socket.socket, alive: int) -> None:
    """Fork a worker per request until the server is gone and the last worker has ended."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with its server, not before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    watched = [listener.fileno(), woken, alive]
    while alive in watched or children:
        ready = select.select(watched, [], [])[0]
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 1 << 12)
            _reap(children)
        if alive in ready:
            watched.remove(alive)
        if listener.fileno() in ready:
            children.add(_accept(node, listener))


def _reap(children: set[int]) -> None:
    with suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            children.discard(pid)


def _accept(node: Node, listener: socket.socket) -> int:
    """Fork a worker for the next connection. The worker reads its own request: a slow client holds up nobody."""
    connection, _ = listener.accept()
    pid = os.fork()
    if pid:
        connection.close()
        return pid
    try:
        _become_worker(node, listener, connection)
    finally:
        os._exit(1)


def _become_worker(node: Node, listener: socket.socket, connection: socket.socket) -> None:
    listener.close()
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    request = pickle.loads(_receive_all(connection))  # noqa: S301 - from our own processes, through a 0700 directory

    def announce(text: str) -> None:
        connection.sendall(text.encode())
        connection.close()

    def spawn(kind: str, name: str, work: Callable[..., Any], *arguments: Any) -> str:
        return request_task(node, Request(kind, name, request.user, work, arguments))

    run_worker(node, request, announce, spawn)
