"""The appliance index: Debian's standard templates, made on this machine by mmdebstrap instead of downloaded.

They have Proxmox's names and what is in Proxmox's own standard templates that a server needs: systemd, ifupdown,
openssh, cron, and Python with python3-apt for Ansible. No host keys, no machine id; apt points to the machine's
mirror. The same packages on the same day give the same bytes.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from goldsmith.base.errors import ProgramFailed, ProgramMissing
from goldsmith.base.files import open_lock
from goldsmith.base.process import Argument, run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.mirror import KEYRING, Mirror, find_mirror
from goldsmith.node.routing import Task
from goldsmith.node.storage.driver import VolumeId

_SECONDS = 1800.0
_KEYRINGS = KEYRING.parent
PACKAGES = (
    "apt-utils", "bash-completion", "ca-certificates", "cron", "dbus", "ifupdown", "iproute2", "iputils-ping",
    "isc-dhcp-client", "less", "libpam-systemd", "locales", "logrotate", "nano", "netbase", "openssh-server",
    "procps", "python3", "python3-apt", "sudo", "systemd-sysv", "tzdata", "vim-tiny", "wget",
)  # fmt: skip
_CLEANING = (
    'rm -f "$1"/etc/ssh/ssh_host_*_key*',
    ': > "$1"/etc/machine-id; rm -f "$1"/var/lib/dbus/machine-id "$1"/var/lib/systemd/random-seed',
    'echo localhost > "$1"/etc/hostname; : > "$1"/etc/resolv.conf',
    'chmod 0644 "$1"/etc/hostname "$1"/etc/resolv.conf',  # mmdebstrap brings them with the caller's modes
    'echo LANG=C.UTF-8 > "$1"/etc/default/locale',
    'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap',
)
"""Shell lines that mmdebstrap runs last, `$1` being the new root."""


@dataclass(frozen=True)
class Appliance:
    """A template of the index."""

    os: str
    release: int
    suite: str
    version: str

    @property
    def package(self) -> str:
        """`debian-12-standard`."""
        return f"{self.os}-{self.release}-standard"

    def template(self, architecture: str) -> str:
        """Return the file's name."""
        return f"{self.package}_{self.version}_{architecture}.tar.zst"

    def describe(self, architecture: str) -> dict[str, Any]:
        """Return it as the index shows it."""
        return {
            "template": self.template(architecture), "package": self.package, "version": self.version, "type": "lxc",
            "os": f"{self.os}-{self.release}", "section": "system", "architecture": architecture,
            "headline": f"Debian {self.release} {self.suite.title()} (standard)", "source": "mmdebstrap",
            "description": f"A standard Debian {self.release} system, made on this machine from its own apt mirror.",
            "infopage": "https://www.debian.org/releases/", "maintainer": "goldsmith", "location": "",
        }  # fmt: skip


APPLIANCES = (
    Appliance("debian", 12, "bookworm", "12.12-1"),
    Appliance("debian", 13, "trixie", "13.1-2"),
)
"""Versions are those of Proxmox's index; what is inside is what the mirror has."""


def get_architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    return run(["dpkg", "--print-architecture"]).stdout.strip()


def get_appliance(template: str, architecture: str) -> Appliance:
    """Return the appliance of a file name.

    :raises ParameterFault: the index has none of that name; PVE's words.
    """
    for appliance in APPLIANCES:
        if appliance.template(architecture) == template:
            return appliance
    raise ParameterFault({"template": "no such template"})


def run_download(task: Task, node: Node, storage: str, template: str) -> None:
    """Worker `download`: make a template, unless it is there. It gets its name only when it is whole."""
    target = node.storage(storage).path(VolumeId(storage, f"vztmpl/{template}"))
    appliance = get_appliance(template, get_architecture())
    with open_lock(node.locks / f"download-{storage}-{template}.lock", timeout=_SECONDS, what=template):
        if target.exists():
            task.log(f"OK, got correct file already, no need to download: {target}")
            return
        check_keyring(appliance.suite)
        task.log(f"making {template} with mmdebstrap from this machine's apt mirror")
        _make(task, node, appliance, target)
        task.log(f"download of '{template}' to '{target}' finished")


def check_keyring(suite: str, folder: Path = _KEYRINGS) -> None:
    """Raise unless the machine has the keys that sign a release."""
    if not any(folder.glob(f"debian-archive-{suite}-*")):
        raise ApiFault(
            f"the keys that sign Debian '{suite}' are not on this machine: install a newer debian-archive-keyring "
            "(apt-get install debian-archive-keyring)"
        )


def _make(task: Task, node: Node, appliance: Appliance, target: Path) -> None:
    folder = node.run / f"appliance-{target.name}"
    partial = target.with_name(f".{target.name.removesuffix('.tar.zst')}.part.tar.zst")
    mirror = find_mirror()
    with ExitStack() as stack:
        stack.callback(rmtree, folder, ignore_errors=True)
        stack.callback(partial.unlink, missing_ok=True)
        rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o711, parents=True)
        command = plan_command(appliance, mirror, folder, partial)
        environment = {"TMPDIR": str(folder), "SOURCE_DATE_EPOCH": str(int(time.time()) // 86400 * 86400)}
        try:
            run(command, env=environment, timeout=_SECONDS, on_line=task.log)
        except ProgramMissing as error:
            raise ApiFault("mmdebstrap is not installed: apt-get install mmdebstrap") from error
        except ProgramFailed as error:
            raise ApiFault(f"mmdebstrap failed (exit code {error.returncode}); its last lines are above") from error
        partial.rename(target)


def plan_command(appliance: Appliance, mirror: Mirror, folder: Path, output: Path) -> list[Argument]:
    """Return mmdebstrap's command line; apt's options are written into files in `folder` (they may be secret)."""
    making, kept = folder / "apt.conf", folder / "kept.conf"
    making.touch(mode=0o600)
    making.write_text("".join(option + "\n" for option in (*mirror.options, 'APT::Install-Recommends "false";')))
    kept.write_text("".join(option + "\n" for option in mirror.kept_options()))
    hooks = [*_CLEANING]
    if mirror.kept_options():
        hooks.append(f'cp {kept} "$1"/etc/apt/apt.conf.d/90mirror; chmod 0644 "$1"/etc/apt/apt.conf.d/90mirror')
    command: list[Argument] = ["mmdebstrap", "--variant=minbase", "--format=tar", f"--aptopt={making}"]
    command += ["--dpkgopt=force-unsafe-io", f"--include={','.join(PACKAGES)}"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    return [*command, appliance.suite, output, *mirror.render_sources(appliance.suite)]
