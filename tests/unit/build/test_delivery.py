"""How an image gets to a node without a shell, and why: decided of what is written and what the machine has."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from goldsmith.artifacts.manifest import Descriptor
from goldsmith.artifacts.repository import Version, check_has_files
from goldsmith.base.digest import Digest
from goldsmith.base.errors import FilesElsewhere
from goldsmith.build.cache.keys import LayerKey
from goldsmith.build.delivery import Delivery, Way, choose_delivery, make_local
from goldsmith.build.kept import is_version, render_notes
from goldsmith.build.plan import BuildPlan, plan_build
from goldsmith.build.steps import DumpGuest, KeepBackup, RemoveGuest, StoreVersion, UploadTemplate
from goldsmith.definition.image import Image
from goldsmith.pve.storage import Volume
from tests.unit.build.making import make_facts, make_image, make_layering, plan

ELSEWHERE: dict[str, Any] = {
    "proxmox_api_host": "pve.example.com", "proxmox_api_token_id": "ci", "proxmox_api_token_secret": "x",
    "proxmox_shell": "none", "proxmox_storage": "nas", "proxmox_pool": "golden", "proxmox_vmids": "500-510",
    "temp_ip_address": "192.0.2.9/24", "temp_gateway": "192.0.2.1", "temp_bridge": "vmbr7", "temp_vlan": 7,
    "temp_disk_size": "fast:6", "temp_vmid": 505, "temp_ip6_address": "auto", "temp_mtu": 1400, "temp_firewall": True,
    "proxmox_node": "pve7",
}  # fmt: skip


def choose(*lacking: str, **changes: Any) -> Delivery | None:
    return choose_delivery(make_image(**{**ELSEWHERE, **changes}), "pve7", lacking)


def test_where_there_is_a_shell_or_no_proxmox_nothing_changes() -> None:
    assert choose(proxmox_shell="ssh") is None
    assert choose_delivery(make_image(proxmox_shell="none"), "pve", ()) is None


@pytest.mark.parametrize(
    ("named", "lacking", "way", "why"),
    [
        (None, (), Way.UPLOAD, "built here, as this machine has what the embedded node needs"),
        (None, ("lxc-start is missing",), Way.BACKUP, "lacks what the embedded node needs: lxc-start is missing; the"),
        ("upload", ("lxc-start is missing",), Way.UPLOAD, "built here, as without_shell says so"),
        ("backup", (), Way.BACKUP, "without_shell says so; the version in the repository has no files"),
    ],
)  # fmt: skip
def test_the_way_and_its_reason(named: str | None, lacking: tuple[str, ...], way: Way, why: str) -> None:
    delivery = choose(*lacking, without_shell=named)
    assert delivery is not None
    assert (delivery.way, delivery.node, delivery.storage) == (way, "pve7", "nas")
    assert delivery.reason.startswith("proxmox_shell is none; ")
    assert why in delivery.reason


def test_an_image_that_is_built_here_knows_nothing_of_the_proxmox() -> None:
    local = make_local(make_image(**ELSEWHERE, apps=["git"]))
    plain = make_image(apps=["git"], temp_disk_size="local:6", proxmox_api_token_id="ci", proxmox_api_token_secret="x",
                       proxmox_shell="none")  # fmt: skip
    assert local.variables == plain.variables
    assert make_local(make_image(**{**ELSEWHERE, "temp_disk_size": None})).variables.temp_disk_size is None


def end_of(image: Image, delivery: Delivery | None) -> BuildPlan:
    return plan(image, make_facts(template_directory=None), delivery=delivery)


def test_a_version_is_stored_and_uploaded() -> None:
    delivery = choose()
    steps = end_of(make_local(make_image(**ELSEWHERE)), delivery).steps
    assert [type(step) for step in steps[-4:]] == [DumpGuest, StoreVersion, UploadTemplate, RemoveGuest]
    assert delivery is not None
    assert steps[-2] == UploadTemplate(node="pve7", storage="nas", reason=delivery.reason)
    assert steps[-2].title == "upload to pve7:nas"


def test_a_backup_stays_and_is_the_version() -> None:
    delivery = choose(without_shell="backup")
    image = make_image(**{**ELSEWHERE, "temp_ip_address": "dhcp", "temp_gateway": None})
    steps = end_of(image, delivery).steps
    assert [type(step) for step in steps[-3:]] == [DumpGuest, KeepBackup, RemoveGuest]
    assert delivery is not None
    assert steps[-2] == KeepBackup(name="golden", storage="local", repository=image.repository, reason=delivery.reason)


WHOLE = Version(
    "golden", "20261123.1", Digest("sha256:" + "2" * 64), datetime(2026, 11, 23, tzinfo=UTC), 5, (),
    Descriptor("config", Digest("sha256:" + "3" * 64), 1),
)  # fmt: skip
KEPT = replace(WHOLE, backup="nas:backup/x")


@pytest.mark.parametrize(
    ("version", "way", "has_backup", "changes", "is_current"),
    [
        (KEPT, "backup", True, {}, True),
        (KEPT, "backup", False, {}, False),  # somebody has removed it
        (KEPT, "backup", True, {"refresh": True}, False),
        (KEPT, "upload", True, {}, False),  # there is nothing to upload
        (WHOLE, "upload", False, {}, True),
        (WHOLE, "backup", False, {}, False),
    ],
)
def test_what_is_there_of_exactly_the_same_is_not_made_again(
    version: Version, way: str, has_backup: bool, changes: dict[str, Any], is_current: bool
) -> None:
    image = make_image(**{**ELSEWHERE, "temp_ip_address": "dhcp", "temp_gateway": None, "without_shell": way})
    key = LayerKey("playbook", Digest("sha256:" + "1" * 64), {}, installs_packages=True)
    known = make_layering(image, keys=(key,), current=version, has_backup=has_backup, **changes)
    made = plan_build(image, make_facts(template_directory=None), known, delivery=choose(without_shell=way))
    assert (made.current is version) is is_current
    assert (len(made.steps) == 1) is is_current


@pytest.mark.parametrize(
    ("changes", "means"),
    [
        ({}, True),
        ({"protected": False}, False),
        ({"size": 6}, False),
        ({"volid": "nas:backup/y"}, False),
        ({"notes": "mine"}, False),
        ({"notes": render_notes(replace(KEPT, tag="20261123.2"), "debian")}, False),
        ({"notes": render_notes(replace(KEPT, digest=WHOLE.config.digest), "debian")}, False),
        ({"notes": "> edited\n\n" + render_notes(KEPT, "debian")}, True),
    ],
)
def test_a_backup_is_a_version_only_where_all_of_it_agrees(changes: dict[str, Any], means: bool) -> None:
    volume = Volume("nas:backup/x", "backup", "tar", 5, notes=render_notes(KEPT, "debian"), protected=True)
    assert is_version(replace(volume, **changes), KEPT) is means


def test_a_version_without_files_says_where_they_are() -> None:
    check_has_files(WHOLE)
    with pytest.raises(FilesElsewhere, match=r"golden:20261123\.1 is the backup nas:backup/x on its node"):
        check_has_files(KEPT)
