"""Property strings: order, defaults, sizes."""

import re

import pytest

from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.lxc.properties import MountPoint, Net
from goldsmith.node.properties import get_owner, make_mac, parse_properties, parse_size, parse_volume, render_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0T"),
        (4 << 30, "4G"),
        (1536 << 20, "1536M"),
        (1 << 40, "1T"),
        (1 << 10, "1K"),
        (1000, "1000"),
        (3 << 20, "3M"),
    ],
)
def test_sizes_are_written_in_the_largest_unit_that_divides(size: int, text: str) -> None:
    assert render_size(size) == text
    assert parse_size(text) == size


def test_a_fraction_of_a_size_is_read() -> None:
    assert parse_size("0.5G") == 512 << 20
    with pytest.raises(ApiFault, match="unable to parse size 'much'"):
        parse_size("much")


def test_a_network_device_is_stored_complete_and_in_order() -> None:
    net = Net.parse("net0", "ip=dhcp,bridge=vmbr0,firewall=1,name=eth0").complete()
    shape = r"name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11(:[0-9A-F]{2}){3},ip=dhcp,type=veth"
    assert re.fullmatch(shape, net.render())
    assert net.with_new_mac().mac != net.mac


def test_a_given_address_stays() -> None:
    assert Net.parse("net0", "name=eth0,hwaddr=02:00:00:00:00:01").complete().mac == "02:00:00:00:00:01"
    assert make_mac() != make_mac()


def test_a_mount_point_is_written_volume_first() -> None:
    point = MountPoint.parse("mp0", "size=1G,backup=1,mp=/data,volume=local:100/disk")
    assert point.render() == "local:100/disk,mp=/data,backup=1,size=1G"
    assert MountPoint.parse("mp0", point.render()) == point


@pytest.mark.parametrize(
    ("text", "kind", "request_"),
    [
        ("local:8,mp=/x", "volume", ("local", 8 << 30)),
        ("local:0.5,mp=/x", "volume", ("local", 512 << 20)),
        ("local:0,mp=/x", "volume", ("local", 0)),
        ("local:100/disk.raw,mp=/x", "volume", None),
        ("/srv/data,mp=/x", "bind", None),
        ("/dev/sdb,mp=/x", "device", None),
    ],
)
def test_kinds_of_mount_points(text: str, kind: str, request_: tuple[str, int] | None) -> None:
    point = MountPoint.parse("mp0", text)
    assert (point.kind, point.request()) == (kind, request_)


@pytest.mark.parametrize(("target", "seen"), [("/data", "/data"), ("data/", "/data"), ("/a/b/", "/a/b")])
def test_targets_are_absolute(target: str, seen: str) -> None:
    assert MountPoint.parse("mp0", f"local:1,mp={target}").target == seen


def test_only_root_disk_and_disks_that_say_so_are_backed_up() -> None:
    assert MountPoint.parse("rootfs", "local:1").has_backup
    assert MountPoint.parse("mp0", "local:1,mp=/x,backup=1").has_backup
    assert not MountPoint.parse("mp0", "local:1,mp=/x").has_backup
    assert not MountPoint.parse("mp0", "/srv,mp=/x,backup=1").has_backup


def test_options_of_a_mount() -> None:
    point = MountPoint.parse("mp0", "local:1,mp=/x,ro=1,mountoptions=noatime;nodev")
    assert point.mount_options == ["ro", "noatime", "nodev"]


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ParameterFault):
        MountPoint.parse("mp0", "mp=/x")
    with pytest.raises(ApiFault, match="unable to parse volume ID 'local'"):
        parse_volume("local")
    with pytest.raises(ApiFault, match="value without key"):
        parse_properties("eth0,bridge=vmbr0")


def test_a_disk_belongs_to_the_guest_of_its_folder() -> None:
    assert get_owner(parse_volume("local:101/subvol-101-disk-0.subvol")) == 101
    with pytest.raises(ApiFault, match="unable to parse directory volume name '4'"):
        get_owner(parse_volume("local:4"))
