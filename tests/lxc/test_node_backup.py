"""Backups, and guests made of them."""

from __future__ import annotations

import re
import subprocess
import tarfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from proxmoxer import ResourceException

from tests.lxc.guests import Guest, Guests, RunningNode, has_answer, wait_until

pytestmark = pytest.mark.root

CAPABILITY = "0100000200200000000000000000000000000000"
"""cap_net_raw=ep, as the kernel keeps it (linux/capability.h, version 2)."""


def back_up(node: RunningNode, guest: Guest, **params: Any) -> tuple[str, Path]:
    log = node.do(node.api.nodes("pve").vzdump.post(vmid=guest.vmid, storage="local", **params))
    path = Path(re.findall("creating vzdump archive '(.*)'", log)[0])
    return f"local:backup/{path.name}", path


def members(path: Path) -> list[str]:
    listing = subprocess.run(["tar", "--list", "-f", str(path)], capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


def test_what_a_backup_holds(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(mp0="local:1,mp=/data,backup=1", mp1="local:1,mp=/cache", start=True)
    guest.sh("touch /data/in /cache/out /tmp/gone /srv/skipped; echo x > /srv/kept")
    params = {
        "compress": "zstd",
        "notes-template": "{{guestname}} {{vmid}}",
        "protected": 1,
        "exclude-path": "/srv/skipped",
    }
    volid, path = back_up(node, guest, **params)
    names = members(path)
    assert names[0] == "./etc/vzdump/pct.conf"
    assert {"./data/in", "./srv/kept", "./etc/passwd"} <= set(names)
    assert not {"./cache/out", "./tmp/gone", "./srv/skipped"} & set(names)
    entry = next(item for item in node.api.nodes("pve").storage("local").content.get(content="backup", vmid=guest.vmid))
    assert (entry["volid"], entry["notes"], entry["protected"]) == (volid, f"t{guest.vmid}.test {guest.vmid}", 1)
    config = node.api.nodes("pve").vzdump.extractconfig.get(volume=volid)
    assert f"hostname: t{guest.vmid}.test\n" in config
    assert "lock:" not in config
    node.api.nodes("pve").storage("local").content(volid).put(protected=0)


def test_owners_capabilities_acls_and_attributes_survive(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    guest.sh(
        "cp /bin/true /srv/t; touch /srv/owned; chown 1000:1001 /srv/owned; ln -s t /srv/link; ln /srv/t /srv/hard"
    )
    guest.run(
        "python3", "-c", f"import os; os.setxattr('/srv/t', 'security.capability', bytes.fromhex('{CAPABILITY}'))"
    )
    guest.run("python3", "-c", "import os; os.setxattr('/srv/t', 'user.note', b'kept')")
    guest.sh("truncate -s 64M /srv/sparse; mkfifo /srv/pipe")
    _, path = back_up(node, guest, compress="0", mode="snapshot")
    with tarfile.open(path) as archive:
        owned = archive.getmember("./srv/owned")
        assert (owned.uid, owned.gid, archive.getmember("./etc/passwd").uid) == (1000, 1001, 0)
    assert path.stat().st_size < guest.rootfs().stat().st_size + (600 << 20)
    restored = Guest(node, make_guest.claim())
    node.do(make_guest.request(restored.vmid, ostemplate=f"local:backup/{path.name}", restore=1, **NOTHING_GIVEN))
    assert restored.config["unprivileged"] == 1
    restored.api.config.put(net0=f"name=eth0,bridge=vmbr0,ip={node.address(restored.vmid)}/16")
    restored.start()
    script = "import os; print(*(os.getxattr('/srv/t', name).hex() for name in ('security.capability', 'user.note')))"
    assert restored.run("python3", "-c", script).split() == [CAPABILITY, b"kept".hex()]
    told = restored.sh("stat -c '%u %g' /srv/owned; readlink /srv/link; stat -c %h /srv/t; stat -c %F /srv/pipe")
    assert told.splitlines() == ["1000 1001", "t", "2", "fifo"]
    assert int(restored.sh("du -k /srv/sparse").split()[0]) < 1024


NOTHING_GIVEN: dict[str, Any] = dict.fromkeys(("hostname", "unprivileged", "features", "rootfs", "net0"))


@pytest.mark.parametrize("mode", ["snapshot", "suspend", "stop"])
def test_a_running_guest_is_running_after_its_backup(node: RunningNode, make_guest: Guests, mode: str) -> None:
    guest = make_guest(start=True).wait_booted()
    back_up(node, guest, mode=mode, compress="zstd")
    assert guest.status == "running"
    guest.wait_booted()
    assert has_answer(node.address(guest.vmid))
    assert "lock" not in guest.config


def test_a_guest_on_plain_files_is_suspended_instead(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(rootfs="plain:1", start=True)
    log = node.do(node.api.nodes("pve").vzdump.post(vmid=guest.vmid, storage="plain", compress="zstd"))
    assert "mode failure - some volumes do not support snapshots" in log
    assert "trying 'suspend' mode instead" in log
    assert guest.status == "running"


def test_restores_new_replaced_and_refused(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(mp0="local:1,mp=/data,backup=1", mp1="local:1,mp=/cache", start=True)
    guest.sh("echo first > /root/state; echo data > /data/file; echo cached > /cache/file")
    volid, _ = back_up(node, guest, compress="zstd")
    guest.sh("echo second > /root/state")
    with pytest.raises(ResourceException) as caught:
        make_guest.request(guest.vmid, ostemplate=volid, restore=1, force=1, **NOTHING_GIVEN)
    assert "can't overwrite running container" in str(caught.value.content)
    guest.stop()
    missing = "local:backup/vzdump-lxc-100-2020_01_01-00_00_00.tar.zst"
    upid = make_guest.request(guest.vmid, ostemplate=missing, restore=1, force=1, **NOTHING_GIVEN)
    assert node.wait(upid) == f"unable to restore CT {guest.vmid} - volume '{missing}' does not exist"
    guest.start()
    assert guest.run("cat", "/root/state") == "second"
    guest.stop()
    node.do(make_guest.request(guest.vmid, ostemplate=volid, restore=1, force=1, **NOTHING_GIVEN))
    guest.start()
    assert guest.sh("cat /root/state /data/file; ls /cache").splitlines() == ["first", "data"]
    unique = Guest(node, make_guest.claim())
    node.do(
        make_guest.request(unique.vmid, ostemplate=volid, restore=1, unique=1, **{**NOTHING_GIVEN, "rootfs": "local:3"})
    )
    assert "mp0" not in unique.config
    assert "size=3G" in unique.config["rootfs"]
    assert unique.config["net0"] != guest.config["net0"]


def test_a_template_comes_back_as_a_template(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest()
    guest.api.template.post()
    wait_until(lambda: "base-" in guest.config["rootfs"], what="template")
    volid, _ = back_up(node, guest, compress="zstd")
    again = Guest(node, make_guest.claim())
    log = node.do(make_guest.request(again.vmid, ostemplate=volid, restore=1, **NOTHING_GIVEN))
    assert "Convert restored container to template..." in log
    assert again.config["template"] == 1


def test_an_archive_is_a_template_for_new_guests(node: RunningNode, make_guest: Guests) -> None:
    """What goldsmith is about: a sealed guest's dump, used as ostemplate; also of several zstd frames."""
    guest = make_guest(start=True)
    guest.sh("echo golden > /etc/golden")
    _, path = back_up(node, guest, compress="0")
    cache = node.path(node.template).parent
    image = cache / "golden_1_amd64.tar.zst"
    cut = path.stat().st_size // 1024 // 2 * 1024
    with path.open("rb") as source, image.open("wb") as target:
        for size in (cut, -1):
            done = subprocess.run(["zstd", "-qc"], input=source.read(size), capture_output=True, check=True)
            target.write(done.stdout)
    try:
        child = make_guest(ostemplate=f"local:vztmpl/{image.name}", start=True)
        assert child.run("cat", "/etc/golden") == "golden"
    finally:
        image.unlink()


def test_jobs_wait_for_each_other_and_failures_are_told(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest()
    vzdump = node.api.nodes("pve").vzdump
    first, second = (vzdump.post(vmid=guest.vmid, storage="local", compress="zstd") for _ in range(2))
    node.do(first)
    log = node.do(second)
    assert log.splitlines()[0] == "INFO: trying to get global lock - waiting..."
    assert "INFO: got global lock" in log
    upid = vzdump.post(vmid=99999, storage="local")
    assert node.wait(upid) == "job errors"
    assert "ERROR: Backup of VM 99999 failed - unable to find VM '99999'" in node.log(upid)


def test_older_backups_are_pruned(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest()
    content = node.api.nodes("pve").storage("local").content
    volids = []
    for _ in range(2):
        volid, path = back_up(node, guest, compress="0", **{"prune-backups": "keep-last=1"})
        volids.append(volid)
        wait_until(partial(_has_passed, path), what="another second")
    assert [item["volid"] for item in content.get(content="backup", vmid=guest.vmid)] == volids[-1:]


def _has_passed(path: Path) -> bool:
    """Whether the second in an archive's name is over: two archives of one second would have one name."""
    return time.strftime("%Y_%m_%d-%H_%M_%S") not in path.name
