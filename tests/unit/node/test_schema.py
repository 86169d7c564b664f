"""Parameters verified and typed, beyond what the contract suite asks of a running node."""

from __future__ import annotations

from typing import Any

import pytest

from goldsmith.node.api import import_methods
from goldsmith.node.faults import ParameterFault
from goldsmith.node.formats import check_format
from goldsmith.node.routing import METHODS
from goldsmith.node.schema import check_parameters, has_method, load_schema

LXC = "/nodes/{node}/lxc"
CONFIG = "/nodes/{node}/lxc/{vmid}/config"


def check(verb: str, path: str, **given: Any) -> dict[str, Any]:
    return check_parameters(verb, path, {key.replace("_", "-"): value for key, value in given.items()})


def errors(verb: str, path: str, **given: Any) -> dict[str, str]:
    with pytest.raises(ParameterFault) as caught:
        check(verb, path, **given)
    return caught.value.errors


def test_every_method_is_described_and_nothing_else_is() -> None:
    import_methods()
    declared = {(method.verb, method.path) for method in METHODS}
    described = {(verb, path) for path, verbs in load_schema()["paths"].items() for verb in verbs}
    assert declared == described
    assert not has_method("POST", "/version")


def test_every_named_format_has_a_check() -> None:
    names: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            names.update([value["format"]] if isinstance(value.get("format"), str) else [])
            for part in value.values():
                collect(part)

    collect(load_schema())
    for name in names - set(load_schema()["formats"]):
        check_format(name, "x")


def test_values_become_typed() -> None:
    typed = check(
        "POST",
        LXC,
        node="pve",
        vmid="100",
        ostemplate="x",
        onboot="1",
        cpulimit="0.5",
        memory=512,
        start=True,
        tags="a;b",
    )
    assert typed == {
        "node": "pve", "vmid": 100, "ostemplate": "x", "onboot": True, "cpulimit": 0.5, "memory": 512, "start": True,
        "tags": "a;b",
    }  # fmt: skip


def test_lists_come_one_by_one_or_together() -> None:
    path = "/nodes/{node}/vzdump"
    assert check("POST", path, vmid="100", exclude_path="/tmp")["exclude-path"] == ["/tmp"]
    assert check("POST", path, vmid="100", exclude_path=["/a", "/b"])["exclude-path"] == ["/a", "/b"]


def test_numbered_parameters_end_somewhere() -> None:
    net = "name=eth0,bridge=vmbr0"
    assert check("PUT", CONFIG, node="pve", vmid=100, net31=net)["net31"] == net
    for name in ("net32", "net01", "mp256", "nets"):
        assert "not defined in schema" in errors("PUT", CONFIG, node="pve", vmid=100, **{name: net})[name]


@pytest.mark.parametrize(
    "value",
    [
        "name=eth0,bridge=vmbr0,ip=10.0.0.1/24,gw=10.0.0.254,hwaddr=BC:24:11:00:00:01,type=veth,firewall=1,link_down=1",
        "name=eth0,ip=dhcp,ip6=auto,tag=5,mtu=1400,rate=1.5",
    ],
)
def test_network_devices_that_are_right(value: str) -> None:
    assert check("PUT", CONFIG, node="pve", vmid=100, net0=value)["net0"] == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            "name=eth0,ip=10.0.0.1",
            "net0.ip: invalid format - value does not look like a valid ipv4 network configuration",
        ),
        ("name=eth0,gw=x", "net0.gw: invalid format - value does not look like a valid IPv4 address"),
        (
            "name=eth0,hwaddr=01:00:00:00:00:01",
            "net0.hwaddr: invalid format - value does not look like a valid unicast",
        ),
        ("name=eth0,tag=5000", "net0.tag: value must have a maximum value of 4094"),
        ("name=eth0,type=tap", "net0.type: value 'tap' does not have a value in the enumeration 'veth'"),
        ("name=eth0,firewall=maybe", "net0.firewall: type check ('boolean') failed - got 'maybe'"),
        ("eth0", "value without key, but schema does not define a default key"),
        ("name=eth0,name=eth1", "duplicate key in comma-separated list property: name"),
    ],
)
def test_network_devices_that_are_wrong(value: str, text: str) -> None:
    told = errors("PUT", CONFIG, node="pve", vmid=100, net0=value)["net0"]
    assert told.startswith("invalid format - ")
    assert text in told


