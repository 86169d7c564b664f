"""Our client's view of storages, templates and dumps, the same cases on every server."""

from __future__ import annotations

import hashlib
import io

import pytest

from goldsmith.base.digest import Digest
from goldsmith.base.errors import ApiFailed, PveError, TaskFailed, UsageError

from .conftest import Target

UPLOADED = "goldsmith-contract_1.0_amd64.tar.zst"


def test_storages_say_what_they_may_hold(target: Target) -> None:
    storages = target.node.storage.list_storages()
    assert [storage.name for storage in storages] == sorted(storage.name for storage in storages)
    disks = target.node.storage.get_storage(target.storage)
    assert "rootdir" in disks.content
    assert disks.active
    assert 0 <= disks.available <= disks.total


def test_storages_are_filtered_by_content(target: Target) -> None:
    assert all("vztmpl" in storage.content for storage in target.node.storage.list_storages("vztmpl"))


def test_an_unknown_storage(target: Target) -> None:
    with pytest.raises(PveError, match="has no storage 'nope'") as missing:
        target.node.storage.get_storage("nope")
    assert target.storage in missing.value.hint
    with pytest.raises(ApiFailed, match="storage 'nope' does not exist"):
        target.node.storage.list_content("nope")


def test_a_present_template_is_taken_as_it_is(target: Target) -> None:
    storage, _, name = target.template.partition(":")
    for wanted in (target.template, name.removeprefix("vztmpl/")):
        assert target.node.storage.ensure_appliance(storage, wanted).volid == target.template


def test_an_unknown_template_is_an_error_that_names_what_comes_near(target: Target) -> None:
    storage = target.template.partition(":")[0]
    with pytest.raises(UsageError) as missing:
        target.node.storage.ensure_appliance(storage, "debian-12-standart_12.7-1_amd64.tar.zst")
    assert "debian-12-standard" in missing.value.hint


def test_an_upload_is_listed_checked_and_never_overwritten(target: Target) -> None:
    storage = target.template.partition(":")[0]
    volid = f"{storage}:vztmpl/{UPLOADED}"
    content = b"goldsmith" * 300_000
    checksum = Digest("sha256:" + hashlib.sha256(content).hexdigest())
    seen: list[int] = []
    store = target.node.storage

    def send() -> None:
        upid = store.upload(
            storage, UPLOADED, io.BytesIO(content), len(content), sha256=checksum,
            progress=lambda done, _total: seen.append(done),
        )  # fmt: skip
        target.node.tasks.wait(upid)

    try:
        send()
        volume = store.find_volume(volid)
        assert volume is not None
        assert (volume.name, volume.content, volume.size) == (UPLOADED, "vztmpl", len(content))
        assert seen[-1] == len(content)
        assert len(seen) > 2
        with pytest.raises(UsageError, match="never overwritten"):
            send()
    finally:
        store.delete_volume(volid)
    assert store.find_volume(volid) is None


def test_deleting_what_is_gone_is_no_failure(target: Target) -> None:
    storage = target.template.partition(":")[0]
    target.node.storage.delete_volume(f"{storage}:vztmpl/never-there_1.0_amd64.tar.zst")


def test_a_dump_is_found_and_holds_the_config(target: Target) -> None:
    target.needs("backup")
    vmid = target.create(target.vmids[0])
    said: list[str] = []
    storage = target.node.storage.list_storages("backup")[0].name
    lines = [f"line {number} of more than a template takes" for number in range(40)]
    notes = "\n".join(["**goldsmith**, of the contract suite", "", "with a \\n that is none, and more", *lines])
    backup = target.node.backups.create(vmid, storage=storage, notes=notes, on_line=said.append)
    try:
        assert backup.size > 0
        assert any("creating vzdump archive" in line for line in said)
        assert f"hostname: contract-{vmid}" in target.node.backups.read_config(backup.volid)
        volume = target.node.storage.find_volume(backup.volid)
        assert volume is not None
        assert volume.notes == notes
        (listed,) = [one for one in target.node.storage.list_content(storage, "backup") if one.volid == backup.volid]
        assert listed.notes == "**goldsmith**, of the contract suite", "a list has the first line alone"
        assert volume in target.node.storage.read_backups(storage)
        target.node.storage.set_volume(backup.volid, {"notes": "somebody's\nown"})
        assert [one.notes for one in target.node.storage.read_backups(storage)] == ["somebody's"], "not asked for"
    finally:
        target.node.storage.delete_volume(backup.volid)
    assert target.node.storage.find_volume(backup.volid) is None


def test_a_dump_to_a_storage_that_takes_none(target: Target) -> None:
    target.needs("backup")
    vmid = target.create(target.vmids[0])
    unfit = [storage.name for storage in target.node.storage.list_storages() if "backup" not in storage.content]
    if not unfit:
        pytest.skip("every storage takes backups")
    with pytest.raises((TaskFailed, ApiFailed), match=r"wrong content type|does not support"):
        target.node.backups.create(vmid, storage=unfit[0])
