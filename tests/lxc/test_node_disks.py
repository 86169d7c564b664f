"""Snapshots, clones, templates, disks that grow, move and are handed over."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from tests.lxc.guests import Guest, Guests, RunningNode, has_answer, wait_until

pytestmark = pytest.mark.root


def test_snapshots_of_a_running_guest_and_back(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(mp0="local:1,mp=/data", start=True)
    for step in ("one", "two", "three"):
        guest.sh(f"echo {step} > /root/state; echo {step} > /data/state")
        node.do(guest.api.snapshot.post(snapname=step, description=f"after {step}"))
    shown = {entry["name"]: entry for entry in guest.api.snapshot.get()}
    assert shown["one"]["description"] == "after one\n"
    assert (shown["two"]["parent"], shown["current"]["parent"], shown["current"]["running"]) == ("one", "three", 1)
    assert node.wait(guest.api.snapshot.post(snapname="one")) == "snapshot name 'one' already used"
    node.do(guest.api.snapshot("one").rollback.post())
    assert guest.status == "stopped"
    guest.start()
    assert guest.sh("cat /root/state /data/state").split() == ["one", "one"]
    assert guest.config["parent"] == "one"
    node.do(guest.api.snapshot("two").delete())
    shown = {entry["name"]: entry for entry in guest.api.snapshot.get()}
    assert set(shown) == {"one", "three", "current"}
    assert shown["three"]["parent"] == "one"
    assert node.wait(guest.api.snapshot("two").delete()) == "snapshot 'two' does not exist"


def test_the_vmid_of_a_snapshotted_guest_is_free_of_disks_after_destroy(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest()
    node.do(guest.api.snapshot.post(snapname="s1"))
    folder = guest.rootfs().parent
    node.do(guest.api.delete())
    assert not folder.exists() or not list(folder.iterdir())


def test_a_clone_is_another_machine_at_once(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    guest.sh("echo mine > /root/file")
    node.do(guest.api.snapshot.post(snapname="s1"))
    clone, begun = Guest(node, make_guest.claim()), time.monotonic()
    net0 = f"name=eth0,bridge=vmbr0,ip={node.address(clone.vmid)}/16"
    node.do(guest.api.clone.post(newid=clone.vmid, snapname="s1", hostname="clone.test"))
    assert time.monotonic() - begun < 3
    assert clone.config["hostname"] == "clone.test"
    assert clone.config["net0"] != guest.config["net0"]
    clone.api.config.put(net0=net0)
    clone.start().wait_booted()
    assert clone.run("cat", "/root/file") == "mine"
    assert clone.run("cat", "/etc/machine-id") != guest.run("cat", "/etc/machine-id")
    clone.sh("echo theirs > /root/file")
    assert guest.run("cat", "/root/file") == "mine"


def test_a_template_and_linked_clones_of_it(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    with pytest.raises(ResourceException) as caught:
        guest.api.template.post()
    assert "you can't convert a CT to template if the CT is running" in str(caught.value.content)
    guest.stop()
    assert guest.api.template.post() is None
    wait_until(lambda: guest.config.get("template") == 1, what="template")
    wait_until(lambda: "base-" in guest.config["rootfs"], what="base disk")
    assert node.wait(guest.api.status.start.post()) == "you can't start a CT if it's a template"
    clone = Guest(node, make_guest.claim())
    node.do(guest.api.clone.post(newid=clone.vmid))
    assert "template" not in clone.config
    clone.start().wait_booted()
    node.do(guest.api.delete())
    assert clone.run("id", "-u") == "0"


def test_features(make_guest: Guests) -> None:
    on_copies = make_guest()
    on_files = make_guest(rootfs="plain:1")
    assert on_copies.api.feature.get(feature="snapshot")["hasFeature"] == 1
    assert on_files.api.feature.get(feature="snapshot")["hasFeature"] == 0
    on_files.start().wait_booted()
    assert on_files.on.wait(on_files.api.snapshot.post(snapname="s1")) == "snapshot feature is not available"


def test_a_full_disk_stops_the_guest_not_the_node(make_guest: Guests) -> None:
    guest = make_guest(rootfs="local:0.6", mp0="local:1,mp=/data", start=True)
    said = guest.sh("dd if=/dev/urandom of=/root/full bs=1M count=900 2>&1; sync", check=False)
    assert "quota exceeded" in said.lower() or "no space left" in said.lower(), said
    guest.sh("echo still > /data/works")
    guest.sh("rm /root/full")


def test_a_disk_grows_while_it_is_used(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(rootfs="local:0.6", start=True)
    with pytest.raises(ResourceException) as caught:
        guest.api.resize.put(disk="rootfs", size="100M")
    assert "unable to shrink disk size" in str(caught.value.content)
    node.do(guest.api.resize.put(disk="rootfs", size="+1G"))
    guest.sh("dd if=/dev/urandom of=/root/more bs=1M count=700; sync")
    assert "size=" in guest.config["rootfs"]


def test_mount_points_appear_in_a_running_guest(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    guest.api.config.put(mp0="local:1,mp=/srv/new/place,backup=1")
    assert guest.sh(
        "touch /srv/new/place/file && stat -c %u /srv/new/place/file && findmnt -no TARGET /srv/new/place"
    ) == ("0\n/srv/new/place")
    guest.api.config.put(delete="mp0")
    assert "mp0" not in guest.config
    node.do(guest.api.status.reboot.post())
    assert guest.config["unused0"].endswith("disk-1.subvol")
    disk = node.path(guest.config["unused0"])
    guest.stop()
    guest.api.config.put(delete="unused0")
    assert not disk.exists()


def test_a_template_s_files_at_a_mount_point_land_on_its_disk(make_guest: Guests) -> None:
    guest = make_guest(mp0="local:1,mp=/var/log", start=True)
    assert "dpkg.log" in guest.sh("ls /var/log") or "apt" in guest.sh("ls /var/log")
    assert guest.sh("findmnt -no TARGET /var/log") == "/var/log"


def test_a_directory_of_the_machine_is_for_root_s_ticket_only(
    node: RunningNode, make_guest: Guests, tmp_path: Path, root_ticket: ProxmoxAPI
) -> None:
    (tmp_path / "file").write_text("host")
    tmp_path.chmod(0o755)
    guest = make_guest()
    mount = f"{tmp_path},mp=/host,ro=1"
    with pytest.raises(ResourceException) as caught:
        guest.api.config.put(mp0=mount)
    assert caught.value.status_code == 403
    root_ticket.nodes("pve").lxc(guest.vmid).config.put(mp0=mount)
    guest.start()
    assert guest.run("cat", "/host/file") == "host"
    assert "Read-only" in guest.sh("touch /host/x 2>&1", check=False)


def test_a_disk_moves_to_another_storage(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(mp0="local:1,mp=/data", start=True)
    guest.sh("echo kept > /data/file; chown 1000 /data/file")
    guest.stop()
    node.do(guest.api.move_volume.post(volume="mp0", storage="plain", delete=1))
    assert guest.config["mp0"].startswith("plain:")
    assert "unused0" not in guest.config
    guest.start()
    assert guest.sh("cat /data/file; stat -c %u /data/file").split() == ["kept", "1000"]


def test_a_server_is_swapped_its_data_and_address_kept(node: RunningNode, make_guest: Guests) -> None:
    """The recipe of behaviour-8.4.md, section 15: seen on a real Proxmox VE."""
    old = make_guest(mp0="local:1,mp=/data,backup=1", start=True).wait_booted()
    old.sh("echo precious > /data/file")
    net0 = old.config["net0"]
    new = make_guest(net0=net0 + ",link_down=1", start=True).wait_booted()
    with pytest.raises(ResourceException) as caught:
        old.api.move_volume.post(**{"volume": "mp0", "target-vmid": new.vmid})
    assert "source CT is running" in str(caught.value.content)
    old.shutdown()
    begun = time.monotonic()
    log = node.do(old.api.move_volume.post(**{"volume": "mp0", "target-vmid": new.vmid, "target-volume": "mp0"}))
    assert f"target container '{new.vmid}' updated with 'mp0'" in log
    assert new.run("cat", "/data/file") == "precious"
    new.api.config.put(net0=net0)
    assert has_answer(node.address(old.vmid))
    assert time.monotonic() - begun < 3
    assert "mp0" not in old.config
    assert "backup=1" in new.config["mp0"]
    node.do(old.api.delete())
    assert new.run("cat", "/data/file") == "precious"
    node.do(new.api.status.reboot.post())
    assert new.run("cat", "/data/file") == "precious"


def test_a_guest_on_plain_files_lives_and_leaves_no_mount(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(rootfs="plain:1", mp0="plain:1,mp=/data", start=True).wait_booted()
    assert guest.config["rootfs"] == f"plain:{guest.vmid}/vm-{guest.vmid}-disk-0.raw,size=1G"
    guest.sh("echo kept > /data/file")
    first = guest.runtime.find_init()
    guest.sh("systemctl reboot", check=False)
    wait_until(lambda: guest.runtime.find_init() not in (None, first), seconds=20, what="reboot")
    assert guest.wait_booted().run("cat", "/data/file") == "kept"
    guest.api.config.put(mp1="plain:1,mp=/more")
    guest.sh("touch /more/x")
    with pytest.raises(ResourceException) as caught:
        guest.api.clone.post(newid=make_guest.claim())
    assert "running container" in str(caught.value.content)
    guest.wait_booted().sh("systemctl poweroff", check=False)
    wait_until(lambda: guest.status == "stopped", what="power-off")
    clone = Guest(node, make_guest.claim())
    node.do(guest.api.clone.post(newid=clone.vmid))
    node.do(guest.api.delete())
    assert f"vm-{guest.vmid}-" not in Path("/proc/mounts").read_text() + losetup()
    net0 = f"name=eth0,bridge=vmbr0,ip={node.address(clone.vmid)}/16"
    clone.api.config.put(net0=net0)
    assert clone.start().run("cat", "/data/file") == "kept"
    clone.stop()
    assert f"vm-{clone.vmid}-" not in losetup()


def losetup() -> str:
    return subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True).stdout


def test_a_plain_directory_cannot_be_handed_over(node: RunningNode, make_guest: Guests) -> None:
    guest, other = make_guest(mp0="plain:0,mp=/data"), make_guest()
    assert guest.config["mp0"] == f"plain:{guest.vmid}/subvol-{guest.vmid}-disk-0.subvol,mp=/data,size=0T"
    with pytest.raises(ResourceException) as caught:
        guest.api.move_volume.post(**{"volume": "mp0", "target-vmid": other.vmid})
    assert str(caught.value.content) == "Storage does not support moving of this disk to another container"
    with pytest.raises(ResourceException) as caught:
        guest.api.move_volume.post(**{"volume": "rootfs", "target-vmid": other.vmid})
    assert str(caught.value.content) == "Cannot move to/from 'rootfs'"
    with pytest.raises(ResourceException) as caught:
        guest.api.move_volume.post(**{"volume": "mp5", "target-vmid": other.vmid})
    assert str(caught.value.content) == f"volume 'mp5' for container '{guest.vmid}' does not exist"
    with pytest.raises(ResourceException) as caught:
        guest.api.move_volume.post(**{"volume": "mp0", "target-vmid": 99999})
    assert str(caught.value.content) == "could not find CT 99999"
