"""Directories of the node that are mounted into a server are backed up by the programs themselves: borg and restic."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from proxmoxer import ProxmoxAPI

from goldsmith.base.errors import BackupFailed
from goldsmith.base.events import Events
from goldsmith.base.secrets import Secret
from goldsmith.build.facts import Site
from goldsmith.definition.fleet import HostEntry, Server, make_finder, parse_fleet
from goldsmith.fleet.actions.backup import back_up_binds
from goldsmith.fleet.backups import restore_apart
from goldsmith.fleet.work import Handling
from goldsmith.pve.client import open_pve
from goldsmith.pve.shell import LocalShell
from tests.lxc.conftest import PASSWORD as ROOTS
from tests.lxc.guests import Guests, RunningNode
from tests.lxc.images import open_site

pytestmark = pytest.mark.root

PASSWORD = "a pass phrase"


def make_server(data: list[Mapping[str, Any]]) -> Server:
    variables = {"image": "golden", "address": "10.0.0.5/24", "data": data}
    server = parse_fleet([HostEntry("mail1", variables)], Path("hosts.yml"), make_finder([]), {}).find("mail1")
    assert server is not None
    return server


class Bind:
    """A directory of the node, and the repository that it is backed up to."""

    def __init__(self, folder: Path, program: str) -> None:
        self.program, self.source = program, folder / "my mail"
        self.repository, self.password = folder / "repository", folder / "pass word"
        self.source.mkdir()
        (self.source / "letter").write_text("dear all")
        self.password.write_text(PASSWORD)
        self.password.chmod(0o600)

    def run(self, *words: str) -> str:
        """Run the program as its operator does."""
        keys = {"borg": "BORG_PASSPHRASE", "restic": "RESTIC_PASSWORD"}
        env = {**os.environ, keys[self.program]: PASSWORD}
        return subprocess.run([self.program, *words], env=env, check=True, capture_output=True, text=True).stdout

    def create(self) -> None:
        if self.program == "borg":
            self.run("init", "--encryption", "repokey", str(self.repository))
        else:
            self.run("init", "--repo", str(self.repository))

    def read_newest(self) -> str:
        """Return the letter as the newest backup has it."""
        letter = f"{self.source}/letter"
        if self.program == "restic":
            return self.run("--repo", str(self.repository), "dump", "latest", letter)
        name = self.run("list", "--short", "--last", "1", str(self.repository)).strip()
        assert name.startswith("mail1-")
        return self.run("extract", "--stdout", f"{self.repository}::{name}", letter.lstrip("/"))

    @property
    def handling(self) -> Handling:
        data: Mapping[str, Any] = {
            "path": "/srv/mail", "bind": str(self.source), "backup": self.program, "repository": str(self.repository),
            "password_file": str(self.password),
        }  # fmt: skip
        server = make_server([data])
        nobody = cast("Any", None)
        site = Site(pve=nobody, node=nobody, shell=LocalShell(), kind="proxmox", version="8.4")
        return Handling(server, site, Events())


@pytest.fixture(params=["borg", "restic"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> Bind:
    return Bind(tmp_path, request.param)


def test_a_directory_is_backed_up(bind: Bind) -> None:
    bind.create()
    back_up_binds(bind.handling)
    assert bind.read_newest() == "dear all"
    (bind.source / "letter").write_text("dear both")
    back_up_binds(bind.handling)
    assert bind.read_newest() == "dear both"


def test_a_backup_that_fails_is_told(bind: Bind) -> None:
    with pytest.raises(BackupFailed, match=f"mail1: {bind.program} of .*my mail has failed") as failed:
        back_up_binds(bind.handling)
    assert "try it on the node as root" in failed.value.hint
    assert PASSWORD not in f"{failed.value.message}{failed.value.hint}{failed.value.detail}"


def test_a_copy_that_is_tried_out_does_not_get_at_the_servers_directories(
    node: RunningNode, make_guest: Guests, root_ticket: ProxmoxAPI, tmp_path: Path
) -> None:
    """Proxmox restores them with the rest, for root@pam: a copy that runs would write where the server does."""
    guest, copy = make_guest(), make_guest.claim()
    root_ticket.nodes("pve").lxc(guest.vmid).config.put(mp0=f"{tmp_path},mp=/srv/mail")
    node.do(node.api.nodes("pve").vzdump.post(vmid=guest.vmid, storage="local", compress="zstd"))
    (backup,) = node.api.nodes("pve").storage("local").content.get(content="backup", vmid=guest.vmid)
    with open_site(node) as site:
        by_root = replace(
            site.pve.connection, user="root@pam", token_id="", token_secret=Secret(""), password=Secret(ROOTS)
        )
        with open_pve(by_root) as pve:
            theirs = replace(site, pve=pve, node=pve.node("pve"))
            restore_apart(make_server([]), backup["volid"], copy, theirs, "0123456789ab")
            assert theirs.node.guests.get_config(copy).mounts == {}
    node.do(node.api.nodes("pve").storage("local").content(backup["volid"]).delete())
