"""What goes wrong: killed workers and nodes, stopped tasks, hostile templates, several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
import time
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from tests.lxc.guests import Guest, Guests, RunningNode, wait_until

pytestmark = pytest.mark.root


def pid_of(upid: str) -> int:
    return int(upid.split(":")[2], 16)


def disks_of(node: RunningNode, vmid: int) -> list[str]:
    content = node.api.nodes("pve").storage("local").content.get(vmid=vmid)
    return [item["volid"] for item in content]


@pytest.fixture
def slow_template(node: RunningNode, tmp_path: Path) -> object:
    """A template that takes long to unpack: much data that compresses to nearly nothing."""
    cache = node.path(node.template).parent
    path = cache / f"slow-{time.time_ns()}_1_amd64.tar.zst"
    members = [tarfile.TarInfo("./bin"), tarfile.TarInfo("./etc")]
    with (tmp_path / "slow.tar").open("wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for folder in members:
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        for number in range(8):
            big = tarfile.TarInfo(f"./big{number}")
            big.size = 256 << 20
            with Path("/dev/zero").open("rb") as zeros:
                archive.addfile(big, zeros)
    subprocess.run(["zstd", "-q", "-1", str(tmp_path / "slow.tar"), "-o", str(path)], check=True)
    yield f"local:vztmpl/{path.name}"
    path.unlink(missing_ok=True)


def test_a_stopped_create_leaves_nothing(node: RunningNode, make_guest: Guests, slow_template: str) -> None:
    vmid = make_guest.claim()
    upid = make_guest.request(vmid, ostemplate=slow_template, rootfs="local:8")
    wait_until(lambda: "extracting archive" in node.log(upid), what="unpacking")
    assert node.lxc(vmid).config.get()["lock"] == "create"
    node.api.nodes("pve").tasks(upid).delete()
    status = node.wait(upid)
    assert status.startswith(f"unable to create CT {vmid} - ")
    assert status.endswith("received interrupt")
    assert vmid not in [int(guest["vmid"]) for guest in node.lxc.get()]
    assert disks_of(node, vmid) == []


def test_a_killed_create_is_undone_when_the_node_starts(
    node: RunningNode, make_guest: Guests, slow_template: str
) -> None:
    vmid = make_guest.claim()
    upid = make_guest.request(vmid, ostemplate=slow_template, rootfs="plain:8")
    wait_until(lambda: "extracting archive" in node.log(upid), what="unpacking")
    os.kill(pid_of(upid), signal.SIGKILL)
    wait_until(lambda: node.api.nodes("pve").tasks(upid).status.get()["status"] == "stopped", what="task's end")
    node.restart()
    assert vmid not in [int(guest["vmid"]) for guest in node.lxc.get()]
    content = node.api.nodes("pve").storage("plain").content.get(vmid=vmid)
    assert content == []
    assert f"vm-{vmid}-" not in Path("/proc/mounts").read_text()


def test_a_clone_goes_on_while_the_node_restarts(node: RunningNode, make_guest: Guests) -> None:
    source, clone = make_guest(rootfs="plain:2", start=True), make_guest.claim()
    source.sh("dd if=/dev/urandom of=/srv/bulk bs=1M count=500")
    source.stop()
    upid = source.api.clone.post(newid=clone)
    node.restart()
    assert node.lxc(clone).config.get()["lock"] == "create"
    node.do(upid)
    assert "lock" not in node.lxc(clone).config.get()


def test_a_create_goes_on_while_the_node_restarts(node: RunningNode, make_guest: Guests, slow_template: str) -> None:
    vmid = make_guest.claim()
    upid = make_guest.request(vmid, ostemplate=slow_template, rootfs="local:8")
    wait_until(lambda: "extracting archive" in node.log(upid), what="unpacking")
    node.restart()
    assert node.lxc(vmid).config.get()["lock"] == "create"
    node.do(upid)
    assert node.lxc(vmid).config.get()["ostype"] == "unmanaged"


def test_a_stopped_backup_leaves_no_archive_and_no_lock(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    guest.sh("dd if=/dev/urandom of=/srv/bulk bs=1M count=300")
    upid = node.api.nodes("pve").vzdump.post(vmid=guest.vmid, storage="local", compress="gzip")
    wait_until(lambda: "creating vzdump archive" in node.log(upid), what="archive")
    assert guest.config["lock"] == "backup"
    node.api.nodes("pve").tasks(upid).delete()
    assert node.wait(upid) == "job errors"
    assert f"Backup of VM {guest.vmid} failed - interrupted by signal" in node.log(upid)
    assert "lock" not in guest.config
    assert guest.status == "running"
    dump = node.path(node.template).parents[1].parent / "dump"
    assert not [path for path in dump.glob(f"vzdump-lxc-{guest.vmid}-*") if path.suffix != ".log"]


def test_a_killed_backup_is_cleared_when_the_node_starts(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    guest.sh("dd if=/dev/urandom of=/srv/bulk bs=1M count=300")
    upid = node.api.nodes("pve").vzdump.post(vmid=guest.vmid, storage="local", compress="gzip", mode="suspend")
    wait_until(lambda: "creating vzdump archive" in node.log(upid), what="archive")
    os.kill(pid_of(upid), signal.SIGKILL)
    wait_until(lambda: node.api.nodes("pve").tasks(upid).status.get()["status"] == "stopped", what="task's end")
    node.restart()
    assert "lock" not in guest.config
    assert guest.run("echo", "thawed") == "thawed"
    dump = node.path(node.template).parents[1].parent / "dump"
    assert not list(dump.glob(f"vzdump-lxc-{guest.vmid}-*.dat"))


def test_the_node_killed_keeps_guests_and_comes_back(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    init = guest.runtime.find_init()
    node.kill()
    node.restart()
    assert (guest.status, guest.runtime.find_init()) == ("running", init)


def hostile_archive(path: Path) -> None:
    """A template whose folders and files are links to the machine's own."""
    with tarfile.open(path, "w") as archive:
        for name, target in (
            ("etc", "/../../../../../../etc"), ("root", "../../../../../../root"), ("var", "/tmp/goldsmith-attack"),
            ("bin/sh", "/bin/sh"), ("data", "/tmp/goldsmith-attack"),
        ):  # fmt: skip
            link = tarfile.TarInfo(f"./{name}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        release = tarfile.TarInfo("./usr/lib/os-release")
        text = b'ID=debian\nVERSION_ID="12"\n'
        release.size = len(text)
        archive.addfile(release, BytesIO(text))


@pytest.mark.parametrize("unprivileged", [1, None])
def test_a_hostile_template_reaches_nothing_outside(
    node: RunningNode, make_guest: Guests, unprivileged: int | None
) -> None:
    path = node.path(node.template).parent / "hostile_1_amd64.tar"
    packed = path.with_name(path.name + ".zst")
    hostile_archive(path)
    subprocess.run(["zstd", "-qf", "--rm", str(path), "-o", str(packed)], check=True)
    trap = Path("/tmp/goldsmith-attack")
    trap.mkdir()
    watched = [Path("/etc") / name for name in ("hostname", "hosts", "resolv.conf", "shadow", "machine-id")]
    before = {path: path.read_bytes() for path in watched if path.exists()}
    keys = Path("/root/.ssh/authorized_keys")
    had_keys = keys.exists()
    try:
        vmid = make_guest.claim()
        given = {"unprivileged": unprivileged, "features": None, "mp0": "local:1,mp=/data"}
        upid = make_guest.request(
            vmid,
            ostemplate=f"local:vztmpl/{packed.name}",
            ssh_public_keys="ssh-ed25519 AAAA x",
            password="secret123",
            **given,
        )
        node.wait(upid)
        if vmid in [int(guest["vmid"]) for guest in node.lxc.get()]:
            node.wait(Guest(node, vmid).api.status.start.post())
        assert list(trap.iterdir()) == []
        assert {path: path.read_bytes() for path in watched if path.exists()} == before
        assert keys.exists() == had_keys
    finally:
        packed.unlink()
        for left in trap.iterdir():
            left.unlink()
        trap.rmdir()


def is_running(guest: Guest) -> bool:
    return guest.status == "running"


def test_four_guests_at_once(node: RunningNode, make_guest: Guests) -> None:
    vmids = [make_guest.claim() for _ in range(4)]
    upids = [make_guest.request(vmid, start=1) for vmid in vmids]
    for upid in upids:
        node.do(upid)
    guests = [Guest(node, vmid) for vmid in vmids]
    for guest in guests:
        wait_until(partial(is_running, guest), what="start")
        guest.wait_booted()
    assert len({guest.run("cat", "/etc/machine-id") for guest in guests}) == 4


def test_a_missing_template_leaves_nothing(node: RunningNode, make_guest: Guests) -> None:
    vmid = make_guest.claim()
    upid = make_guest.request(vmid, ostemplate="local:vztmpl/none.tar.zst")
    assert node.wait(upid) == f"unable to create CT {vmid} - volume 'local:vztmpl/none.tar.zst' does not exist"
    assert vmid not in [int(guest["vmid"]) for guest in node.lxc.get()]
    assert disks_of(node, vmid) == []


def test_an_archive_that_is_no_system_is_still_a_guest(node: RunningNode, make_guest: Guests, tmp_path: Path) -> None:
    cache = node.path(node.template).parent
    (tmp_path / "file").write_text("x")
    path = cache / "nothing_1_amd64.tar.gz"
    subprocess.run(["tar", "czf", str(path), "-C", str(tmp_path), "."], check=True)
    try:
        guest = make_guest(ostemplate=f"local:vztmpl/{path.name}")
        assert guest.config["ostype"] == "unmanaged"
        assert "failed" in node.wait(guest.api.status.start.post())
        assert guest.status == "stopped"
    finally:
        path.unlink()
