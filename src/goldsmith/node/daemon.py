"""Starting, stopping and removing the node, as root: `python -m goldsmith.node.daemon start|stop|remove`.

Who is not root runs that same command line through sudo (`elevated_command`); nothing else of goldsmith needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from goldsmith import __version__
from goldsmith.base.errors import GoldsmithError, NodeServiceError
from goldsmith.base.files import open_lock
from goldsmith.base.process import Argument, run, start_detached
from goldsmith.node.client import ClientAccess, NodeAddress, find_access, find_node, grant
from goldsmith.node.removal import remove_node, rest_node
from goldsmith.node.settings import NodeSettings

START_SECONDS = 60.0
STOP_SECONDS = 15.0
_POLL = 0.01
_LOG_TAIL = 30


def log_path(state: Path) -> Path:
    """Return the server's log file."""
    return state / "server.log"


def elevated_command(action: str, settings: NodeSettings, sudo: Sequence[str] = ("sudo", "-n")) -> list[Argument]:
    """Return the command line that does an action as root; `sudo` is how to become root (empty: we are)."""
    text = json.dumps({**asdict(settings), "state": str(settings.state)})
    return [*sudo, sys.executable, "-m", "goldsmith.node.daemon", action, "--settings", text]


def start(settings: NodeSettings, *, sudo: Sequence[str] = ("sudo", "-n")) -> ClientAccess:
    """Start the node unless it runs, and return how to get in. Settings of an existing node stay as they are.

    A node that runs another version of goldsmith is restarted; its guests and tasks go on meanwhile.

    :raises NodeServiceError: it does not come up; the end of its log is in `detail`.
    """
    if _needs_root(settings):
        access = find_access(settings.state)
        if access is None or access.address.version != __version__:
            _run_elevated("start", settings, sudo)
            access = find_access(settings.state)
        return _check_access(settings, access)
    _prepare_state(settings)
    with open_lock(settings.state / "start.lock", timeout=START_SECONDS, what="starting the embedded node"):
        address = find_node(settings.state)
        if address is not None and address.version != __version__:
            _end(address)
            address = None
        if address is None:
            _launch(settings.state)
        grant(settings, *_find_owner())
    uid, _ = _find_owner()
    return _check_access(settings, find_access(settings.state, uid))


def _needs_root(settings: NodeSettings) -> bool:
    return settings.with_guests and os.geteuid() != 0


def _check_access(settings: NodeSettings, access: ClientAccess | None) -> ClientAccess:
    if access is None:
        raise NodeServiceError(
            f"the embedded node on {settings.state} ended right after its start", detail=_tail(settings.state)
        )
    return access


def _find_owner() -> tuple[int, int]:
    """Return for whom root starts the node: the user who called sudo, else root itself."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(uid), int(gid)) if os.geteuid() == 0 and uid.isdigit() and gid.isdigit() else (os.getuid(), os.getgid())


def _run_elevated(action: str, settings: NodeSettings, sudo: Sequence[str]) -> None:
    try:
        run(elevated_command(action, settings, sudo), timeout=START_SECONDS + STOP_SECONDS)
    except GoldsmithError as error:
        raise NodeServiceError(
            f"the embedded node needs root to {action}: {error.message}",
            detail=error.detail,
            hint="run `sudo -v` first, or `goldsmith node start` as root",
        ) from error


def _prepare_state(settings: NodeSettings) -> None:
    """Make the state directory, and write the settings down at the first start."""
    settings.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    if not (settings.state / "settings.json").exists():
        settings.save()


def _launch(state: Path) -> None:
    """Start the server in a session of its own and wait until it listens."""
    pid = start_detached([sys.executable, "-m", "goldsmith.node.serve", "--state", state], log=log_path(state))
    fd = os.pidfd_open(pid)
    try:
        deadline = time.monotonic() + START_SECONDS
        while find_node(state) is None:
            has_ended = bool(select.select([fd], [], [], _POLL)[0])
            if has_ended or time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                what = "ended at its start" if has_ended else f"did not come up within {START_SECONDS:g} s"
                raise NodeServiceError(
                    f"the embedded node {what}",
                    detail=_tail(state),
                    hint="`goldsmith node doctor` says what the machine lacks",
                )
    finally:
        os.close(fd)


def _tail(state: Path) -> str:
    with suppress(OSError):
        return "\n".join(log_path(state).read_text(errors="replace").splitlines()[-_LOG_TAIL:])
    return ""


def stop(settings: NodeSettings, *, sudo: Sequence[str] = ("sudo", "-n")) -> bool:
    """Stop the node; guests and tasks go on. Tell whether it ran.

    Without any, the machine gets back what the node held of it: bridge, rules, mounts.
    """
    address = find_node(settings.state)
    if address is None:
        return False
    if _needs_root(settings):
        _run_elevated("stop", settings, sudo)
        return True
    with open_lock(settings.state / "start.lock", timeout=START_SECONDS, what="the embedded node"):
        _end(address)
        if settings.with_guests:
            rest_node(settings)
    return True


def remove(settings: NodeSettings, *, sudo: Sequence[str] = ("sudo", "-n")) -> None:
    """Stop the node and remove it with all its guests and their data. A node that never was is no failure.

    :raises NodeServiceError: something is still in use; see `removal.remove_node`.
    """
    if not (settings.state / "settings.json").exists():
        return
    if _needs_root(settings):
        _run_elevated("remove", settings, sudo)
        return
    with open_lock(settings.state / "start.lock", timeout=START_SECONDS, what="the embedded node"):
        if (address := find_node(settings.state)) is not None:
            _end(address)
        remove_node(settings)


def _end(address: NodeAddress) -> None:
    """End a server: it gets time to finish its answers, then none."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(address.pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            if not select.select([fd], [], [], STOP_SECONDS)[0]:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                select.select([fd], [], [], STOP_SECONDS)
        finally:
            os.close(fd)


def status(settings: NodeSettings) -> NodeAddress | None:
    """Return the running node, or nothing."""
    return find_node(settings.state)


def main(arguments: list[str]) -> int:
    """Do what `elevated_command` asks for; errors go to standard error, in full, for who called."""
    parser = argparse.ArgumentParser(prog="goldsmith.node.daemon")
    parser.add_argument("action", choices=("start", "stop", "remove"))
    parser.add_argument("--settings", required=True)
    chosen = parser.parse_args(arguments)
    values = json.loads(chosen.settings)
    settings = NodeSettings(**{**values, "state": Path(values["state"])})
    try:
        {"start": start, "stop": stop, "remove": remove}[chosen.action](settings)
    except GoldsmithError as error:
        sys.stderr.write("\n".join(filter(None, (error.message, error.detail, error.hint))) + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
