"""Options in, config files and command lines out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from goldsmith.node.context import Node
from goldsmith.node.faults import ParameterFault
from goldsmith.node.guestconf import list_pending
from goldsmith.node.qemu.command import Machine, pick_accel, render_command
from goldsmith.node.qemu.config import FILES, Options
from goldsmith.node.qemu.options import render_default_boot, render_params
from goldsmith.node.qemu.properties import Drive, Net
from goldsmith.node.qemu.runtime import Runtime
from goldsmith.node.schema import check_parameters
from goldsmith.node.settings import NodeSettings

FILE = """\
#two%3A
#lines
agent: 1
args: -kernel "/a b" -S
boot: order=virtio0;net0
cores: 2
memory: 2048
name: web
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0
serial0: socket
virtio0: plain:100/vm-100-disk-0.qcow2,size=8G

[PENDING]
delete: args
cores: 4
"""
QEMU = "/nodes/{node}/qemu"


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(Node(NodeSettings(state=tmp_path)), 100)


def plan(runtime: Runtime, options: dict[str, str], **images: str) -> str:
    found = {key: Path(path) for key, path in images.items()}
    return " ".join(str(word) for word in render_command(Machine(Options(options), runtime, "tcg", found)))


def test_a_config_file_both_ways() -> None:
    config = FILES.parse(FILE)
    assert FILES.render(config) == FILE
    assert (config.current.memory, config.current.has_agent) == (2048, True)
    assert config.merged().get("cores") == "4"
    assert config.current.as_json()["cores"] == 2
    assert config.current.as_json()["memory"] == "2048"
    assert {"key": "cores", "value": 2, "pending": "4"} in list_pending(config)


def test_a_command_line(runtime: Runtime) -> None:
    options = FILES.parse(FILE).current.values
    said = plan(runtime, options, virtio0="/d/vm-100-disk-0.qcow2")
    assert said.startswith("qemu-system-x86_64 -name web -daemonize -pidfile ")
    assert "-machine pc,accel=tcg -cpu qemu64 -smp 2,sockets=1,cores=2,threads=1 -m 2048" in said
    assert "-drive file=/d/vm-100-disk-0.qcow2,format=qcow2,if=none,id=drive-virtio0,cache=writeback" in said
    assert "virtio-blk-pci,bus=pci.0,addr=0xa,drive=drive-virtio0,id=virtio0,bootindex=100" in said
    assert "-netdev tap,id=net0,ifname=tap100i0,script=no,downscript=no" in said
    assert "virtio-net-pci,mac=BC:24:11:00:00:01,netdev=net0,id=net0,bus=pci.0,addr=0x12,bootindex=101" in said
    assert "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0" in said
    assert said.endswith("-kernel /a b -S")
    assert all(len(str(path)) < 108 for path in (runtime.agent, runtime.monitor, runtime.serial("serial0")))


def test_scsi_disks_share_a_controller_or_have_one_each(runtime: Runtime) -> None:
    disks = {"scsi0": "plain:100/a.raw,ssd=1,discard=on", "scsi1": "plain:100/b.raw"}
    shared = plan(runtime, {**disks, "scsihw": "virtio-scsi-pci"}, scsi0="/a.raw", scsi1="/b.raw")
    assert shared.count("-device virtio-scsi-pci,") == 1
    assert "discard=unmap" in shared
    assert "scsi-hd,bus=scsihw0.0,scsi-id=0,drive=drive-scsi0,id=scsi0,rotation_rate=1" in shared
    each = plan(runtime, {**disks, "scsihw": "virtio-scsi-single"}, scsi0="/a.raw", scsi1="/b.raw")
    assert each.count("-device virtio-scsi-pci,") == 2
    assert "-device lsi,id=scsihw0" in plan(runtime, disks, scsi0="/a.raw", scsi1="/b.raw")


def test_cd_drives_are_read_only_and_may_be_empty(runtime: Runtime) -> None:
    said = plan(runtime, {"ide2": "local:iso/x.iso,media=cdrom", "ide3": "none,media=cdrom"}, ide2="/x.iso")
    assert "file=/x.iso,format=raw,if=none,id=drive-ide2,cache=writeback,aio=threads,media=cdrom,readonly=on" in said
    assert "ide-cd,bus=ide.1,unit=0,drive=drive-ide2,id=ide2" in said
    assert "-drive if=none,id=drive-ide3" in said


def test_commas_in_names_and_paths_do_not_add_options(runtime: Runtime) -> None:
    said = plan(runtime, {"name": "a,b", "virtio0": "plain:100/x.raw"}, virtio0="/x,snapshot=on.raw")
    assert "-name a,,b " in said
    assert "file=/x,,snapshot=on.raw," in said


def test_kvm_only_where_the_processor_says_that_it_can(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    assert pick_accel("auto", Options(), "flags: fpu sse2", device) == "tcg"
    assert pick_accel("auto", Options(), "flags: fpu vmx", device) == "kvm"
    assert pick_accel("auto", Options(), "flags: fpu svm", tmp_path / "none") == "tcg"
    assert pick_accel("kvm", Options(), "flags: fpu", device) == "kvm"
    assert pick_accel("kvm", Options({"kvm": "0"}), "flags: vmx", device) == "tcg"


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("virtio=BC:24:11:00:00:01,bridge=vmbr0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ("model=e1000,macaddr=BC:24:11:00:00:01", "e1000=BC:24:11:00:00:01"),
        ("bridge=vmbr0,virtio=BC:24:11:00:00:01,link_down=1", "virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1"),
    ],
)
def test_network_devices_as_they_are_stored(text: str, stored: str) -> None:
    assert Net.parse("net0", text).complete().render() == stored
    check_parameters("POST", QEMU, {"node": "pve", "vmid": 100, "net0": text})


def test_a_device_without_an_address_gets_one() -> None:
    assert Net.parse("net0", "virtio,bridge=vmbr0").complete().render().startswith("virtio=BC:24:11:")
    check_parameters("POST", QEMU, {"node": "pve", "vmid": 100, "net0": "virtio,bridge=vmbr0"})


def test_drives_that_ask_to_be_made() -> None:
    assert Drive.parse("scsi0", "plain:8,format=qcow2").request() == ("plain", 8 << 30)
    assert Drive.parse("scsi0", "8").request("plain") == ("plain", 8 << 30)
    assert Drive.parse("scsi0", "plain:100/vm-100-disk-0.raw").request() is None
    made = Drive.parse("scsi0", "plain:0,import-from=/x,ssd=1,format=raw").with_volume("plain:1/x.raw", 1 << 30)
    assert made.render() == "plain:1/x.raw,size=1G,ssd=1"


def test_the_first_of_each_kind_is_booted_from() -> None:
    devices = {"net1": "virtio=x", "net0": "virtio=y"}
    options = Options({**devices, "virtio0": "p:1", "scsi1": "p:1", "ide2": "none,media=cdrom"})
    assert render_default_boot(options) == "order=scsi1;ide2;net0"
    assert render_default_boot(Options()) == ""


@pytest.mark.parametrize(
    "params",
    [
        {"bios": "ovmf"}, {"efidisk0": "plain:1"}, {"hostpci0": "x"}, {"sata0": "plain:1"}, {"balloon": 512},
        {"ipconfig0": "ip=dhcp"}, {"scsi0": "plain:1,iops=1"}, {"net0": "virtio,rate=1"}, {"serial0": "/dev/ttyS0"},
        {"vga": "qxl"}, {"boot": "cdn"}, {"agent": "1,type=isa"}, {"scsi0": "plain:1,format=vmdk"},
        {"archive": "local:backup/x"}, {"machine": "q35"}, {"hookscript": "local:snippets/x"}, {"unused0": "p:1/x"},
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_its_name(params: dict[str, Any]) -> None:
    with pytest.raises(ParameterFault) as caught:
        render_params({"node": "pve", "vmid": 100, **params})
    assert list(caught.value.errors) == list(params)


def test_what_clients_like_to_send_is_taken() -> None:
    sent = {"acpi": True, "numa": False, "balloon": 0, "kvm": True, "bios": "seabios", "cpu": "x86-64-v2-AES"}
    assert render_params(sent)["acpi"] == "1"
