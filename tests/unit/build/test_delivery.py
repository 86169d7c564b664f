"""How an image gets to a node without a shell, and why: decided of what is written and what the machine has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from goldsmith.base.digest import Digest
from goldsmith.build.cache.keys import LayerKey
from goldsmith.build.delivery import Delivery, Way, choose_delivery, make_local
from goldsmith.build.kept import KeptImage, parse_kept, render_notes, select_kept
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
        (None, ("lxc-start is missing",), Way.BACKUP, "lacks what the embedded node needs: lxc-start is missing; no"),
        ("upload", ("lxc-start is missing",), Way.UPLOAD, "built here, as without_shell says so"),
        ("backup", (), Way.BACKUP, "without_shell says so; no version in the repository"),
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


def test_a_backup_stays_and_no_version_is_stored() -> None:
    delivery = choose(without_shell="backup")
    image = make_image(**{**ELSEWHERE, "temp_ip_address": "dhcp", "temp_gateway": None})
    steps = end_of(image, delivery).steps
    assert [type(step) for step in steps[-3:]] == [DumpGuest, KeepBackup, RemoveGuest]
    assert delivery is not None
    assert steps[-2] == KeepBackup(name="golden", storage="local", reason=delivery.reason)


def keep(layer: LayerKey, **changes: Any) -> KeptImage:
    volume = Volume("nas:backup/x", "backup", "tar", 5, created=7, protected=True)
    found = parse_kept(replace(volume, notes=render_notes("golden:20261123-1", layer.key, (100,), "debian")))
    assert found == KeptImage("nas:backup/x", "golden:20261123-1", layer.key, (100,), 5, 7)
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("changes", "layering", "is_current"),
    [
        ({}, {}, True),
        ({"key": "sha256:" + "0" * 64}, {}, False),
        ({"reference": "other:1"}, {}, False),
        ({"since": (100, 200)}, {}, False),
        ({}, {"refresh": True}, False),
    ],
)
def test_a_backup_of_exactly_the_same_is_not_made_again(
    changes: dict[str, Any], layering: dict[str, Any], is_current: bool
) -> None:
    image = make_image(**{**ELSEWHERE, "temp_ip_address": "dhcp", "temp_gateway": None, "without_shell": "backup"})
    key = LayerKey("playbook", Digest("sha256:" + "1" * 64), {}, installs_packages=True)
    known = make_layering(image, keys=(key,), kept=(keep(key, **changes),), **layering)
    made = plan_build(image, make_facts(template_directory=None), known, delivery=choose(without_shell="backup"))
    assert (made.kept is not None) is is_current
    assert (len(made.steps) == 1) is is_current


def test_a_backup_that_is_not_protected_or_says_nothing_is_none() -> None:
    key = "sha256:" + "1" * 64
    volume = Volume("nas:backup/x", "backup", "tar", 5, notes=render_notes("golden:1", key, (1,), "debian"))
    assert select_kept([volume, replace(volume, protected=True, notes="mine")]) == []
    assert [one.reference for one in select_kept([replace(volume, protected=True)])] == ["golden:1"]
