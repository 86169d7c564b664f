"""What the inventory says of a server, as Proxmox takes it."""

from __future__ import annotations

from goldsmith.fleet.marks import Labels, Role
from goldsmith.fleet.specification import connect, list_mounts, list_settings, list_unset, make_labels, specify
from goldsmith.pve.containers import parse_config
from goldsmith.pve.properties import render_net
from tests.unit.fleet.making import make_server

COMPLETE = {
    "address": "10.0.0.5/24", "gateway": "10.0.0.1", "address6": "auto", "bridge": "vnet1", "vlan": 42, "mtu": 1450,
    "firewall": True, "cores": 2, "memory": 1024, "swap": 256, "disk": "fast:4.5", "tags": ["web"], "pool": "golden",
    "order": 7, "nameserver": "10.0.0.1", "hostname": "web1.example.com",
}  # fmt: skip


def test_a_new_guest_is_cut_off_and_has_no_data_yet() -> None:
    server = make_server(**COMPLETE, data=[{"path": "/d", "volume": "local:1", "backup": False}])
    spec = specify(server, 101, "local:vztmpl/x.tar.zst", Labels(Role.NEXT, "golden", "20261124.1"), "text")
    parameters = spec.as_parameters()
    assert parameters["rootfs"] == "fast:4.5"
    assert not [name for name in parameters if name.startswith("mp")]
    assert parameters["net0"] == render_net(connect(server, up=False))
    assert "link_down=1" in str(parameters["net0"])
    assert parameters["onboot"] is False
    assert (parameters["hostname"], parameters["pool"]) == ("web1.example.com", "golden")
    assert parameters["tags"] == "golden-20261124.1;goldsmith;goldsmith-next;web"


def test_the_mac_follows_from_the_servers_name() -> None:
    one, other = make_server(address="10.0.0.5/24"), make_server(address="10.0.0.6/24")
    assert connect(one, up=True).hwaddr == connect(other, up=False).hwaddr


def test_outer_paths_are_mounted_first() -> None:
    data = [{"path": f"/srv/{name}", "volume": "local:1", "backup": False} for name in ("b/c", "b", "a")]
    assert [str(one.path) for one in list_mounts(make_server(data=data)).values()] == ["/srv/a", "/srv/b", "/srv/b/c"]


def test_settings_are_all_that_is_changed_in_place() -> None:
    server = make_server(**COMPLETE)
    settings = list_settings(server, make_labels(server, Role.CURRENT, "golden", "20261124.1"), "text", up=True)
    assert (settings["memory"], settings["swap"], settings["cores"], settings["onboot"]) == (1024, 256, 2, True)
    assert settings["startup"] == "order=7"
    assert "link_down" not in str(settings["net0"])
    assert "features" not in settings


def test_what_is_not_declared_any_more_goes() -> None:
    config = parse_config({"digest": "x", "cores": 2, "nameserver": "10.0.0.1", "startup": "order=7", "memory": 512})
    assert list_unset(make_server(), config) == ["cores", "nameserver", "startup"]
    assert list_unset(make_server(**COMPLETE), config) == []
    assert list_unset(make_server(), parse_config({"digest": "x"})) == []
