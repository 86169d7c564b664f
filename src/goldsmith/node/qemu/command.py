"""QEMU's command line for a virtual machine: devices and their places as on a Proxmox, with what Debian's QEMU has."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from goldsmith.base.process import Argument
from goldsmith.node.properties import parse_properties
from goldsmith.node.qemu.config import Options
from goldsmith.node.qemu.properties import Drive, Net
from goldsmith.node.qemu.runtime import Runtime

PROGRAM = "qemu-system-x86_64"
_SCSI_IDS = {"virtio-scsi-pci": 31, "virtio-scsi-single": 1, "pvscsi": 16, "megasas": 64}
"""How many disks a controller gets; others have 7."""
_SLOTS = {
    "qga0": 8, "scsihw0": 5, "scsihw1": 6,
    **{f"virtio{number}": 10 + number for number in range(6)}, **{f"net{number}": 18 + number for number in range(6)},
}  # fmt: skip
"""Places on the PCI bus (PVE 8.4): network interfaces inside are named after them (ens18)."""
_MODELS = {
    "x86-64-v2": "Nehalem", "x86-64-v2-AES": "Westmere", "x86-64-v3": "Haswell-noTSX",
    "x86-64-v4": "Skylake-Server-noTSX-IBRS",
}  # fmt: skip
"""Proxmox's own processor models, and QEMU's that come near them."""
_EMULATED = re.compile(r"host|max|x86-64-v\d.*")


@dataclass(frozen=True)
class Machine:
    """Everything that a start needs to know. `images`: the files of drives by their keys."""

    options: Options
    runtime: Runtime
    accel: str
    images: Mapping[str, Path] = field(default_factory=dict)


def pick_accel(wanted: str, options: Options, cpuinfo: str = "", device: Path = Path("/dev/kvm")) -> str:
    """Return `kvm` or `tcg`.

    A /dev/kvm that opens is not enough: in some clouds and sandboxes guests hang on it. There the processor does not
    say that it can virtualise.
    """
    if not options.flag("kvm", default=True):
        return "tcg"
    if wanted != "auto":
        return wanted
    flags = set((cpuinfo or Path("/proc/cpuinfo").read_text()).split())
    can = bool(flags & {"vmx", "svm"}) and os.access(device, os.R_OK | os.W_OK)
    return "kvm" if can else "tcg"


def render_command(machine: Machine) -> list[Argument]:
    """Return QEMU's command line; it goes into the background once all devices are there."""
    options, runtime = machine.options, machine.runtime
    name = options.get("name", f"vm{runtime.vmid}")
    return [
        PROGRAM, "-name", _escape(name), "-daemonize", "-pidfile", runtime.pid_file, "-nodefaults",
        "-machine", f"pc,accel={machine.accel}", *_render_processor(machine), "-m", options.memory,
        "-chardev", _socket("qmp", runtime.monitor), "-mon", "chardev=qmp,mode=control",
        "-boot", "strict=on", *_render_identity(options), *_render_display(options),
        *_render_agent(options, runtime), *_render_serials(options, runtime), *_render_drives(machine),
        *_render_nets(options, runtime), *shlex.split(options.get("args")),
    ]  # fmt: skip


def _escape(text: str | Path) -> str:
    return str(text).replace(",", ",,")


def _socket(name: str, path: Path, extra: str = "") -> str:
    return f"socket,id={name},path={_escape(path)},server=on,wait=off{extra}"


def _render_processor(machine: Machine) -> list[Argument]:
    options = machine.options
    cores, sockets = options.number("cores", 1), options.number("sockets", 1)
    wanted = parse_properties(options.get("cpu"), "cputype") if options.get("cpu") else {}
    model, flags = wanted.get("cputype", "kvm64"), wanted.get("flags", "")
    if machine.accel == "tcg":
        model = "max" if _EMULATED.fullmatch(model) else "qemu64" if model == "kvm64" else model
    model = ",".join([_MODELS.get(model, model), *(flag for flag in flags.split(";") if flag)])
    return ["-cpu", model, "-smp", f"{cores * sockets},sockets={sockets},cores={cores},threads=1"]


def _render_identity(options: Options) -> list[Argument]:
    """Render what makes the machine known to its guest."""
    smbios, generation = parse_properties(options.get("smbios1")), options.get("vmgenid")
    identity: list[Argument] = ["-smbios", f"type=1,uuid={smbios['uuid']}"] if "uuid" in smbios else []
    return [*identity, *(["-device", f"vmgenid,guid={generation}"] if generation else [])]


def _render_display(options: Options) -> list[Argument]:
    kind = parse_properties(options.get("vga", "std"), "type").get("type", "std")
    return ["-display", "none", "-vga", "none" if kind.startswith("serial") else kind]


def _render_agent(options: Options, runtime: Runtime) -> list[Argument]:
    if not options.has_agent:
        return []
    return [
        "-chardev", _socket("qga0", runtime.agent), "-device", f"virtio-serial-pci,id=qga0{_slot('qga0')}",
        "-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0",
    ]  # fmt: skip


