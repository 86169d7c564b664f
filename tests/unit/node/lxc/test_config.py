"""The config file's format, both ways, and its locks."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.node import guestconf
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc import config as configs
from goldsmith.node.lxc.config import GuestConfig, Options, parse_config, render_config
from goldsmith.node.settings import NodeSettings

FILE = """\
#line1
#line2 %C3%A4%C3%B6 50%25 http%3A//x
arch: amd64
cores: 2
hostname: web.lab.test
mp0: local:100/subvol-100-disk-1.subvol,mp=/data,backup=1,size=1G
mp10: local:100/subvol-100-disk-2.subvol,mp=/more,size=1G
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth
parent: before
rootfs: local:100/subvol-100-disk-0.subvol,size=4G
unused0: local:100/subvol-100-disk-3.subvol
lxc.apparmor.profile: unconfined
lxc.mount.entry: /x x none bind 0 0

[pve:pending]
delete: features,startup
nameserver: 192.0.2.1

[before]
#first
arch: amd64
rootfs: local:100/subvol-100-disk-0.subvol,size=4G
snaptime: 1795000000
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(NodeSettings(state=tmp_path))
    node.configs.mkdir()
    return node


def test_a_file_of_proxmox_is_read_and_written_back_to_the_letter() -> None:
    assert render_config(parse_config(FILE)) == FILE


def test_options_are_typed_as_the_api_shows_them() -> None:
    config = parse_config(FILE)
    shown = config.current.as_json()
    assert shown["description"] == "line1\nline2 äö 50% http://x\n"
    assert shown["cores"] == 2
    assert shown["lxc"] == [["lxc.apparmor.profile", "unconfined"], ["lxc.mount.entry", "/x x none bind 0 0"]]
    assert config.snapshots["before"].number("snaptime") == 1795000000


def test_pending_changes_are_merged_for_reading_only() -> None:
    config = parse_config(FILE)
    config.current.values["features"] = "nesting=1"
    merged = config.merged()
    assert merged.get("nameserver") == "192.0.2.1"
    assert "features" not in merged.values
    assert config.current.get("features") == "nesting=1"


def test_mount_points_come_root_first_then_by_number_then_unused() -> None:
    keys = [point.key for point in parse_config(FILE).current.mount_points(unused=True)]
    assert keys == ["rootfs", "mp0", "mp10", "unused0"]


def test_the_digest_is_the_sha1_of_the_file() -> None:
    config = parse_config("arch: amd64\n")
    assert config.digest == hashlib.sha1(b"arch: amd64\n", usedforsecurity=False).hexdigest()
    with pytest.raises(ApiFault, match="detected modified configuration"):
        config.check_digest("0" * 40)
    config.check_digest(config.digest)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n")))
def test_any_line_of_a_description_survives(line: str) -> None:
    config = GuestConfig(Options({"description": line + "\n", "arch": "amd64"}))
    assert parse_config(render_config(config)).current.get("description") == line + "\n"


def test_a_description_of_several_lines_with_odd_line_ends_stays_one_option() -> None:
    text = "a\x0bb\u2028c\rd\n\nlast\n"
    config = parse_config(render_config(GuestConfig(Options({"description": text}))))
    assert config.current.values == {"description": text}


def test_a_missing_guest_is_reported_as_proxmox_does(node: Node) -> None:
    with pytest.raises(ApiFault, match=r"^Configuration file 'nodes/pve/lxc/999\.conf' does not exist$"):
        configs.load_config(node, 999)


def test_a_vmid_is_claimed_once(node: Node) -> None:
    configs.create_config(node, 100)
    assert configs.load_config(node, 100).lock == "create"
    with pytest.raises(ApiFault, match=r"^CT 100 already exists on node 'pve'$"):
        configs.create_config(node, 100)


def test_a_mark_is_held_for_a_block_and_gone_after_a_failure(node: Node) -> None:
    with guestconf.lock_guest(node, 100):
        configs.save_config(node, 100, GuestConfig(Options({"arch": "amd64"})))

    def fail() -> None:
        with configs.hold_lock(node, 100, "backup") as config:
            assert "lock" not in config.current.values
            configs.load_config(node, 100).check_lock()

    with pytest.raises(ApiFault, match=r"^CT is locked \(backup\)$"):
        fail()
    assert configs.load_config(node, 100).lock == ""


def test_a_file_lock_of_another_times_out_in_proxmox_words(node: Node) -> None:
    with (
        guestconf.lock_guest(node, 100),
        pytest.raises(ApiFault, match=r"can't lock file .* - got timeout"),
        guestconf.lock_guest(node, 100, timeout=0.05),
    ):
        pass
