"""How temporary guests are connected."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface

import pytest

from goldsmith.base.errors import DefinitionError
from goldsmith.build.link import Link, choose_link, derive_mac
from goldsmith.pve.properties import render_net
from tests.unit.build.making import make_facts, make_image

ADDRESS = IPv4Interface("10.0.0.5/24")


def test_a_mac_follows_from_the_address_whichever_guest_has_it() -> None:
    link = Link(bridge="vmbr0", gateway=IPv4Address("10.0.0.1"))
    first, second = link.connect(900, ADDRESS), link.connect(901, ADDRESS)
    assert first == second
    assert first.hwaddr is not None
    assert re.fullmatch(r"02(:[0-9a-f]{2}){5}", first.hwaddr), "of one host, locally administered"
    assert link.connect(900, IPv4Interface("10.0.0.6/24")).hwaddr != first.hwaddr
    assert derive_mac("server web1") == derive_mac("server web1") != derive_mac("server web2")


def test_without_a_fixed_address_it_follows_from_the_vmid() -> None:
    link = Link(bridge="vmbr0")
    one, two = link.connect(900, None), link.connect(901, None)
    assert (one.ip, one.gateway) == ("dhcp", None)
    assert one.hwaddr != two.hwaddr


def test_all_that_an_image_says_of_its_network() -> None:
    image = make_image(
        temp_ip_address="10.0.0.5/24", temp_gateway="10.0.0.1", temp_bridge="vnet1", temp_vlan=42, temp_mtu=1450,
        temp_firewall=True, temp_ip6_address="2001:db8::5/64", temp_gateway6="2001:db8::1",
    )  # fmt: skip
    net = render_net(choose_link(image, make_facts(network=None)).connect(900, ADDRESS))
    assert net == (
        f"name=eth0,bridge=vnet1,firewall=1,gw=10.0.0.1,gw6=2001:db8::1,hwaddr={derive_mac('address 10.0.0.5')},"
        "ip=10.0.0.5/24,ip6=2001:db8::5/64,mtu=1450,tag=42"
    )


def test_with_dhcp_no_gateway_is_needed() -> None:
    assert choose_link(make_image(temp_ip_address="dhcp"), make_facts(network=None)).gateway is None
    with pytest.raises(DefinitionError):
        choose_link(make_image(temp_ip_address="10.0.0.5/24"), make_facts(network=None))
