"""Guests are made, start, answer, are changed while they run, and end; nothing of them stays."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from proxmoxer import ResourceException

from goldsmith.node.lxc.runtime import list_socket_names
from tests.lxc.guests import Guest, Guests, RunningNode, has_answer, wait_until

pytestmark = pytest.mark.root


def ssh(key: Path, address: str, command: str) -> subprocess.CompletedProcess[str]:
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=2"]
    argv = ["ssh", "-i", str(key), *[word for option in options for word in ("-o", option)], f"root@{address}", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def test_a_new_guest_answers_over_ssh_within_four_seconds(node: RunningNode, make_guest: Guests, key: Path) -> None:
    make_guest()  # the template is unpacked now, if this is the first guest of it
    begun = time.monotonic()
    guest = make_guest(ssh_public_keys=key.with_suffix(".pub").read_text(), hostname="web.lab.test", start=True)
    address = node.address(guest.vmid)
    done = wait_until(lambda: (answer := ssh(key, address, "hostname -f")).returncode == 0 and answer, what="ssh")
    seconds = time.monotonic() - begun
    assert done.stdout == "web.lab.test\n"
    assert seconds < 4, f"took {seconds:.2f} s"


def test_what_the_config_says_of_a_new_guest(make_guest: Guests) -> None:
    config = make_guest(memory=256, description="line1\nline2 äö", tags="b;a", onboot=0).config
    assert (config["arch"], config["ostype"], config["memory"], config["swap"]) == ("amd64", "debian", 256, 512)
    assert config["unprivileged"] == 1
    assert config["description"] == "line1\nline2 äö\n"
    assert config["tags"] == "a;b"
    assert re.fullmatch(
        r"name=eth0,bridge=vmbr0,gw=[\d.]+,hwaddr=BC:24:11:[0-9A-F:]{8},ip=[\d.]+/16,type=veth", config["net0"]
    )
    assert not {"password", "ostemplate", "storage", "start"} & set(config)
    assert len(config["digest"]) == 40


def test_two_guests_of_one_template_are_two_machines(make_guest: Guests) -> None:
    guests = [make_guest(start=True), make_guest(start=True)]
    ids = {guest.wait_booted().run("cat", "/etc/machine-id") for guest in guests}
    keys = {guest.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[1] for guest in guests}
    assert len(ids) == len(keys) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in ids)


def test_an_unprivileged_guest_owns_shifted_ids_outside(make_guest: Guests) -> None:
    guest = make_guest(start=True)
    root = guest.rootfs()
    assert (root.stat().st_uid, (root / "etc/shadow").stat().st_uid) == (100000, 100000)
    guest.sh("touch /srv/mine && chown 1000:1000 /srv/mine")
    assert (root / "srv/mine").stat().st_uid == 101000
    init = guest.runtime.find_init()
    assert "Uid:\t100000\t" in Path(f"/proc/{init}/status").read_text()


def test_a_privileged_guest_runs_too(make_guest: Guests) -> None:
    guest = make_guest(unprivileged=None, features=None, start=True)
    assert "unprivileged" not in guest.config
    assert guest.rootfs().stat().st_uid == 0
    assert guest.wait_booted().run("id", "-u") == "0"


def test_the_network_inside_resolves_and_reaches_the_package_mirror(make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    assert "nameserver" in guest.run("cat", "/etc/resolv.conf")
    said = guest.sh("apt-get -q update 2>&1 && apt-cache policy bash")
    assert "Candidate" in said
    assert "Err:" not in said


def test_an_address_by_dhcp(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(net0="name=eth0,bridge=vmbr0,ip=dhcp", start=True)

    def address() -> str | None:
        eth0: dict[str, str] = next((link for link in guest.api.interfaces.get() if link["name"] == "eth0"), {})
        return eth0.get("inet")

    inet = wait_until(address, seconds=20, what="lease")
    prefix = ".".join(node.settings.network.split(".")[:2])
    assert inet.startswith(prefix + ".")


def test_status_and_interfaces_of_a_running_guest(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(memory=300, cores=1)
    assert guest.api.interfaces.get() is None
    stopped = guest.api.status.current.get()
    assert (stopped["status"], stopped["maxdisk"], stopped["type"]) == ("stopped", 2 << 30, "lxc")
    assert "pid" not in stopped
    guest.start().wait_booted()
    current = guest.api.status.current.get()
    assert (current["status"], current["maxmem"], current["cpus"], current["ha"]) == (
        "running",
        300 << 20,
        1,
        {"managed": 0},
    )
    assert 1 << 20 < current["mem"] < 300 << 20
    assert current["disk"] > 0
    eth0 = next(link for link in guest.api.interfaces.get() if link["name"] == "eth0")
    assert eth0["inet"] == f"{node.address(guest.vmid)}/16"
    assert eth0["hwaddr"].upper() in guest.config["net0"]
    assert guest.vmid in [int(entry["vmid"]) for entry in node.lxc.get()]


def test_limits_are_set_and_changed_while_it_runs(make_guest: Guests) -> None:
    guest = make_guest(memory=256, swap=0, start=True).wait_booted()
    eater = "import sys; x = bytearray(200 << 20); print('ate')"
    assert guest.sh(f'python3 -c "{eater}"', check=False) == "ate"
    guest.api.config.put(memory=128, cores=1)
    assert guest.sh(f'python3 -c "{eater}"', check=False) == ""
    assert guest.run("nproc") == "1"
    assert guest.config["memory"] == 128


def test_power_off_and_reboot_from_inside(make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    first = guest.runtime.find_init()
    guest.api.config.put(nameserver="192.0.2.53")
    assert "192.0.2.53" not in guest.run("cat", "/etc/resolv.conf")
    guest.sh("systemctl reboot", check=False)
    wait_until(lambda: guest.runtime.find_init() not in (None, first), seconds=20, what="reboot")
    guest.wait_booted()
    assert "192.0.2.53" in guest.run("cat", "/etc/resolv.conf")
    assert "pending" not in str(guest.api.pending.get())
    guest.sh("systemctl poweroff", check=False)
    wait_until(lambda: guest.status == "stopped", what="power-off")
    assert not Path("/sys/class/net", guest.runtime.veth(0)).exists()


def test_shutdown_reboot_and_stop(make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    first = guest.runtime.find_init()
    guest.on.do(guest.api.status.reboot.post())
    assert guest.runtime.find_init() not in (None, first)
    guest.wait_booted().shutdown()
    assert guest.status == "stopped"
    guest.start().stop()
    assert guest.status == "stopped"


def test_a_shutdown_that_is_ignored_fails_or_is_forced(make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    guest.sh(
        "systemd-run --unit=stay -p TimeoutStopSec=600 -p ExecStop='/bin/sleep 600' -p RemainAfterExit=1 /bin/true"
    )
    upid = guest.api.status.shutdown.post(timeout=2)
    assert "failed: exit code" in guest.on.wait(upid)
    assert guest.status == "running"
    guest.on.do(guest.api.status.shutdown.post(timeout=2, forceStop=1))
    assert guest.status == "stopped"


def reason(caught: pytest.ExceptionInfo[ResourceException]) -> str:
    return str(caught.value.content)


def test_refusals_in_proxmox_words(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    for call, words in (
        (guest.api.status.start.post, f"CT {guest.vmid} already running"),
        (guest.api.delete, f"unable to destroy CT {guest.vmid} - container is running"),
        (lambda: make_guest.request(guest.vmid), f"CT {guest.vmid} already exists on node 'pve'"),
        (lambda: guest.api.config.put(description="x", digest="0" * 40), "detected modified configuration"),
        (guest.api.config.put, "no options specified"),
        (node.lxc(9999).config.get, "Configuration file 'nodes/pve/lxc/9999.conf' does not exist"),
        (
            lambda: guest.api.clone.post(newid=make_guest.claim()),
            "Cannot do full clones on a running container without snapshots",
        ),
    ):
        with pytest.raises(ResourceException) as caught:
            call()
        assert words in reason(caught)
    guest.stop()
    with pytest.raises(ResourceException) as caught:
        guest.api.status.stop.post()
    assert reason(caught) == f"CT {guest.vmid} not running"
    with pytest.raises(ResourceException) as caught:
        guest.api.status.reboot.post()
    assert reason(caught) == f"VM {guest.vmid} not running"
    guest.api.config.put(protection=1)
    with pytest.raises(ResourceException) as caught:
        guest.api.delete()
    assert reason(caught) == f"can't remove CT {guest.vmid} - protection mode enabled"
    guest.api.config.put(protection=0)


def test_a_bridge_that_does_not_exist_fails_the_start_only(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(net0="name=eth0,bridge=vmbr9,ip=dhcp")
    assert node.wait(guest.api.status.start.post()) == "bridge 'vmbr9' does not exist"
    assert guest.status == "stopped"


def test_a_destroyed_guest_leaves_nothing(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(mp0="local:1,mp=/data", start=True)
    root, socket_name = guest.rootfs(), guest.runtime.socket_name()
    assert socket_name in list_socket_names()
    log = node.do(guest.api.delete(force=1, purge=1))
    assert f"forced to stop CT {guest.vmid} before destroying!" in log
    assert f"purging CT {guest.vmid} from related configurations.." in log
    assert not root.exists()
    assert socket_name not in list_socket_names()
    assert not guest.runtime.config.parent.exists()
    assert not Path("/sys/class/net", guest.runtime.veth(0)).exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{guest.runtime.cgroup}"))
    assert not Path("/sys/fs/cgroup", guest.runtime.cgroup).exists()


def test_a_guest_outlives_the_node(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True)
    init = guest.runtime.find_init()
    node.restart()
    assert guest.status == "running"
    assert guest.runtime.find_init() == init
    guest.stop()


def test_the_console_of_each_start_is_kept(make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    assert "Welcome to" in guest.runtime.console_log.read_text(errors="replace")
    guest.stop()
    guest.start()
    assert "Welcome to" in guest.runtime.console_log.with_suffix(".log.1").read_text(errors="replace")


def test_network_devices_change_while_it_runs(node: RunningNode, make_guest: Guests) -> None:
    guest = make_guest(start=True).wait_booted()
    net0 = guest.config["net0"]

    def carrier(name: str = "eth0") -> str:
        return guest.sh(f"cat /sys/class/net/{name}/carrier", check=False)

    assert carrier() == "1"
    guest.api.config.put(net0=net0 + ",link_down=1")
    wait_until(lambda: carrier() == "0", what="link down")
    guest.api.config.put(net0=net0)
    wait_until(lambda: carrier() == "1", what="link up")
    guest.api.config.put(net1=f"name=eth1,bridge=vmbr0,ip={node.address(guest.vmid).replace('.1.', '.2.')}/16")
    assert carrier("eth1") == "1"
    assert "eth1" in guest.run("cat", "/etc/network/interfaces")
    guest.api.config.put(delete="net1")
    assert guest.sh("ls /sys/class/net").split() == ["eth0", "lo"]
    with pytest.raises(ResourceException) as caught:
        guest.api.config.put(net2="name=eth2,bridge=vmbr9")
    assert caught.value.status_code == 400
    assert caught.value.errors == {"net2": "unable to hotplug net2: bridge 'vmbr9' does not exist\n"}


def test_a_guest_that_starts_unplugged_disturbs_nobody(node: RunningNode, make_guest: Guests) -> None:
    old = make_guest(start=True).wait_booted()
    new = make_guest(net0=old.config["net0"] + ",link_down=1", start=True).wait_booted()
    assert new.sh("cat /sys/class/net/eth0/carrier", check=False) == "0"
    address = node.address(old.vmid)
    assert address in new.run("ip", "address", "show", "eth0")
    assert has_answer(address)
    assert old.status == new.status == "running"


def starts_of(guest: Guest) -> list[str]:
    tasks = guest.on.api.nodes("pve").tasks.get(vmid=guest.vmid, source="all", typefilter="vzstart")
    return [task["upid"] for task in tasks]


def test_create_with_start_starts_in_a_task_of_its_own(make_guest: Guests, node: RunningNode) -> None:
    guest = Guest(node, make_guest.claim())
    node.do(make_guest.request(guest.vmid, start=1))
    wait_until(lambda: guest.status == "running", what="start")
    assert len(starts_of(guest)) == 1
