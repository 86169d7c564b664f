"""Starting the node for somebody else, and over an older one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from goldsmith import __version__
from goldsmith.node import daemon
from goldsmith.node.client import find_access
from goldsmith.node.settings import NodeSettings
from tests.contract.node.conftest import Served, free_port

NOBODY = 65534


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="what sudo does can only be done as root")
def test_who_starts_it_through_sudo_gets_his_own_token(tmp_path: Path) -> None:
    settings = NodeSettings(state=tmp_path / "node", port=free_port(), with_guests=False)
    command = [str(word) for word in daemon.elevated_command("start", settings, sudo=())]
    environment = {**os.environ, "SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
    try:
        subprocess.run(command, env=environment, check=True, timeout=60)
        path = settings.state / "client" / f"{NOBODY}.json"
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (NOBODY, 0o600)
        access = find_access(settings.state, NOBODY)
        assert access is not None
        assert access.token_id == f"root@pam!cli-{NOBODY}"
        # The way there is open to him, the rest of the state is not.
        assert (settings.state / "client").stat().st_mode & 0o777 == 0o711
        assert settings.state.stat().st_mode & 0o777 == 0o711
        for name in ("lxc", "lock", "run", "tasks", "tls"):
            assert (settings.state / name).stat().st_mode & 0o077 == 0, name
    finally:
        assert daemon.stop(settings)


def test_an_older_node_is_replaced(own_node: Served) -> None:
    path = own_node.settings.state / "client" / "node.json"
    before = json.loads(path.read_text())
    assert before["version"] == __version__
    path.write_text(json.dumps({**before, "version": "0.0.1"}))
    again = daemon.start(own_node.settings)
    assert (again.address.version, again.address.pid != before["pid"]) == (__version__, True)


def test_leftovers_of_killed_work_are_cleared(own_node: Served) -> None:
    state = own_node.settings.state
    own_node.kill()
    left = [state / "storage" / ".upload" / "pveupload-1", state / "storage/template/cache/.x.part.tar.zst"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (state / "run" / "appliance-x").mkdir()
    own_node.start()
    assert not [path for path in [*left, state / "run" / "appliance-x"] if path.exists()]


def test_two_starts_at_once_make_one_node(tmp_path: Path) -> None:
    settings = NodeSettings(state=tmp_path / "node", port=free_port(), with_guests=False)
    command = [str(word) for word in daemon.elevated_command("start", settings, sudo=())]
    both = [subprocess.Popen(command) for _ in range(2)]
    try:
        assert [process.wait(60) for process in both] == [0, 0]
        assert (settings.state / "server.log").read_text().count("listening") == 1
    finally:
        daemon.stop(settings)
