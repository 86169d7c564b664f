"""Virtual machines of the embedded node: their life, their guest agent, what is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.node.qemu.runtime import Runtime
from tests.lxc.guests import wait_until
from tests.vm.image import BootImage
from tests.vm.machines import VmNode

pytestmark = pytest.mark.root


@pytest.fixture
def empty(vm_node: VmNode) -> Iterator[int]:
    """A machine of 64 MiB with an empty disk and an agent that nobody is behind; it does not run."""
    vmid = 901
    vm_node.do(vm_node.qemu.post(vmid=vmid, memory=64, agent="1", scsi0="plain:1", scsihw="virtio-scsi-pci"))
    yield vmid
    if vm_node.node.machine_configs.joinpath(f"{vmid}.conf").exists():
        vm_node.do(vm_node.qemu(vmid).status.stop.post())
        vm_node.do(vm_node.qemu(vmid).delete(purge=1))


def images(node: VmNode, vmid: int) -> list[str]:
    """The names of a machine's disk files, on whatever storage."""
    return sorted(path.name for path in node.settings.state.glob(f"*/images/{vmid}/*"))


def test_a_running_machine_tells_what_it_is(vm_node: VmNode, vm: int) -> None:
    status = vm_node.qemu(vm).status.current.get()
    assert (status["status"], status["qmpstatus"]) == ("running", "running")
    assert (status["name"], status["agent"]) == ("debian", 1)
    assert (status["cpus"], status["maxmem"], status["maxdisk"]) == (2, 768 << 20, 2 << 30)
    assert Path(f"/proc/{status['pid']}/comm").read_text().startswith("qemu-system")
    listed = {guest["id"]: guest for guest in vm_node.api.cluster.resources.get(type="vm")}
    assert listed[f"qemu/{vm}"]["type"] == "qemu"
    config = vm_node.qemu(vm).config.get()
    assert (config["boot"], config["cores"], config["memory"]) == ("order=virtio0;net0", 2, "768")
    assert config["virtio0"].startswith(f"plain:{vm}/vm-{vm}-disk-0.raw,")


def test_a_program_inside_gets_bytes_and_gives_bytes(vm_node: VmNode, vm: int) -> None:
    every = "".join(chr(code) for code in range(1, 256))
    status = vm_node.run(vm, "/bin/sh", "-c", "cat; printf '\\000\\377' >&2; exit 3", data=every)
    assert (status["exited"], status["exitcode"]) == (1, 3)
    assert status["out-data"] == every
    assert status["err-data"] == "\0\xff"


def test_input_is_limited_and_large_output_comes_whole(vm_node: VmNode, vm: int) -> None:
    largest = "x" * (64 << 10)
    assert vm_node.run(vm, "/usr/bin/wc", "-c", data=largest)["out-data"].strip() == str(64 << 10)
    refused = vm_node.refusal(vm_node.qemu(vm).agent.exec.post, command=["cat"], **{"input-data": largest + "x"})
    assert refused.status_code == 400
    assert "value may only be 65536 characters long" in str(refused)
    status = vm_node.run(vm, "/usr/bin/head", "-c", str(1 << 20), "/dev/zero")
    assert status["out-data"] == "\0" * (1 << 20)


def test_a_program_that_is_not_there_and_a_pid_that_is_nobodys(vm_node: VmNode, vm: int) -> None:
    refused = vm_node.refusal(vm_node.qemu(vm).agent.exec.post, command=["/no/such/program"])
    assert "Agent error: Guest agent command failed, error was 'Failed to execute child process" in str(refused)
    assert "Agent error: " in str(vm_node.refusal(vm_node.qemu(vm).agent("exec-status").get, pid=4194000))
    assert "Wide character" in str(
        vm_node.refusal(vm_node.qemu(vm).agent.exec.post, command=["cat"], **{"input-data": "\u20ac"})
    )


def test_files_are_written_and_read(vm_node: VmNode, vm: int) -> None:
    agent, content = vm_node.qemu(vm).agent, "bytes \x00\x01\xff end\n"
    agent("file-write").post(file="/root/file", content=content)
    assert agent("file-read").get(file="/root/file") == {"content": content, "bytes-read": len(content)}
    agent("file-write").post(file="/root/file", content="aGVsbG8=", encode=0)
    assert agent("file-read").get(file="/root/file")["content"] == "hello"
    agent("file-write").post(file="/root/file", content="y" * (60 << 10))
    assert vm_node.refusal(agent("file-write").post, file="/x", content="y" * ((60 << 10) + 1)).status_code == 400
    assert "Agent error: failed to open file" in str(vm_node.refusal(agent("file-read").get, file="/no/such/file"))


