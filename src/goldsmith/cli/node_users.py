"""Who uses the embedded node: builds that find it stopped start it, and the last one to leave stops it again.

    <node state>/client/ca.pem          every build holds it locked (flock, shared) while it uses the node: a file that
                                        every user of the machine may read, and that is new with each start of the node
    <our state>/started-<node>.json     the process number of a node that a build of this user has started

A lock goes with its process, however that ends, and a mark of a node that runs no more counts for nothing: a build that
is killed leaves the node running for the next build, which stops it when it is done.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from goldsmith import __version__
from goldsmith.base.digest import digest_bytes
from goldsmith.base.errors import GoldsmithError, Interrupted, LockTaken, NodeServiceError
from goldsmith.base.events import Events, Notice
from goldsmith.base.files import unlock, write_atomic
from goldsmith.node import daemon
from goldsmith.node.client import ClientAccess, NodeAddress, find_access, find_node
from goldsmith.node.settings import NodeSettings

TRIES = 5
"""How often a node may vanish between being found and being locked."""
LOCK_SECONDS = 30.0
"""Longer than a node takes to stop: until then its lock is held by whoever stops it."""
LATE_SECONDS = 3.0
"""How long a server may take to come up after its start was interrupted."""


class NodeMark:
    """The note that a build has started the node, so that a build may stop it."""

    def __init__(self, settings: NodeSettings, state: Path) -> None:
        name = digest_bytes(str(settings.state.absolute()).encode()).partition(":")[2][:12]
        self._path = state / f"started-{name}.json"

    def put(self, address: NodeAddress) -> None:
        """Note that this process of a node is ours to stop."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._path, json.dumps({"pid": address.pid, "port": address.port}))

    def is_of(self, address: NodeAddress | None) -> bool:
        """Tell whether the note is about this process."""
        with suppress(OSError, ValueError):
            return address is not None and json.loads(self._path.read_text())["pid"] == address.pid
        return False

    def remove(self) -> None:
        """Forget it: somebody wants the node to stay."""
        self._path.unlink(missing_ok=True)


@contextmanager
def open_node(settings: NodeSettings, state: Path, events: Events) -> Iterator[ClientAccess]:
    """Use the embedded node while the block runs: the one that runs, or one that is started for it.

    :param state: goldsmith's own directory.
    :raises NodeServiceError: it does not start.
    """
    mark = NodeMark(settings, state)
    with ExitStack() as stack:
        stack.callback(_leave, settings, mark, events)  # before the start: an interrupt must not leave half a node
        access, fd = _enter(settings, mark, events)
        stack.callback(unlock, fd)
        yield access


def _enter(settings: NodeSettings, mark: NodeMark, events: Events) -> tuple[ClientAccess, int]:
    """Have a running node and its lock: locked first, then looked at again, as it may have been stopped in between."""
    for _ in range(TRIES):
        access = _find_current(settings) or _start(settings, mark, events)
        fd = _lock(settings, fcntl.LOCK_SH, LOCK_SECONDS)
        if fd is not None:
            if _is_running(settings, access):
                return access, fd
            unlock(fd)
    raise NodeServiceError(
        f"the embedded node on {settings.state} is being started and stopped by somebody else all the time",
        hint="`goldsmith node start` keeps it running",
    )


def _find_current(settings: NodeSettings) -> ClientAccess | None:
    """Return how to get into the running node, unless it runs another version of goldsmith."""
    access = find_access(settings.state)
    return access if access is not None and access.address.version == __version__ else None


def _is_running(settings: NodeSettings, access: ClientAccess) -> bool:
    address = find_node(settings.state)
    return address is not None and address.pid == access.address.pid


def _start(settings: NodeSettings, mark: NodeMark, events: Events) -> ClientAccess:
    before = find_node(settings.state)
    is_ours = before is None or mark.is_of(before)
    if before is None:
        events.emit(Notice(message="starting the embedded node"))
    try:
        access = daemon.start(settings)
    except Interrupted:
        _mark_late(settings, mark, is_ours)
        raise
    if is_ours:
        mark.put(access.address)
    return access


def _mark_late(settings: NodeSettings, mark: NodeMark, is_ours: bool) -> None:
    """Note a server whose start was interrupted: it may be up by now, or be about to be."""
    deadline = time.monotonic() + LATE_SECONDS
    while is_ours and time.monotonic() < deadline:
        address = find_node(settings.state)
        if address is not None:
            mark.put(address)
            return
        time.sleep(0.05)


def _leave(settings: NodeSettings, mark: NodeMark, events: Events) -> None:
    """Stop the node if a build has started it and nobody uses it any more. That it cannot be is only worth a word."""
    try:
        _stop_if_last(settings, mark)
    except GoldsmithError as error:
        told = f"the embedded node goes on running: {error.message}"
        events.emit(Notice(message=told, level="warning"))


def _stop_if_last(settings: NodeSettings, mark: NodeMark) -> None:
    if not mark.is_of(find_node(settings.state)):
        return
    fd = _lock(settings, fcntl.LOCK_EX)
    if fd is None:  # another build uses it, and will stop it
        return
    try:
        if mark.is_of(find_node(settings.state)):
            daemon.stop(settings)  # the mark stays: it means nothing now, and may be that of the next node already
    finally:
        unlock(fd)


def keep_node(settings: NodeSettings, state: Path) -> ClientAccess:
    """Have the node run, and go on running when builds have ended."""
    access = daemon.start(settings)
    NodeMark(settings, state).remove()
    return access


def stop_node(settings: NodeSettings, *, force: bool = False) -> bool:
    """Stop the node; guests and tasks go on. Tell whether it ran.

    :param force: also when a build uses it, which then fails.
    :raises LockTaken: a build uses it.
    """
    if find_node(settings.state) is None:
        return False
    with _hold_off_builds(settings, force=force):
        return daemon.stop(settings)


def remove_node(settings: NodeSettings, *, force: bool = False) -> None:
    """Stop the node and remove it with all its guests and templates.

    :param force: also when a build uses it, which then fails.
    :raises LockTaken: a build uses it.
    """
    with _hold_off_builds(settings, force=force):
        daemon.remove(settings)


@contextmanager
def _hold_off_builds(settings: NodeSettings, *, force: bool) -> Iterator[None]:
    fd = _lock(settings, fcntl.LOCK_EX)
    if fd is None and find_node(settings.state) is not None and not force:
        raise LockTaken(
            f"a build uses the embedded node on {settings.state}",
            hint="wait until it has ended; with --force it fails",
        )
    try:
        yield
    finally:
        if fd is not None:
            unlock(fd)


def _lock(settings: NodeSettings, kind: int, timeout: float = 0.0) -> int | None:
    """Lock the node that runs now and return the open file; None when somebody else has it, or it is no longer there.

    :param timeout: seconds to wait for another holder.
    """
    path = settings.state / "client" / "ca.pem"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    deadline = time.monotonic() + timeout
    while not _try_lock(fd, kind):
        if time.monotonic() >= deadline:
            os.close(fd)
            return None
        time.sleep(0.02)
    if _is_current(fd, path):
        return fd
    unlock(fd)
    return None


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_current(fd: int, path: Path) -> bool:
    """Tell whether a file that was opened still has its name: a node that starts replaces it."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