def _render_serials(options: Options, runtime: Runtime) -> list[Argument]:
    arguments: list[Argument] = []
    for key in options.serials():
        log = f",logfile={_escape(runtime.serial_log(key))}"
        arguments += ["-chardev", _socket(key, runtime.serial(key), log), "-device", f"isa-serial,chardev={key}"]
    return arguments


def _slot(name: str) -> str:
    return f",bus=pci.0,addr={_SLOTS[name]:#x}" if name in _SLOTS else ""


def _boot_index(options: Options, key: str) -> str:
    order = options.boot_order()
    return f",bootindex={100 + order.index(key)}" if key in order else ""


def _render_drives(machine: Machine) -> list[Argument]:
    arguments: list[Argument] = []
    controllers: set[str] = set()
    for drive in machine.options.drives():
        if drive.interface == "scsi":
            arguments += _render_controller(machine.options, drive, controllers)
        if drive.interface == "virtio" and _wants_thread(machine.options, drive):
            arguments += ["-object", f"iothread,id=iothread-{drive.key}"]
        arguments += ["-drive", _render_image(drive, machine.images.get(drive.key))]
        arguments += ["-device", _render_device(machine.options, drive)]
    return arguments


def _wants_thread(options: Options, drive: Drive) -> bool:
    is_single = drive.interface == "scsi" and options.get("scsihw") == "virtio-scsi-single"
    return drive.flag("iothread") and (drive.interface == "virtio" or is_single)


def _place_scsi(options: Options, drive: Drive) -> tuple[str, int]:
    """Return a SCSI disk's controller and its number there."""
    room = _SCSI_IDS.get(options.get("scsihw", "lsi"), 7)
    return f"scsihw{drive.index // room}", drive.index % room


def _render_controller(options: Options, drive: Drive, done: set[str]) -> list[Argument]:
    name, kind = _place_scsi(options, drive)[0], options.get("scsihw", "lsi")
    if name in done:
        return []
    done.add(name)
    thread = f",iothread=iothread-{drive.key}" if _wants_thread(options, drive) else ""
    model = "virtio-scsi-pci" if kind == "virtio-scsi-single" else kind
    before: list[Argument] = ["-object", f"iothread,id=iothread-{drive.key}"] if thread else []
    return [*before, "-device", f"{model},id={name}{_slot(name)}{thread}"]


def _render_image(drive: Drive, path: Path | None) -> str:
    parts = ["if=none", f"id=drive-{drive.key}"]
    if path is not None:
        form = "qcow2" if path.suffix == ".qcow2" and not drive.is_cdrom else "raw"
        parts = [f"file={_escape(path)}", f"format={form}", *parts]
    # Proxmox's default, no cache, needs O_DIRECT, which not every file system has.
    parts.append(f"cache={drive.get('cache') or 'writeback'}")
    parts.append(f"aio={drive.get('aio') or 'threads'}")
    parts += ["media=cdrom"] if drive.is_cdrom else ["discard=unmap"] if drive.get("discard") == "on" else []
    parts += ["readonly=on"] if drive.is_cdrom or drive.flag("ro") else []
    return ",".join(parts)


def _render_device(options: Options, drive: Drive) -> str:
    kind = "cd" if drive.is_cdrom else "hd"
    match drive.interface:
        case "virtio":
            device = f"virtio-blk-pci{_slot(drive.key)}"
            device += f",iothread=iothread-{drive.key}" if _wants_thread(options, drive) else ""
        case "scsi":
            controller, number = _place_scsi(options, drive)
            device = f"scsi-{kind},bus={controller}.0,scsi-id={number}"
        case _:
            device = f"ide-{kind},bus=ide.{drive.index // 2},unit={drive.index % 2}"
    serial = f",serial={drive.get('serial')}" if drive.get("serial") else ""
    speed = ",rotation_rate=1" if drive.flag("ssd") and drive.interface != "virtio" else ""
    return f"{device},drive=drive-{drive.key},id={drive.key}{serial}{speed}{_boot_index(options, drive.key)}"


def _render_nets(options: Options, runtime: Runtime) -> list[Argument]:
    return [argument for net in options.nets() for argument in _render_net(options, runtime, net)]


def _render_net(options: Options, runtime: Runtime, net: Net) -> list[Argument]:
    """Render a device; without a bridge it is on a network that QEMU itself plays, as on a Proxmox."""
    device = "virtio-net-pci" if net.model == "virtio" else net.model
    tap = f"tap,id={net.key},ifname={runtime.tap(net.index)},script=no,downscript=no"
    device += f",mac={net.mac},netdev={net.key},id={net.key}{_slot(net.key)}{_boot_index(options, net.key)}"
    return [
        "-netdev", tap if net.bridge else f"user,id={net.key}",
        "-device", device,
    ]  # fmt: skip