def test_the_guest_says_what_it_is_and_where(vm_node: VmNode, vm: int) -> None:
    agent = vm_node.qemu(vm).agent
    assert agent("get-osinfo").get()["result"]["id"] == "debian"
    assert "guest-exec" in {command["name"] for command in agent.info.get()["result"]["supported_commands"]}
    assert {"name": "exec-status"} in agent.get()
    prefix = ".".join(vm_node.settings.network.split(".")[:2])

    def find_address() -> str:
        found = agent("network-get-interfaces").get()["result"]
        shown = [entry["ip-address"] for item in found for entry in item.get("ip-addresses", [])]
        return next((address for address in shown if address.startswith(f"{prefix}.")), "")

    assert wait_until(find_address, seconds=60, what="an address by DHCP")
    assert vm_node.run(vm, "/usr/bin/python3", "-c", "print(6 * 7)")["out-data"] == "42\n"


def test_rights_on_the_agent(vm_node: VmNode, vm: int) -> None:
    api = vm_node.api
    api.access.users.post(userid="watch@pve")
    api.access.roles.post(roleid="Agents", privs="VM.Monitor")
    api.access.acl.put(path=f"/vms/{vm}", users="watch@pve", roles="PVEAuditor")
    watch = vm_node.login("watch@pve").nodes("pve").qemu
    assert [machine["vmid"] for machine in watch.get()] == [vm]
    refused = vm_node.refusal(watch(vm).agent.exec.post, command=["true"])
    assert refused.status_code == 403
    assert f"/vms/{vm}, VM.Monitor" in str(refused)
    api.access.acl.put(path=f"/vms/{vm}", users="watch@pve", roles="Agents")
    assert watch(vm).agent.ping.post() == {"result": {}}
    assert vm_node.refusal(watch(vm).status.stop.post).status_code == 403


