"""Servers are made, replaced and brought back, their data kept: with real containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxmoxer import ProxmoxAPI

from goldsmith.artifacts.repository import Version
from goldsmith.base.errors import BackupFailed, FleetError, NotOurs, RolledBack
from goldsmith.base.events import Events, LogLine
from goldsmith.fleet.actions.backup import read_back
from goldsmith.fleet.backups import find_drill, list_backups
from goldsmith.fleet.plan import Action
from goldsmith.fleet.work import Handling
from goldsmith.pve.backup import Backup
from tests.lxc.fleets import Lab, open_lab
from tests.lxc.guests import RunningNode

pytestmark = pytest.mark.root

DATA = {
    "data": [{"path": "/srv/data", "volume": "local:1"}],
    "backup": {"storage": "local", "keep": {"last": 2}},
}


@pytest.fixture(scope="module")
def made(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Version, Version]]:
    with open_lab(node, tmp_path_factory) as lab:
        yield lab, lab.build("one"), lab.build("two")


@pytest.fixture
def lab(made: tuple[Lab, Version, Version]) -> Iterator[Lab]:
    lab = made[0]
    lab.hosts.clear()
    lab.told.clear()
    lab.listeners.clear()
    yield lab
    lab.clear()


@pytest.fixture
def one(made: tuple[Lab, Version, Version]) -> Version:
    return made[1]


@pytest.fixture
def two(made: tuple[Lab, Version, Version]) -> Version:
    return made[2]


def test_a_server_without_data_is_made_and_swapped(lab: Lab, one: Version, two: Version) -> None:
    lab.declare("web1", checks=[{"port": 22}], memory=256)
    first = lab.deploy("web1", one)
    assert lab.run("web1", "cat /etc/golden") == "one"
    notes = lab.site.node.guests.get_config(first.vmid).description
    assert f"- digest: {one.digest}\n- built: {one.created:%Y-%m-%d %H:%M} UTC from debian-12" in notes
    assert "- tests: untested" in notes
    lab.hosts["web1"] |= {"cores": 1, "order": 3}
    assert lab.reconfigure("web1", one).keys() >= {"cores", "startup"}
    del lab.hosts["web1"]["cores"], lab.hosts["web1"]["order"]
    assert not lab.reconfigure("web1", one).keys() & {"cores", "startup"}
    assert lab.plan("web1", one).action is Action.NOTHING
    plan = lab.plan("web1", two)
    assert (plan.action, plan.reason) == (Action.REPLACE, f"from {one} to {two}")
    second = lab.deploy("web1", two)
    assert lab.run("web1", "cat /etc/golden; hostname") == "two\nweb1"
    assert lab.list_guests() == {first.vmid: "goldsmith-previous", second.vmid: "goldsmith-server running"}
    kept = lab.site.node.guests.get_config(first.vmid).description
    assert f"- digest: {one.digest}" in kept, "as it was, also after a reconfiguration and its replacement"
    assert second.outage is not None
    print("outage without data:", second.outage)
    assert second.outage < 3, "0.3 s on a quiet machine"
    assert lab.plan("web1", two).action is Action.NOTHING
    lab.deploy("web1", one)
    assert lab.expire("web1", days=1) == [first.vmid], "only the last one before is kept"
    assert lab.expire("web1", days=8) == [second.vmid], "and for seven days"
    assert list(lab.list_guests().values()) == ["goldsmith-server running"]


@pytest.mark.parametrize("strategy", ["swap", "recreate"])
def test_data_is_kept(lab: Lab, one: Version, two: Version, strategy: str) -> None:
    lab.declare("db1", strategy=strategy, checks=[{"command": "test -e /srv/data/word"}], **DATA)
    lab.hosts["db1"]["checks"] = []
    lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word")
    volumes = lab.list_volumes()
    assert len(volumes) == 1
    lab.hosts["db1"]["checks"] = [{"command": "grep -q precious /srv/data/word"}, {"port": 22}]
    replaced = lab.deploy("db1", two)
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "two\nprecious"
    assert len(lab.list_volumes()) == 1
    running = [vmid for vmid, state in lab.list_guests().items() if "running" in state]
    assert running == [replaced.vmid]
    assert len(lab.list_guests()) == (2 if strategy == "swap" else 1)
    print("outage with data:", strategy, replaced.outage)
    backups = lab.site.node.storage.list_content("local", "backup")
    assert [backup.protected for backup in backups] == [True]


def test_more_data_than_the_root_disk_has_room_for_is_no_hindrance_to_going_back(
    lab: Lab, node: RunningNode, one: Version, two: Version
) -> None:
    """The old guest is made from its backup, which has the data in it, too; it is in its pool again."""
    node.api.pools.post(poolid="lab")
    try:
        lab.declare("db1", strategy="recreate", disk="local:1", pool="lab", **DATA)
        lab.hosts["db1"]["data"] = [{"path": "/srv/data", "volume": "local:2"}]
        first = lab.deploy("db1", one)
        lab.run("db1", "echo precious > /srv/data/word; head -c 900M /dev/zero > /srv/data/large")
        volumes = lab.list_volumes()
        lab.hosts["db1"]["checks"] = [{"command": "grep -q one /etc/golden", "timeout": 2}]
        with pytest.raises(RolledBack, match="db1 was not replaced, and is as it was before"):
            lab.deploy("db1", two)
        assert (
            lab.run("db1", "cat /etc/golden /srv/data/word; stat -c %s /srv/data/large") == "one\nprecious\n943718400"
        )
        assert lab.list_guests() == {first.vmid: "goldsmith-server running"}
        assert len(lab.list_volumes()) == len(volumes)
        assert lab.site.node.guests.get_config(first.vmid).unused == {}
        assert [guest.pool for guest in lab.site.pve.list_guests() if guest.vmid == first.vmid] == ["lab"]
    finally:
        lab.clear()
        node.api.pools("lab").delete()


@pytest.mark.parametrize("strategy", ["swap", "recreate"])
def test_data_that_cannot_be_handed_over_is_told_before_anything_is_done(
    lab: Lab, one: Version, two: Version, strategy: str
) -> None:
    lab.declare("db1", strategy=strategy, **DATA)
    first = lab.deploy("db1", one)
    guests, tasks = lab.site.node.guests, lab.site.node.tasks
    tasks.wait(guests.create_snapshot(first.vmid, "before"))
    with pytest.raises(FleetError, match=f"snapshot before of guest {first.vmid} has /srv/data") as refused:
        lab.deploy("db1", two)
    assert refused.value.hint.startswith(f"pct delsnapshot {first.vmid} before")
    assert lab.list_guests() == {first.vmid: "goldsmith-server running"}
    assert lab.site.node.storage.list_content("local", "backup") == []
    tasks.wait(guests.delete_snapshot(first.vmid, "before"))
    if strategy == "recreate":
        guests.set_config(first.vmid, {"protection": True})
        with pytest.raises(FleetError, match=f"guest {first.vmid} is protected"):
            lab.deploy("db1", two)
        guests.set_config(first.vmid, {"protection": False})
    lab.deploy("db1", two)
    assert lab.run("db1", "cat /etc/golden") == "two"


def test_a_drill_shares_nothing_with_the_server(
    lab: Lab, one: Version, root_ticket: ProxmoxAPI, tmp_path: Path
) -> None:
    """Not a directory of the node that is mounted into it either; and it goes, although the server is protected."""
    lab.declare("db1", **DATA)
    first = lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word")
    tmp_path.chmod(0o755)
    root_ticket.nodes("pve").lxc(first.vmid).config.put(mp7=f"{tmp_path},mp=/srv/node", protection=1)
    lab.hosts["db1"]["checks"] = [{"command": "grep -q precious /srv/data/word"}, {"command": "! mountpoint /srv/node"}]
    lab.back_up("db1")
    before = lab.site.node.guests.list_guests()
    assert lab.drill("db1").fault == ""
    assert lab.site.node.guests.list_guests() == before
    lab.site.node.guests.set_config(first.vmid, {"protection": False})


@pytest.mark.parametrize("strategy", ["swap", "recreate"])
def test_a_version_that_fails_its_checks_is_undone(lab: Lab, one: Version, two: Version, strategy: str) -> None:
    lab.declare("db1", strategy=strategy, **DATA)
    first = lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word")
    lab.hosts["db1"]["checks"] = [{"command": "grep -q one /etc/golden", "timeout": 2}]
    with pytest.raises(RolledBack, match="db1 was not replaced, and is as it was before") as failed:
        lab.deploy("db1", two)
    assert "does not hold after 2 s" in failed.value.message
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "one\nprecious"
    assert lab.list_guests() == {first.vmid: "goldsmith-server running"}
    assert len(lab.list_volumes()) == 1
    assert lab.plan("db1", one).action is Action.NOTHING


def test_drift_is_told_and_nothing_else(lab: Lab, one: Version) -> None:
    lab.declare("web1", **DATA)
    lab.deploy("web1", one)
    clean = lab.find_drift("web1")
    print("drift scan:", clean.seconds)
    assert clean.files == ()
    assert clean.is_clean
    lab.run(
        "web1",
        "echo changed >> /etc/golden; chmod 4755 /usr/bin/od; chown 33 /etc/issue; useradd backdoor;"
        "mkdir /opt/kit; echo x > /opt/kit/a; rm /usr/bin/yes; systemctl mask cron.service 2>/dev/null;"
        "echo data > /srv/data/word; echo log > /var/log/new; dpkg --remove --force-all nano >/dev/null 2>&1 || true",
    )
    found = lab.find_drift("web1")
    files = {one.path: one.what for one in found.files}
    assert files["etc/golden"] == ("content",)
    assert files["usr/bin/od"] == ("mode",)
    assert files["etc/issue"] == ("owner",)
    assert files["opt/kit"] == ("added",)
    assert "opt/kit/a" not in files
    assert files["usr/bin/yes"] == ("removed",)
    assert "+ user backdoor" in found.accounts
    assert "etc/systemd/system/cron.service" in {one.path for one in found.units}
    assert not [path for path in files if path.startswith(("srv/data", "var/log"))]
    assert ("nano" in {change.name for change in found.packages}) or "usr/bin/nano" not in files


def test_backups_are_made_kept_and_tried_out(lab: Lab, one: Version) -> None:
    lab.declare("db1", checks=[{"command": "grep -q precious /srv/data/word"}, {"port": 22}], **DATA)
    lab.hosts["db1"]["checks"], checks = [], lab.hosts["db1"]["checks"]
    lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word")
    lab.hosts["db1"]["checks"] = checks
    for _ in range(3):
        lab.back_up("db1")
    kept = list_backups(lab.server("db1"), lab.site)
    assert len(kept) == 2, "keep: {last: 2}"
    tried = lab.drill("db1")
    assert (tried.fault, tried.volid) == ("", kept[0].volid)
    assert find_drill(list_backups(lab.server("db1"), lab.site)).endswith(" passed")
    lab.run("db1", "echo other > /srv/data/word")
    lab.back_up("db1")
    failed = lab.drill("db1")
    assert "grep -q precious" in failed.fault
    assert len(lab.list_guests()) == 1
    assert [guest for guest in lab.site.pve.list_guests() if "goldsmith-test" in guest.tags] == []
    assert lab.run("db1", "cat /srv/data/word") == "other"


def test_a_backup_without_a_file_is_read_back_by_restoring_it(lab: Lab, node: RunningNode, one: Version) -> None:
    """As one on a Proxmox Backup Server; the guest that it is restored into never runs, and goes again."""
    lab.declare("db1", **DATA)
    lab.deploy("db1", one)
    lab.back_up("db1")
    (kept,) = list_backups(lab.server("db1"), lab.site)
    handling = Handling(lab.server("db1"), lab.site, Events(lab.told.append))
    before = lab.site.node.guests.list_guests()
    read_back(handling, Backup(kept.volid, "", kept.size), [])
    assert [event.line for event in lab.told if isinstance(event, LogLine) and event.source == "restore"]
    file = node.path(kept.volid)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(BackupFailed, match="cannot be read back"):
        read_back(handling, Backup(kept.volid, "", kept.size), [])
    assert lab.site.node.guests.list_guests() == before


def test_a_server_that_cannot_be_made_leaves_nothing(lab: Lab, one: Version) -> None:
    lab.declare("db1", checks=[{"command": "false", "timeout": 1}], **DATA)
    with pytest.raises(RolledBack):
        lab.deploy("db1", one)
    assert (lab.list_guests(), lab.list_volumes()) == ({}, [])


def test_a_volume_that_was_just_declared_stays_with_the_server(lab: Lab, one: Version, two: Version) -> None:
    """Made for the new guest, which fails: the old one has it then, as the inventory says."""
    lab.declare("db1", **DATA)
    lab.deploy("db1", one)
    lab.hosts["db1"]["data"] = [*lab.hosts["db1"]["data"], {"path": "/srv/more", "volume": "local:1"}]
    lab.hosts["db1"]["checks"] = [{"command": "grep -q one /etc/golden", "timeout": 1}]
    with pytest.raises(RolledBack):
        lab.deploy("db1", two)
    assert len(lab.list_volumes()) == 2
    assert lab.run("db1", "cat /etc/golden; mountpoint /srv/more") == "one\n/srv/more is a mountpoint"


def test_data_that_nobody_has_declared_is_not_lost(lab: Lab, one: Version, two: Version) -> None:
    lab.declare("db1", **DATA)
    first = lab.deploy("db1", one)
    lab.hosts["db1"].pop("data")
    with pytest.raises(FleetError, match="has data that the inventory does not declare: /srv/data") as refused:
        lab.deploy("db1", two)
    assert "--discard PATH" in refused.value.hint
    assert lab.list_guests() == {first.vmid: "goldsmith-server running"}
    assert lab.find_interrupted("db1") is None
    assert len(lab.list_volumes()) == 1


def test_a_server_is_brought_back_to_a_backup(lab: Lab, one: Version, two: Version) -> None:
    lab.declare("db1", **DATA)
    first = lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word")
    lab.back_up("db1")
    lab.deploy("db1", two)
    lab.run("db1", "echo spoiled > /srv/data/word")
    oldest = list_backups(lab.server("db1"), lab.site)[-1]
    restored = lab.restore("db1", oldest)
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "one\nprecious"
    assert len(lab.list_volumes()) == 2, "the data that was there until then is kept"
    running = [vmid for vmid, state in lab.list_guests().items() if "running" in state]
    assert running == [restored.vmid]
    assert first.vmid not in running
    lab.hosts["db1"]["checks"] = [{"command": "grep -q never /srv/data/word", "timeout": 1}]
    with pytest.raises(RolledBack):
        lab.restore("db1", oldest)
    assert lab.run("db1", "cat /srv/data/word") == "precious"
    assert len(lab.list_volumes()) == 2
    lab.hosts["db1"]["checks"] = []
    lab.roll_back("db1")
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "two\nspoiled", (
        "the guest of before, its own data with it"
    )
    lab.roll_back("db1")
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "one\nprecious"
    assert len(lab.list_volumes()) == 2


def test_data_alone_is_brought_back(lab: Lab, one: Version, two: Version) -> None:
    volumes = [*DATA["data"], {"path": "/srv/cache", "volume": "local:1", "backup": False}]
    lab.declare("db1", **{**DATA, "data": volumes})
    lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word; echo old > /srv/cache/word")
    lab.back_up("db1")
    lab.deploy("db1", two)
    lab.run("db1", "echo spoiled > /srv/data/word; echo new > /srv/cache/word")
    backup = list_backups(lab.server("db1"), lab.site)[-1]
    before, see = lab.list_guests(), "cat /etc/golden /srv/data/word /srv/cache/word"
    lab.hosts["db1"]["checks"] = [{"command": "grep -q spoiled /srv/data/word", "timeout": 1}]
    with pytest.raises(RolledBack):
        lab.restore("db1", backup, data_only=True)
    assert (lab.run("db1", see), lab.list_guests()) == ("two\nspoiled\nnew", before)
    assert len(lab.list_volumes()) == 2
    lab.hosts["db1"]["checks"] = [{"command": "grep -q precious /srv/data/word"}]
    lab.restore("db1", backup, data_only=True)
    assert lab.run("db1", see) == "two\nprecious\nnew", "what is in no backup goes along"
    assert len(lab.list_volumes()) == 3, "the data that was there until then is kept"
    assert "goldsmith-holder" not in lab.list_guests().values()
    assert lab.plan("db1", two).action is Action.NOTHING


def test_a_server_that_is_gone_is_made_from_its_backup(lab: Lab, one: Version, two: Version) -> None:
    lab.declare("db1", **DATA)
    first = lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word")
    lab.back_up("db1")
    (backup,) = list_backups(lab.server("db1"), lab.site)
    lab.site.node.tasks.wait(lab.site.node.guests.destroy(first.vmid, force=True))
    lab.hosts["db1"]["checks"] = [{"command": "false", "timeout": 1}]
    with pytest.raises(RolledBack):
        lab.restore("db1", backup)
    assert (lab.list_guests(), lab.list_volumes()) == ({}, [])
    lab.hosts["db1"]["checks"] = [{"port": 22}]
    lab.restore("db1", backup)
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "one\nprecious"
    assert lab.plan("db1", two).action is Action.REPLACE


def test_a_guest_of_somebody_else_is_taken_over_when_that_is_said(lab: Lab, one: Version, two: Version) -> None:
    """With its data; it had another MAC, and was made by hand."""
    lab.declare("db1", **DATA)
    first = lab.deploy("db1", one)
    lab.run("db1", "echo precious > /srv/data/word")
    lab.forget(first.vmid)
    assert lab.plan("db1", two).action is Action.BLOCKED
    with pytest.raises(NotOurs, match="was not made by goldsmith: it is not touched"):
        lab.deploy("db1", two, lab.plan("db1", two, adopt=True))
    taken = lab.deploy("db1", two, lab.plan("db1", two, adopt=True), adopt=True)
    assert taken.vmid != first.vmid
    assert lab.run("db1", "cat /etc/golden /srv/data/word") == "two\nprecious"
    assert len(lab.list_volumes()) == 1
    assert lab.list_guests()[first.vmid] == "goldsmith-previous"


@pytest.mark.parametrize("strategy", ["swap", "recreate"])
def test_host_keys_stay_where_that_is_wanted(lab: Lab, one: Version, two: Version, strategy: str) -> None:
    data = DATA if strategy == "recreate" else {"backup": "local"}
    lab.declare("db1", strategy=strategy, keep_host_keys=True, checks=[{"port": 22}], **data)
    lab.deploy("db1", one)
    before = lab.scan_keys("db1")
    assert before
    lab.deploy("db1", two)
    assert lab.run("db1", "cat /etc/golden; stat -c %a /etc/ssh/ssh_host_ed25519_key") == "two\n600"
    assert lab.scan_keys("db1") == before
    assert not Path("/run/goldsmith-keys").exists() or list(Path("/run/goldsmith-keys").iterdir()) == []
    lab.hosts["db1"]["keep_host_keys"] = False
    lab.deploy("db1", one)
    assert lab.scan_keys("db1") != before
