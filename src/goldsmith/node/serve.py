"""The node's own process: `python -m goldsmith.node.serve --state DIR`. Runs in the foreground; `daemon` detaches it.

On the way up: one server per state directory (a lock that dies with it), storages mounted, network up, what dead
workers left undone, the spawner forked while there is one thread, then the port. Ready is when `client/node.json`
says where. SIGTERM ends it; guests and tasks go on.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from goldsmith.base.errors import GoldsmithError, LockTaken, NodeServiceError
from goldsmith.node.access.store import ROOT
from goldsmith.node.certificate import ensure_certificate
from goldsmith.node.client import HOST, announce, withdraw
from goldsmith.node.context import Node
from goldsmith.node.guestconf import list_all_vmids
from goldsmith.node.kernel import ensure_limits
from goldsmith.node.lxc.recover import recover
from goldsmith.node.network import ensure_network
from goldsmith.node.qemu.recover import recover as recover_machines
from goldsmith.node.server import Server, make_tls_context
from goldsmith.node.settings import NodeSettings
from goldsmith.node.spawner import fork_spawner
from goldsmith.node.tasks import TaskStore

_LOG = logging.getLogger("goldsmith.node")
_PORTS_TRIED = 100


def prepare(node: Node) -> None:
    """Bring everything up that the API is about."""
    with node.access.change() as access:
        assert ROOT in access.users
    store = TaskStore(node.tasks)
    store.ensure()
    busy = find_busy(node, store)
    store.forget_old()
    for storage in node.storages():
        storage.ensure()
    clear_leftovers(node, store)
    if node.settings.with_guests:
        ensure_limits()
        ensure_network(node.settings)
        recover(node, busy, _LOG.info)
        recover_machines(node, busy, _LOG.info)


def clear_leftovers(node: Node, store: TaskStore) -> None:
    """Remove what killed workers and uploads left half done, unless a worker of an earlier server is still at it."""
    if store.list_active():
        return
    for folder in node.run.glob("appliance-*"):
        shutil.rmtree(folder, ignore_errors=True)
    for storage in node.storages():
        storage.clear_leftovers()


def find_busy(node: Node, store: TaskStore) -> frozenset[int]:
    """Return the guests that living workers of an earlier server are at."""
    active = store.list_active()
    if any(not upid.id.isdigit() for upid in active):
        return frozenset(list_all_vmids(node))  # a backup of several: better to leave all alone
    return frozenset(int(upid.id) for upid in active)


def make_folders(node: Node) -> None:
    """Make the state directory's folders. Only `client/` is for others than root."""
    state = node.settings.state
    state.mkdir(mode=0o711, parents=True, exist_ok=True)
    for path in (node.configs, node.machine_configs, node.locks, node.tasks, node.run, state / "tls"):
        path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        state.chmod(0o711)


def hold_server_lock(node: Node) -> int:
    """Take the lock of the one server; held until the process ends.

    A record lock, not flock(2): the spawner and its workers, which outlive us, must not inherit it.

    :raises LockTaken: another server has it.
    """
    fd = os.open(node.locks / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise LockTaken(f"an embedded node is running already on {node.settings.state}") from error
    return fd


async def listen(node: Node, app: web.Application) -> tuple[web.AppRunner, int]:
    """Open the port, the next one when it is taken; return it too.

    :raises NodeServiceError: none of many is free.
    """
    certificate, key = ensure_certificate(node.settings.state / "tls", node.name)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    first = node.settings.port
    for port in range(first, first + _PORTS_TRIED):
        try:
            await web.TCPSite(runner, HOST, port, ssl_context=make_tls_context(certificate, key)).start()
        except OSError:
            continue
        return runner, port
    await runner.cleanup()
    raise NodeServiceError(f"no port is free from {first} on", hint="set another port for the embedded node")


async def run_server(node: Node, app: web.Application, end: asyncio.Event) -> None:
    """Serve until the event."""
    runner, port = await listen(node, app)
    announce(node.settings, port)
    _LOG.info("listening on %s:%d", HOST, port)
    try:
        await end.wait()
    finally:
        withdraw(node.settings)
        await runner.cleanup()


async def _serve_until_stopped(node: Node) -> None:
    end, loop = asyncio.Event(), asyncio.get_running_loop()
    stop: Callable[[], None] = end.set
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await run_server(node, Server(node).make_app(), end)


def serve(state: Path) -> None:
    """Be the server of a state directory until SIGTERM."""
    node = Node(NodeSettings.load(state))
    make_folders(node)
    lock = hold_server_lock(node)
    prepare(node)
    fork_spawner(node)
    try:
        asyncio.run(_serve_until_stopped(node))
    finally:
        os.close(lock)
    _LOG.info("stopped")


def main(arguments: list[str]) -> int:
    """Parse the command line and serve; the exit code is the error's."""
    parser = argparse.ArgumentParser(prog="goldsmith.node.serve", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s: %(message)s", level=logging.INFO)
    try:
        serve(chosen.state)
    except GoldsmithError as error:
        _LOG.error("%s", "\n".join(filter(None, (error.message, error.detail, error.hint))))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