def test_what_only_root_may(vm_node: VmNode, boot_image: BootImage) -> None:
    create = vm_node.qemu.post
    assert "only root can set 'args' config" in str(vm_node.refusal(create, vmid=902, args="-S"))
    refused = vm_node.refusal(create, vmid=902, scsi0=f"plain:0,import-from={boot_image.disk}")
    assert "Only root can pass arbitrary filesystem paths" in str(refused)
    assert images(vm_node, 902) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bios": "ovmf"}, "only 'seabios' is"),
        ({"hostpci0": "00:02.0"}, "not supported by the embedded node"),
        ({"scsi0": "plain:1,iops=5"}, "'iops' not supported by the embedded node"),
        ({"net0": "virtio,bridge=vmbr0,tag=5"}, "'tag' not supported by the embedded node"),
        ({"scsi0": "plain:1,import-from=/x"}, "'import-from' requires special syntax"),
        ({"scsi0": "nowhere:1"}, "storage 'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_is_refused(vm_node: VmNode, options: dict[str, str], text: str) -> None:
    assert text in str(vm_node.refusal(vm_node.root_qemu.post, vmid=902, **options))


def test_one_space_of_ids_with_containers(vm_node: VmNode, empty: int) -> None:
    container = vm_node.node.configs / "903.conf"
    container.write_text("arch: amd64\nhostname: ct\nmemory: 64\n")
    try:
        refused = str(vm_node.refusal(vm_node.qemu.post, vmid=903))
        assert "unable to create VM 903 - CT 903 already exists on node 'pve'" in refused
        assert "VM 903 already exists" in str(vm_node.refusal(vm_node.api.cluster.nextid.get, vmid=903))
    finally:
        container.unlink()
    refused = str(vm_node.refusal(vm_node.lxc.post, vmid=empty, ostemplate="local:vztmpl/x.tar.zst"))
    assert f"VM {empty} already exists on node 'pve'" in refused
    assert "already exists" in str(vm_node.refusal(vm_node.api.cluster.nextid.get, vmid=empty))


def test_an_agent_that_is_not_there(vm_node: VmNode, empty: int) -> None:
    ping, qemu = vm_node.qemu(empty).agent.ping.post, vm_node.qemu(empty)
    assert f"VM {empty} is not running" in str(vm_node.refusal(ping))
    vm_node.do(qemu.status.start.post())
    assert "QEMU guest agent is not running" in str(vm_node.refusal(ping))
    vm_node.do(qemu.status.stop.post())
    qemu.config.put(delete="agent")
    assert "No QEMU guest agent configured" in str(vm_node.refusal(ping))
    assert "does not exist" in str(vm_node.refusal(vm_node.qemu(999).agent.ping.post))


def test_a_crash_of_qemu_leaves_a_stopped_machine_that_starts_again(vm_node: VmNode, empty: int) -> None:
    qemu = vm_node.qemu(empty)
    vm_node.do(qemu.status.start.post())
    assert "already running" in vm_node.wait(qemu.status.start.post())
    assert f"VM {empty} is running - destroy failed" in str(vm_node.refusal(qemu.delete))
    os.kill(qemu.status.current.get()["pid"], signal.SIGKILL)
    wait_until(lambda: qemu.status.current.get()["status"] == "stopped", what="the end of QEMU")
    vm_node.do(qemu.status.start.post())
    assert qemu.status.current.get()["status"] == "running"


def test_a_machine_outlives_the_node(vm_node: VmNode, empty: int) -> None:
    vm_node.do(vm_node.qemu(empty).status.start.post())
    pid = vm_node.qemu(empty).status.current.get()["pid"]
    vm_node.restart()
    vm_node.crash()
    vm_node.start()
    assert vm_node.qemu(empty).status.current.get()["pid"] == pid


def test_options_change_at_once_or_at_the_next_start(vm_node: VmNode, empty: int) -> None:
    qemu = vm_node.qemu(empty)
    qemu.config.put(cores=2, tags="b;a")
    assert (qemu.config.get()["cores"], qemu.config.get()["tags"]) == (2, "a;b")
    vm_node.do(qemu.status.start.post())
    qemu.config.put(name="other", memory="80")
    now = qemu.config.get(current=1)
    assert (now["name"], now["memory"]) == ("other", "64")
    assert {"key": "memory", "value": "64", "pending": "80"} in qemu.pending.get()
    vm_node.do(qemu.status.stop.post())
    vm_node.do(qemu.status.start.post())
    assert qemu.config.get(current=1)["memory"] == "80"
    assert "VM is locked" not in vm_node.log(qemu.status.stop.post())


def test_disks_of_both_formats_and_storages_are_made_and_freed(vm_node: VmNode, empty: int) -> None:
    qemu = vm_node.qemu(empty)
    vm_node.do(qemu.config.post(scsi1="plain:1,format=qcow2", scsi2="local:1"))
    assert images(vm_node, empty) == [f"vm-{empty}-disk-0.raw"] * 2 + [f"vm-{empty}-disk-1.qcow2"]
    assert qemu.config.get()["scsi1"] == f"plain:{empty}/vm-{empty}-disk-1.qcow2,size=1G"
    vm_node.do(qemu.status.start.post())
    vm_node.do(qemu.status.stop.post())
    content = vm_node.api.nodes("pve").storage("plain").content.get(content="images", vmid=empty)
    assert sorted((item["format"], item["size"]) for item in content) == [("qcow2", 1 << 30), ("raw", 1 << 30)]
    qemu.config.put(delete="scsi1")
    assert qemu.config.get()["unused0"] == f"plain:{empty}/vm-{empty}-disk-1.qcow2"
    qemu.config.put(delete="unused0")
    assert f"vm-{empty}-disk-1.qcow2" not in images(vm_node, empty)
    vm_node.do(qemu.delete())
    assert images(vm_node, empty) == []
    assert not Runtime(vm_node.node, empty).place.exists()


def test_a_bad_start_leaves_nothing_running(vm_node: VmNode, empty: int) -> None:
    vm_node.root_qemu(empty).config.put(args="-device nonsense")
    upid = vm_node.qemu(empty).status.start.post()
    assert vm_node.wait(upid) == "start failed: QEMU exited with code 1"
    assert "'nonsense' is not a valid device model name" in vm_node.log(upid)
    vm_node.root_qemu(empty).config.put(delete="args")
    vm_node.qemu(empty).config.put(net0="virtio,bridge=nobridge")
    assert vm_node.wait(vm_node.qemu(empty).status.start.post()) == "bridge 'nobridge' does not exist"
    assert vm_node.qemu(empty).status.current.get()["status"] == "stopped"


def test_a_pool_lists_its_machines(vm_node: VmNode, empty: int) -> None:
    vm_node.api.pools.post(poolid="machines")
    vm_node.api.pools.put(poolid="machines", vms=str(empty))
    assert [member["id"] for member in vm_node.api.pools("machines").get()["members"]] == [f"qemu/{empty}"]
    vm_node.do(vm_node.qemu(empty).delete())
    assert vm_node.api.pools("machines").get()["members"] == []


def test_protection(vm_node: VmNode, empty: int) -> None:
    vm_node.qemu(empty).config.put(protection=1)
    refused = vm_node.refusal(vm_node.qemu(empty).delete)
    assert f"can't remove VM {empty} - protection mode enabled" in str(refused)
    vm_node.qemu(empty).config.put(protection=0)


def test_a_machine_reboots_and_shuts_down_by_its_agent(vm_node: VmNode, vm: int) -> None:
    qemu = vm_node.qemu(vm)
    before = qemu.status.current.get()["pid"]
    vm_node.do(qemu.status.reboot.post(timeout=120))
    vm_node.wait_for_agent(vm)
    assert qemu.status.current.get()["pid"] != before
    vm_node.do(qemu.status.shutdown.post(timeout=120))
    assert qemu.status.current.get()["status"] == "stopped"
    vm_node.do(qemu.status.start.post())  # for whoever comes next
    vm_node.wait_for_agent(vm)
