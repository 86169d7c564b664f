"""A guest's options as lxc.container.conf(5). Everything is said here: no distribution's include file is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from goldsmith.base.process import SAFE_PATH, render_command
from goldsmith.node.lxc.assemble import ROOT
from goldsmith.node.lxc.cgroups import INNER, Hierarchy
from goldsmith.node.lxc.config import Options
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.properties import Net
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.properties import parse_bool, parse_properties

_ARCH = {"amd64": "x86_64", "i386": "i686", "arm64": "aarch64", "armhf": "armhf", "riscv64": "riscv64"}
_DENIED = ("kexec_load", "open_by_handle_at", "init_module", "finit_module", "delete_module")
"""System calls that no container needs (lxc's common.seccomp)."""
_DEVICES = (
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm",
    "c 5:2 rwm", "c 136:* rwm", "c 10:229 rwm",
)  # fmt: skip
"""What a privileged guest may do with devices: null, zero, full, random, urandom, terminals, fuse (common.conf)."""

_KERNEL_FOLDERS = ("debug", "security")


@dataclass(frozen=True)
class Host:
    """What of the machine decides how a guest is started."""

    cgroups: Hierarchy
    apparmor: bool

    @classmethod
    def detect(cls) -> Host:
        """Look at the kernel."""
        switch = Path("/sys/module/apparmor/parameters/enabled")
        enabled = switch.exists() and switch.read_text().strip() == "Y"
        return cls(Hierarchy.detect(), enabled and which("apparmor_parser", path=SAFE_PATH) is not None)


def render_lxc_config(runtime: Runtime, options: Options, host: Host, bridges: dict[str, str]) -> str:
    """Render the config that `lxc-start` is given.

    :param bridges: the machine's bridge of each network device's key; a device that starts unconnected has none.
    """
    lines = [
        f"lxc.arch = {_ARCH.get(options.get('arch', 'amd64'), 'x86_64')}",
        f"lxc.uts.name = {options.get('hostname', f'CT{runtime.vmid}').partition('.')[0]}",
        f"lxc.rootfs.path = dir:{ROOT}",
        f"lxc.hook.post-stop = {render_command([runtime.folder / 'post-stop'])}",
        f"lxc.console.logfile = {runtime.console_log}",
        "lxc.console.size = 1MB",
        "lxc.console.rotate = 1",
        f"lxc.tty.max = {options.number('tty', 2)}",
        "lxc.pty.max = 1024",
        *([] if options.flag("console", default=True) else ["lxc.console.path = none"]),
        f"lxc.signal.halt = {'SIGRTMIN+3' if options.get('ostype') != 'alpine' else 'SIGUSR2'}",
        *_render_security(runtime, options, host),
        *_render_mounts(options),
        *_render_cgroups(runtime, options, host),
    ]
    for net in options.nets():
        lines += _render_net(runtime, net, bridges.get(net.key))
    return "".join(line + "\n" for line in [*lines, *(f"{key} = {value}" for key, value in options.raw)])


def has_feature(options: Options, name: str) -> bool:
    """Tell whether `features` switches something on."""
    return parse_bool(parse_properties(options.get("features")).get(name))


def _render_security(runtime: Runtime, options: Options, host: Host) -> list[str]:
    idmap = IdMap.of(unprivileged=options.is_unprivileged)
    lines = [f"lxc.idmap = {line}" for line in idmap.lxc()]
    lines.append(f"lxc.seccomp.profile = {runtime.folder / 'seccomp'}")
    if not options.is_unprivileged:
        lines.append("lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio")
    if not host.apparmor:
        return [*lines, "lxc.apparmor.profile = unconfined"]
    nesting = ["lxc.apparmor.allow_nesting = 1"] if has_feature(options, "nesting") else []
    return [*lines, "lxc.apparmor.profile = generated", *nesting]


def render_seccomp(options: Options) -> str:
    """Render the guest's seccomp policy: keyctl answers "not implemented" to unprivileged guests unless wanted.

    systemd and others take "not permitted" for a failure, but do without where there is no such call (PVE).
    """
    lines = ["2", "denylist", "reject_force_umount", "[all]", *(f"{name} errno 1" for name in _DENIED)]
    if options.is_unprivileged and not has_feature(options, "keyctl"):
        lines.append("keyctl errno 38")
    return "".join(line + "\n" for line in lines)


def _render_mounts(options: Options) -> list[str]:
    sys = "sys:rw" if options.is_unprivileged else "sys:mixed"
    lines = [f"lxc.mount.auto = cgroup:mixed proc:mixed {sys}"]
    entries = ["/sys/fs/fuse/connections sys/fs/fuse/connections none bind,optional 0 0"]
    if options.is_unprivileged:
        # systemd inside would mount these, may not, and call the system degraded. All are root's outside.
        entries += [f"/sys/kernel/{name} sys/kernel/{name} none bind,optional 0 0" for name in _KERNEL_FOLDERS]
    if has_feature(options, "nesting"):
        # Uncovered proc and sys somewhere: the kernel lets a nested container mount only what it sees whole here.
        entries += ["proc dev/.lxc/proc proc create=dir,optional 0 0", "sys dev/.lxc/sys sysfs create=dir,optional 0 0"]
    if has_feature(options, "fuse"):
        entries.append("/dev/fuse dev/fuse none bind,create=file 0 0")
    for key, text in sorted(options.values.items()):
        if re.fullmatch(r"dev\d+", key):
            path = parse_properties(text, "path")["path"]
            entries.append(f"{path} {path.lstrip('/')} none bind,create=file 0 0")
    return lines + [f"lxc.mount.entry = {entry}" for entry in entries]


def _render_cgroups(runtime: Runtime, options: Options, host: Host) -> list[str]:
    folder = runtime.cgroup.rpartition("/")[0]
    lines = [
        f"lxc.cgroup.dir.container = {runtime.cgroup}",
        f"lxc.cgroup.dir.container.inner = {INNER}",
        f"lxc.cgroup.dir.monitor = {runtime.cgroup}.monitor",
        f"lxc.cgroup.dir.monitor.pivot = {folder}/pivot",
    ]
    if not options.is_unprivileged:
        kind = "lxc.cgroup2" if host.cgroups.unified else "lxc.cgroup"
        lines += [f"{kind}.devices.deny = a", *(f"{kind}.devices.allow = {device}" for device in _DEVICES)]
    return lines + host.cgroups.lxc_lines(options, runtime.vmid)


def _render_net(runtime: Runtime, net: Net, bridge: str | None) -> list[str]:
    prefix = f"lxc.net.{net.index}"
    lines = [
        f"{prefix}.type = veth",
        f"{prefix}.veth.pair = {runtime.veth(net.index)}",
        f"{prefix}.hwaddr = {net.mac}",
        f"{prefix}.name = {net.name}",
        f"{prefix}.flags = up",
    ]
    if bridge:
        lines.append(f"{prefix}.link = {bridge}")
    return [*lines, f"{prefix}.mtu = {net.get('mtu')}"] if net.get("mtu") else lines
