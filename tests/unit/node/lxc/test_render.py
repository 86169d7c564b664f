"""What LXC, the kernel, nftables and dnsmasq are told."""

from pathlib import Path

import pytest

from goldsmith.base.errors import NodeServiceError
from goldsmith.node import network
from goldsmith.node.context import Node
from goldsmith.node.lxc.assemble import Assembly, Mount
from goldsmith.node.lxc.cgroups import Hierarchy, parse_processors, pick_processors, plan_limits
from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.idmap import IdMap, ensure_subordinate_ids
from goldsmith.node.lxc.lxcconf import Host, render_lxc_config, render_seccomp
from goldsmith.node.lxc.runtime import Runtime, device_name
from goldsmith.node.settings import NodeSettings

NET = "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(Node(NodeSettings(state=tmp_path)), 100)


def cgroups(root: Path, *, unified: bool) -> Hierarchy:
    if unified:
        (root / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    else:
        for controller in ("memory", "cpu", "cpuset"):
            (root / controller).mkdir()
        (root / "memory/memory.memsw.limit_in_bytes").touch()
    return Hierarchy.detect(root)


def lxc_config(
    runtime: Runtime, root: Path, *, unified: bool = True, apparmor: bool = False, **values: str
) -> list[str]:
    options = Options({"hostname": "web.lab.test", "net0": NET, **values})
    host = Host(cgroups(root, unified=unified), apparmor)
    return render_lxc_config(runtime, options, host, {"net0": "gsmbr0"}).splitlines()


def test_an_unprivileged_guest_on_cgroup_2(runtime: Runtime, tmp_path: Path) -> None:
    lines = lxc_config(runtime, tmp_path, unprivileged="1", memory="512", swap="256", features="nesting=1")
    assert "lxc.idmap = u 0 100000 65536" in lines
    assert "lxc.cgroup2.memory.max = 536870912" in lines
    assert "lxc.cgroup2.memory.swap.max = 268435456" in lines
    assert "lxc.net.0.veth.pair = veth100i0" in lines
    assert "lxc.net.0.link = gsmbr0" in lines
    assert "lxc.apparmor.profile = unconfined" in lines
    assert "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0" in lines
    assert not [
        line
        for line in lines
        if line.startswith(("lxc.cap.drop", "lxc.cgroup.", "lxc.cgroup2.devices")) and ".dir." not in line
    ]


def test_a_privileged_guest_on_cgroup_1(runtime: Runtime, tmp_path: Path) -> None:
    lines = lxc_config(runtime, tmp_path, unified=False, memory="512", swap="512", cpulimit="0.5")
    assert "lxc.cgroup.memory.memsw.limit_in_bytes = 1073741824" in lines
    assert "lxc.cgroup.cpu.cfs_quota_us = 50000" in lines
    assert "lxc.cgroup.devices.deny = a" in lines
    assert any(line.startswith("lxc.cap.drop = ") for line in lines)
    assert not any("idmap" in line for line in lines)


def test_apparmor_is_used_where_the_kernel_has_it(runtime: Runtime, tmp_path: Path) -> None:
    lines = lxc_config(runtime, tmp_path, apparmor=True, unprivileged="1", features="nesting=1")
    assert "lxc.apparmor.profile = generated" in lines
    assert "lxc.apparmor.allow_nesting = 1" in lines


def test_a_device_that_starts_unplugged_is_on_no_bridge(runtime: Runtime, tmp_path: Path) -> None:
    options = Options({"net0": NET + ",link_down=1"})
    text = render_lxc_config(runtime, options, Host(cgroups(tmp_path, unified=True), apparmor=False), {})
    assert "lxc.net.0.link" not in text


def test_raw_lines_come_last(runtime: Runtime, tmp_path: Path) -> None:
    options = Options({}, [("lxc.environment", "A=1")])
    text = render_lxc_config(runtime, options, Host(cgroups(tmp_path, unified=True), apparmor=False), {})
    assert text.endswith("lxc.environment = A=1\n")


def test_keyctl_is_missing_unless_wanted() -> None:
    assert "keyctl errno 38" in render_seccomp(Options({"unprivileged": "1"}))
    assert "keyctl" not in render_seccomp(Options({"unprivileged": "1", "features": "keyctl=1"}))
    assert "keyctl" not in render_seccomp(Options({}))


def test_processors() -> None:
    assert parse_processors("0-3,8\n") == [0, 1, 2, 3, 8]
    assert pick_processors(2, [0, 1, 2, 3], 103) == [0, 3]
    assert pick_processors(8, [0, 1], 100) == [0, 1]


def test_lifting_a_limit_is_said_out_loud() -> None:
    limits = {limit.v1[0]: limit.v1[1] for limit in plan_limits(Options({}), 100, complete=True)}
    assert limits["cpu.cfs_quota_us"] == "-1"
    assert "cpu.cfs_quota_us" not in {limit.v1[0] for limit in plan_limits(Options({}), 100)}


def test_names_of_nodes_side_by_side_differ(tmp_path: Path) -> None:
    other = NodeSettings(state=tmp_path, host_bridge="gsmbr1")
    assert device_name(NodeSettings(), "veth", 100, 0) == "veth100i0"
    name = device_name(other, "veth", 999999999, 9)
    assert name != device_name(NodeSettings(), "veth", 999999999, 9)
    assert len(name) <= 15


def test_subordinate_ids_are_added_once(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("user:100000:65536")
    for _ in range(2):
        ensure_subordinate_ids(tmp_path)
    assert (tmp_path / "subuid").read_text() == "user:100000:65536\nroot:100000:65536\n"
    assert (tmp_path / "subgid").read_text() == "root:100000:65536\n"


def test_commands_in_a_user_map() -> None:
    assert IdMap.of(unprivileged=False).wrap(["tar"]) == ["tar"]
    assert IdMap.of(unprivileged=True).wrap(["tar"])[-2:] == ["--", "tar"]


def test_an_assembly_travels_as_text() -> None:
    spec = Assembly("/r", [Mount("/s", "/data ü", ["ro"])], ["nosuid"], "/c", 100000)
    assert Assembly.parse(spec.render()) == spec


def test_nat_of_the_own_network_only() -> None:
    rules = network.render_rules(NodeSettings(host_bridge="gs-b.1", network="10.99.0.1/16"))
    assert "table ip goldsmith_gs_b_1 {" in rules
    assert "ip saddr 10.99.0.0/16 ip daddr != 10.99.0.0/16 masquerade" in rules


def test_dhcp_has_the_upper_half() -> None:
    assert [str(address) for address in network.dhcp_range("10.86.0.1/16") or ()] == ["10.86.128.0", "10.86.255.254"]
    assert network.dhcp_range("10.86.0.1/30") is None


def test_dnsmasq_reads_nothing_of_the_machine(tmp_path: Path) -> None:
    arguments = network.render_dnsmasq(NodeSettings(state=tmp_path))
    assert "--conf-file=" in arguments
    assert "--bind-interfaces" in arguments
    assert "--interface=gsmbr0" in arguments


def test_a_network_that_is_somebody_elses_is_refused() -> None:
    def interface(name: str) -> dict[str, object]:
        return {"ifname": name, "addr_info": [{"family": "inet", "local": "10.86.7.1", "prefixlen": 24}]}

    settings = NodeSettings()
    network.check_network(settings, [interface("gsmbr0")])
    with pytest.raises(
        NodeServiceError, match=r"^the guests' network 10\.86\.0\.0/16 overlaps with 10\.86\.7\.1/24 of eth1$"
    ):
        network.check_network(settings, [interface("eth1")])
