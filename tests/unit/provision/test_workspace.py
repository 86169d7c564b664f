"""What a run of Ansible is given."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from goldsmith.base.secrets import Secret
from goldsmith.provision.access import Access
from goldsmith.provision.play import Play
from goldsmith.provision.strategy import Strategy
from goldsmith.provision.workspace import (
    Workspace,
    build_ansible_environment,
    open_access,
    open_workspace,
    render_connection,
    write_inventory,
)
from goldsmith.pve.console.shell import ConsoleShell
from goldsmith.pve.target import ConsoleTarget, Target

TARGET = Target("guest", "10.0.0.5", Path("/keys/key"), Path("/keys/known hosts%1"), port=2222, user="root")
MITOGEN = Strategy("mitogen_linear", Path("/mitogen/strategy"))


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path / "playbook.yml", tmp_path, {"password": Secret("hush"), "ansible_connection": "local"})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w", tmp_path / "w" / "s", tmp_path / "playbook.yml")


def test_only_we_can_read_it_and_nothing_is_left(play: Play) -> None:
    with open_workspace(play) as workspace:
        write_inventory(workspace, open_access(workspace, TARGET), interpreter="/usr/bin/python3", strategy=MITOGEN)
        root, sockets = workspace.root, workspace.sockets
        assert root.stat().st_mode & 0o777 == 0o700
        files = [path for path in root.rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o777 for path in files if path.name != "lock"} == {0o600}
        assert [path.name for path in files if "hush" in path.read_text()] == ["variables.yml"]
        assert "ansible_connection" not in workspace.variables.read_text()
    assert not root.exists()
    assert not sockets.exists()


def test_it_is_removed_when_the_run_fails(play: Play) -> None:
    def fail() -> None:
        with open_workspace(play) as workspace:
            places.extend([workspace.root, workspace.sockets])
            raise KeyboardInterrupt

    places: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [place for place in places if place.exists()] == []


KILLED = """
import os, pathlib, signal, sys, tempfile
from goldsmith.base.secrets import Secret
from goldsmith.provision.play import Play
from goldsmith.provision.workspace import open_workspace
folder = pathlib.Path(sys.argv[1])
tempfile.tempdir = str(folder)
with open_workspace(Play(folder / "p.yml", folder, {"password": Secret("hush")})):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_has_left_is_removed_by_the_next(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_workspace(play) as living:
        subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
        (left,) = set(tmp_path.glob("goldsmith-play-*")) - {living.root}
        sockets = (left / "s").resolve()
        assert "hush" in (left / "variables.yml").read_text()
        assert sockets.is_dir()
        with open_workspace(play):
            assert not left.exists()
            assert not sockets.exists()
            assert living.variables.exists()


def test_what_looks_like_a_run_but_is_not_ours_is_left_alone(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs, precious = tmp_path / "goldsmith-play-theirs", tmp_path / "precious"
    precious.mkdir(mode=0o700)
    for folder in (theirs, precious):
        folder.mkdir(exist_ok=True)
        (folder / "lock").touch()
    theirs.chmod(0o755)  # ours never are; another user's cannot be made without root
    (theirs / "s").symlink_to(precious)
    (tmp_path / "goldsmith-play-link").symlink_to(precious)
    with open_workspace(play):
        assert (theirs / "lock").exists()
        assert (precious / "lock").exists()


def test_sockets_have_a_short_path_where_the_temporary_directory_has_none(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with open_workspace(play) as workspace:
        access = open_access(workspace, TARGET)
        assert workspace.root.parent == long
        assert len(str(access.control)) < 60
        assert workspace.sockets.stat().st_mode & 0o777 == 0o700
        environment = build_ansible_environment(workspace, play, MITOGEN)
        assert environment["TMPDIR"] == str(workspace.sockets)
        kept = workspace.sockets
    assert list(long.iterdir()) == []
    assert not kept.exists()


def test_the_inventory_has_exactly_the_guest(play: Play) -> None:
    with open_workspace(play) as workspace:
        write_inventory(workspace, open_access(workspace, TARGET), interpreter="/opt/python3", strategy=MITOGEN)
        inventory = json.loads(workspace.inventory.read_text())
    assert list(inventory) == ["all"]
    assert list(inventory["all"]["hosts"]) == ["guest"]
    assert inventory["all"]["vars"] == {"ansible_python_interpreter": "/opt/python3"}


def test_every_spelling_of_the_connection_is_ours(workspace: Workspace) -> None:
    access = Access(TARGET, workspace.sockets / "guest", workspace.mark)
    host = render_connection(access, Strategy("linear"))
    assert {host[name] for name in ("ansible_host", "ansible_ssh_host")} == {"10.0.0.5"}
    assert {host[name] for name in ("ansible_port", "ansible_ssh_port")} == {2222}
    assert {host[name] for name in ("ansible_user", "ansible_ssh_user")} == {"root"}
    assert host["ansible_ssh_private_key_file"] == "/keys/key"
    assert "StrictHostKeyChecking=yes" in host["ansible_ssh_common_args"]
    assert """'UserKnownHostsFile="/keys/known hosts%%1"'""" in host["ansible_ssh_common_args"]
    assert "ControlPath" not in host["ansible_ssh_args"]
    assert f"ControlPath={access.control}" in render_connection(access, MITOGEN)["ansible_ssh_args"]


def test_the_environment_is_built_from_nothing(
    workspace: Workspace, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "ANSIBLE_INVENTORY", "ANSIBLE_REMOTE_USER", "PYTHONPATH", "ANSIBLE_LOG_PATH"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "/vault")
    environment = build_ansible_environment(workspace, play, MITOGEN)
    assert "theirs" not in environment.values()
    assert "hush" not in " ".join(environment.values())
    assert environment["ANSIBLE_VAULT_PASSWORD_FILE"] == "/vault"
    assert environment["ANSIBLE_STRATEGY_PLUGINS"] == "/mitogen/strategy"
    assert environment["ANSIBLE_ROLES_PATH"].split(":")[0] == str(play.project / "roles")
    assert environment["ANSIBLE_GATHERING"] == "smart"


def test_what_the_users_ansible_cfg_says_is_left_to_it(workspace: Workspace, play: Play) -> None:
    assert build_ansible_environment(workspace, play, MITOGEN)["ANSIBLE_CONFIG"] == str(workspace.root / "ansible.cfg")
    config = play.project / "ansible.cfg"
    config.write_text("[defaults]\nroles_path = ours\ncollections_path = there\ngathering = explicit\nforks = 50%%\n")
    environment = build_ansible_environment(workspace, play, MITOGEN)
    assert environment["ANSIBLE_CONFIG"] == str(config)
    assert not {"ANSIBLE_ROLES_PATH", "ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_GATHERING"} & set(environment)


def test_an_ansible_cfg_that_cannot_be_read_is_left_to_ansible(workspace: Workspace, play: Play) -> None:
    (play.project / "ansible.cfg").write_text("no section\n")
    assert build_ansible_environment(workspace, play, MITOGEN)["ANSIBLE_GATHERING"] == "smart"


def test_a_guest_behind_its_console_has_our_plugin_and_nothing_of_ssh(play: Play) -> None:
    with open_workspace(play) as workspace:
        target = ConsoleTarget("guest", "", ConsoleShell("guest", Path("/run/x/s")))
        write_inventory(workspace, open_access(workspace, target), interpreter="/usr/bin/python3", strategy=MITOGEN)
        host = json.loads(workspace.inventory.read_text())["all"]["hosts"]["guest"]
        folders = build_ansible_environment(workspace, play, MITOGEN)["ANSIBLE_CONNECTION_PLUGINS"].split(":")
    assert host == {
        "ansible_connection": "goldsmith_console", "ansible_goldsmith_socket": "/run/x/s", "ansible_pipelining": True,
    }  # fmt: skip
    assert (Path(folders[0]) / "goldsmith_console.py").is_file()
    assert "~/.ansible/plugins/connection" in folders
