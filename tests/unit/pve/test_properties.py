"""Property strings both ways; the samples are what a Proxmox VE 8.4 stores."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldsmith.base.errors import UsageError
from goldsmith.pve.properties import (
    Mount,
    Net,
    parse_mount,
    parse_net,
    parse_properties,
    parse_tags,
    render_mount,
    render_net,
    render_properties,
    render_tags,
)

STORED_NETS = [
    "name=eth0,bridge=vmbr0,firewall=1,gw=10.77.0.1,hwaddr=BC:24:11:0A:0B:0C,ip=10.77.0.100/24,type=veth",
    "name=eth1,bridge=vmbr1,hwaddr=BC:24:11:0A:0B:0D,ip=dhcp,ip6=auto,link_down=1,mtu=1400,rate=12.5,tag=7,type=veth",
    "name=eth0",
]
STORED_MOUNTS = [
    "local:100/vm-100-disk-0.raw,size=2G",
    "local:130/subvol-130-disk-0.subvol,size=0T",
    "local:100/vm-100-disk-1.raw,mp=/data,backup=1,size=1G",
    "/srv/shared,mp=/shared,mountoptions=noatime;nosuid,ro=1,shared=1",
    "local-lvm:4",
]


@pytest.mark.parametrize("text", STORED_NETS)
def test_a_stored_net_comes_back_unchanged(text: str) -> None:
    assert render_net(parse_net(text)) == text


@pytest.mark.parametrize("text", STORED_MOUNTS)
def test_a_stored_mount_comes_back_unchanged(text: str) -> None:
    assert render_mount(parse_mount(text)) == text


def test_a_net_is_read_by_field() -> None:
    net = parse_net(STORED_NETS[0])
    assert net == Net(
        "eth0", "vmbr0", ip="10.77.0.100/24", gateway="10.77.0.1", hwaddr="BC:24:11:0A:0B:0C", firewall=True,
        more={"type": "veth"},
    )  # fmt: skip
    assert net.address == IPv4Interface("10.77.0.100/24")
    assert parse_net(STORED_NETS[1]).address is None


def test_the_link_of_a_net_is_switched_without_losing_the_rest() -> None:
    """The swap of a running server (docs: recipes) sends the whole device again."""
    net = parse_net(STORED_NETS[1])
    up = Net(**{**net.__dict__, "link_down": None})
    assert render_net(up) == STORED_NETS[1].replace("link_down=1,", "")


def test_a_mount_is_read_by_field() -> None:
    assert parse_mount(STORED_MOUNTS[2]) == Mount("local:100/vm-100-disk-1.raw", "/data", "1G", backup=True)
    assert parse_mount("volume=local:1,mp=/data").volume == "local:1"
    assert parse_mount(STORED_MOUNTS[3]).is_bind


@pytest.mark.parametrize("text", ["a", "a=1,b", "a=1,a=2", "=1"])
def test_what_is_no_property(text: str) -> None:
    with pytest.raises(UsageError, match="is no property"):
        parse_properties(text)


def test_a_comma_cannot_be_written() -> None:
    with pytest.raises(UsageError, match="holds a comma"):
        render_mount(Mount("local:1", path="/a,b"))


@given(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), st.text(st.characters(exclude_characters=","))))
def test_properties_come_back(pairs: dict[str, str]) -> None:
    assert parse_properties(render_properties(pairs)) == pairs


@pytest.mark.parametrize("text", ["b;a", "b,a", "b a", "a; b,", "a;b;a"])
def test_tags_are_read_however_they_are_written(text: str) -> None:
    assert parse_tags(text) == ("a", "b")
    assert render_tags(parse_tags(text)) == "a;b"
