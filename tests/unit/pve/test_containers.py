"""What is sent for a new container, and what is made of Proxmox's answers."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from goldsmith.base.errors import PveError
from goldsmith.base.secrets import Secret
from goldsmith.pve.answers import Entry, read_entries, read_upid
from goldsmith.pve.containers import ContainerSpec, parse_config, parse_interface
from goldsmith.pve.guests import parse_guest
from goldsmith.pve.properties import Mount, Net


def test_a_small_specification_leaves_the_rest_to_the_node() -> None:
    parameters = ContainerSpec(vmid=100, ostemplate="local:vztmpl/x").as_parameters()
    given = {name: value for name, value in parameters.items() if value is not None}
    assert given == {"vmid": 100, "ostemplate": "local:vztmpl/x", "unprivileged": True}


def test_a_full_specification() -> None:
    password = Secret("pw")
    spec = ContainerSpec(
        vmid=100, ostemplate="local:vztmpl/x", rootfs=Mount("local:8"),
        nets=(Net(bridge="vmbr0", ip="dhcp"), Net("eth1")),
        mounts=(Mount("local:1", "/data", backup=True),), features={"nesting": "1", "keyctl": "1"},
        ssh_public_keys=("ssh-ed25519 AAAA a\n", "ssh-ed25519 BBBB b"), password=password, tags=("b", "a"), memory=256,
        hostname="web", restore=True,
    )  # fmt: skip
    parameters = spec.as_parameters()
    assert parameters["rootfs"] == "local:8"
    assert (parameters["net0"], parameters["net1"]) == ("name=eth0,bridge=vmbr0,ip=dhcp", "name=eth1")
    assert parameters["mp0"] == "local:1,mp=/data,backup=1"
    assert parameters["features"] == "nesting=1,keyctl=1"
    assert parameters["ssh-public-keys"] == "ssh-ed25519 AAAA a\nssh-ed25519 BBBB b"
    assert parameters["password"] is password
    assert parameters["restore"] is True
    assert "start" not in parameters


def test_a_config_as_proxmox_answers_it() -> None:
    config = parse_config(
        {
            "digest": "d", "hostname": "web", "description": "two\nlines\n", "tags": "b;a", "memory": 512, "swap": "0",
            "arch": "amd64", "ostype": "debian", "unprivileged": 1, "lock": "backup", "features": "nesting=1",
            "rootfs": "local:100/vm-100-disk-0.raw,size=2G", "mp0": "local:1,mp=/a", "mp12": "/srv,mp=/b",
            "net0": "name=eth0,bridge=vmbr0", "unused0": "local:100/old.raw",
            "lxc": [["lxc.apparmor.profile", "unconfined"]],
        }
    )  # fmt: skip
    assert config.description == "two\nlines"
    assert (config.memory, config.swap, config.cores, config.unprivileged) == (512, 0, None, True)
    assert (config.lock, config.tags, config.features) == ("backup", ("a", "b"), {"nesting": "1"})
    assert {key: mount.path for key, mount in config.mounts.items()} == {"mp0": "/a", "mp12": "/b"}
    assert config.unused == {"unused0": "local:100/old.raw"}
    assert config.nets["net0"].bridge == "vmbr0"


def test_a_container_that_is_being_created() -> None:
    config = parse_config({"lock": "create", "digest": "d"})
    assert (config.lock, config.rootfs, config.nets) == ("create", None, {})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"inet": "10.0.0.5/24", "inet6": "fe80::1/64"}, "10.0.0.5"),
        ({"ip-addresses": [
            {"ip-address": "fd00::5", "ip-address-type": "inet6", "prefix": "64"},
            {"ip-address": "10.0.0.5", "ip-address-type": "inet", "prefix": "24"}]}, "10.0.0.5"),
        ({"inet": "127.0.0.1/8"}, None),
        ({"inet": "169.254.3.4/16"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_guests_address(answer: dict[str, object], expected: str | None) -> None:
    interface = parse_interface(Entry({"name": "eth0", "hwaddr": "BC:24:11:00:00:01", **answer}))
    assert interface.ipv4 == (IPv4Address(expected) if expected else None)
    assert interface.hwaddr == "bc:24:11:00:00:01"


def test_a_guest_of_either_kind() -> None:
    shown = {"vmid": 200, "name": "vm", "status": "running", "type": "qemu", "node": "pve", "tags": "x", "template": 0}
    guest = parse_guest(Entry(shown))
    assert (guest.vmid, guest.kind, guest.node, guest.running, guest.template) == (200, "qemu", "pve", True, False)
    assert parse_guest(Entry({"vmid": "100", "type": "lxc", "status": "stopped", "template": 1})).template


def test_numbers_and_booleans_come_in_many_forms() -> None:
    entry = Entry({"a": "5", "b": 5, "c": 5.9, "d": None, "e": "1", "f": 0, "g": True, "h": "0", "i": ""})
    assert [entry.number(key) for key in "abcdi"] == [5, 5, 5, 0, 0]
    assert [entry.flag(key) for key in "bdefgh"] == [False, False, True, False, True, False]
    with pytest.raises(PveError, match="where a number was expected"):
        Entry({"a": "x"}).number("a")


def test_answers_of_another_shape_are_errors() -> None:
    assert read_entries(None) == []
    for wrong in ("text", {"a": 1}, [1]):
        with pytest.raises(PveError, match="was expected"):
            read_entries(wrong)
    for answer in (None, "OK", 5):
        with pytest.raises(PveError, match="a task was expected"):
            read_upid(answer)