@pytest.mark.parametrize(
    "value", ["local:4", "local:4,mp=/data,backup=1", "local:100/subvol-100-disk-0.subvol,mp=/d,ro=yes"]
)
def test_mount_points_that_are_right(value: str) -> None:
    value = value if "mp=" in value else f"{value},mp=/data"
    assert check("PUT", CONFIG, node="pve", vmid=100, mp0=value)["mp0"] == value


def test_mount_points_that_are_wrong() -> None:
    told = errors("PUT", CONFIG, node="pve", vmid=100, mp0="local:4", mp1="local:4,mp=/../x", mp2="mp=/x")
    assert told["mp0"] == "invalid format - format error\nmp0.mp: property is missing and it is not optional\n"
    assert "mp1.mp: invalid format" in told["mp1"]
    assert told["mp2"] == "invalid format - format error\nmp2.volume: property is missing and it is not optional\n"


@pytest.mark.parametrize(
    ("name", "is_right"), [("a", False), ("1bad", False), ("ok", True), ("s_1-x", True), ("a b", False)]
)
def test_snapshot_names(name: str, is_right: bool) -> None:
    path = "/nodes/{node}/lxc/{vmid}/snapshot"
    if is_right:
        assert check("POST", path, node="pve", vmid=100, snapname=name)
    else:
        assert errors("POST", path, node="pve", vmid=100, snapname=name)["snapname"] == (
            f"invalid format - invalid configuration ID '{name}'\n"
        )


@pytest.mark.parametrize("vmid", ["5", "99", "1000000000", "abc", "0100"])
def test_vmids_that_are_wrong(vmid: str) -> None:
    assert "vmid" in errors("POST", LXC, node="pve", vmid=vmid, ostemplate="x")


def test_what_needs_something_else() -> None:
    path = "/nodes/{node}/storage/{storage}/upload"
    told = errors("POST", path, node="pve", storage="local", content="iso", filename="x.iso", checksum="0")
    assert told == {"checksum": "missing property - 'checksum-algorithm' requires this property"}


def test_no_objects_where_texts_are_meant() -> None:
    assert errors("PUT", CONFIG, node="pve", vmid=100, hostname={"a": 1}) == {
        "hostname": "type check ('string') failed - got HASH"
    }


@pytest.mark.parametrize(
    ("name", "value", "is_right"),
    [
        ("pve-ct-timezone", "Europe/Vienna", True), ("pve-ct-timezone", "host", True),
        ("pve-ct-timezone", "Mars/Base", False), ("pve-ct-timezone", "../../../etc/passwd", False),
        ("pve-startup-order", "order=1,up=5", True), ("pve-startup-order", "first", False),
        ("dns-name-list", "a.test b.test", True), ("dns-name-list", "a.test,-b", False),
        ("lxc-ip-with-ll-iface-list", "1.1.1.1 fe80::1%eth0", True), ("lxc-ip-with-ll-iface-list", "dns", False),
        ("disk-size", "8G", True), ("disk-size", "8X", False),
        ("pve-storage-id", "local", True), ("pve-storage-id", "l", False),
        ("email-opt", "", True), ("email-opt", "x", False),
        ("pve-tag-list", "a;B_1", True), ("pve-tag-list", "-a", False),
    ],
)  # fmt: skip
def test_formats(name: str, value: str, is_right: bool) -> None:
    assert (check_format(name, value) == "") is is_right
