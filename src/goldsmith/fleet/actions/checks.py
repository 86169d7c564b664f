"""What must hold: before a replacement begins, and of the server when the new guest serves."""

from __future__ import annotations

import http.client
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath

from goldsmith.artifacts.proof import check_proven
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.artifacts.revocation import check_not_revoked
from goldsmith.artifacts.signature import check_signed
from goldsmith.artifacts.tree import read_tree
from goldsmith.base.errors import ChecksFailed, FleetError, PveError, ShellFailed
from goldsmith.base.units import render_bytes
from goldsmith.definition.mounts import Check
from goldsmith.definition.values import DHCP
from goldsmith.fleet.actions.data import check_data
from goldsmith.fleet.actions.membership import check_membership, check_remaking
from goldsmith.fleet.actions.shellless import check_shell
from goldsmith.fleet.goals import NEW, Checked, ChecksHold
from goldsmith.fleet.specification import DEFAULT_DISK, list_data_paths
from goldsmith.fleet.work import Handling, Work
from goldsmith.pve.target import DirectTarget
from goldsmith.verify.outcome import State
from goldsmith.verify.session import collect_groups, run_session
from goldsmith.verify.tests import UserTests

PAUSE = 0.05
MOST_PACKED = 20
"""No root file system packs to less than one part of so many; beyond that nobody has to look how much there is."""
ANSWER_TIMEOUT = 5.0
"""Seconds for one attempt."""


def check_before(_goal: Checked, work: Work) -> str:
    """Refuse what cannot work, before anything is done.

    :raises FleetError, RepositoryError, PveError: it cannot.
    """
    repository, version = work.repository, work.get_version()
    check_shell(work)
    check_not_revoked(repository, version)
    if not work.untested:
        check_proven(repository, version)
    if work.signers_file is not None:
        check_signed(repository, version, work.signers_file)
    check_architecture(work, repository, version)
    check_membership(work)
    check_remaking(work)
    check_data(work)
    if not version.backup:  # nobody can look into one
        check_image_leaves_data_alone(work, repository, version)
        check_room(work, version)
    return f"{version}, {len(work.record.data)} volumes"


def check_architecture(work: Work, repository: Repository, version: Version) -> None:
    """Refuse a version for another processor than the node's (Proxmox VE 9 has nodes with arm64).

    :raises FleetError: it is one.
    """
    wanted, found = repository.read_config(version).architecture, work.site.node.read_architecture()
    if wanted and wanted != found:
        raise FleetError(
            f"{work.server.name}: {version} is for {wanted}, and node {work.site.node.name} is {found}",
            hint="name another node in the inventory, or build the image on one of that kind",
        )


def check_image_leaves_data_alone(work: Work, repository: Repository, version: Version) -> None:
    """Refuse an image with files where data is mounted: Proxmox would unpack them into the data (--skip-old-files).

    An empty directory there is none.
    """
    paths = [str(path).strip("/") for path in list_data_paths(work.server)]
    if not paths:
        return
    baked = [name for name in read_tree(repository, version) if any(name.startswith(f"{path}/") for path in paths)]
    if baked:
        raise FleetError(
            f"{work.server.name}: {version} has files where data is mounted: /{baked[0]}"
            + (f" and {len(baked) - 1} more" if baked[1:] else ""),
            hint="let the playbook leave that directory empty; what it needs at first is made by the service",
        )


def check_room(work: Work, version: Version) -> None:
    """Refuse a root disk that the storage has no room for (storages that give room when it is used say more).

    :raises FleetError: what is in the version does not fit.
    """
    name = (work.server.variables.disk or DEFAULT_DISK).storage
    room = work.site.node.storage.get_storage(name).available
    if room > version.size * MOST_PACKED:
        return
    needed = sum(entry.size for entry in read_tree(work.repository, version).values())
    if room < needed:
        what = f"{render_bytes(room)} free, {version} needs {render_bytes(needed)}"
        raise FleetError(f"{work.server.name}: storage {name} of {work.site.node.name} is full ({what})")


def ensure_checks(_goal: ChecksHold, work: Work) -> str:
    """Wait until all checks hold, each within its own time.

    :raises ChecksFailed: one does not; says what it got instead.
    """
    vmid = work.find_guest(NEW) or work.record.new
    for check in work.server.variables.checks:
        if check.testinfra is not None:
            run_tests(check.testinfra, work, vmid, inventory=work.inventory, logs=work.journal.directory)
        else:
            run_check(check, work, vmid)
    count = len(work.server.variables.checks)
    return f"{count} hold" if count else "none are declared"


def run_check(check: Check, work: Handling, vmid: int) -> None:
    """Wait until one check (of a port, a URL or a command) holds.

    :raises ChecksFailed: it does not in time.
    """
    deadline = time.monotonic() + check.timeout
    while (fault := find_fault(check, work, vmid)) is not None:
        if time.monotonic() > deadline:
            raise ChecksFailed(f"{work.server.name}: {check.title} does not hold after {check.timeout} s: {fault}")
        time.sleep(PAUSE)


def find_fault(check: Check, work: Handling, vmid: int) -> str | None:
    """Look once whether a check holds; return why it does not."""
    if check.port:
        return find_port_fault(find_address(work, vmid), check.port)
    return find_url_fault(check.url) if check.url else _find_command_fault(check.command, work, vmid)


def find_address(work: Handling, vmid: int) -> str:
    """Return where the server is reached; with DHCP, what its node tells.

    :raises ChecksFailed: it has no address.
    """
    if (fixed := work.server.variables.fixed_address) is not None:
        return str(fixed.ip)
    if work.server.variables.address == DHCP:
        for interface in work.site.node.guests.list_interfaces(vmid):
            if interface.ipv4 is not None:
                return str(interface.ipv4)
    raise ChecksFailed(f"{work.server.name} has no address", hint="set address in the inventory")


def find_port_fault(host: str, port: int, *, timeout: float = ANSWER_TIMEOUT) -> str | None:
    """Connect to a port within some seconds; return why that cannot be done."""
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError as error:
        return f"{host} port {port}: {error.strerror or error}"
    return None


def find_url_fault(url: str) -> str | None:
    """Ask for a URL; return what is wrong with the answer. Redirections are followed."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT) as answer:  # noqa: S310 - http(s), as definition says
            return None if answer.status < 400 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", None) or error) or type(error).__name__


def _find_command_fault(command: str, work: Handling, vmid: int) -> str | None:
    try:
        done = work.shell(vmid).run(["sh", "-c", command], timeout=ANSWER_TIMEOUT * 6, check=False)
    except (PveError, ShellFailed) as error:
        return error.message
    said = (done.stderr or done.stdout).strip().splitlines()
    return None if done.returncode == 0 else f"code {done.returncode}{f': {said[-1]}' if said else ''}"


def run_tests(file: PurePosixPath, work: Handling, vmid: int, *, inventory: Path, logs: Path) -> None:
    """Run a file of testinfra tests in the server, through its node.

    :raises ChecksFailed: one of them fails.
    """
    path = inventory / file
    tests = UserTests(path.parent)
    target = DirectTarget(work.server.hostname, "", vmid, work.site.shell, work.site.lxc_path)
    failed: list[str] = []
    for group in collect_groups(tests):
        log = logs / f"{path.stem}.log"
        outcomes = run_session(tests, group, target, events=work.events, log=log)
        failed += [f"{one.name}: {one.message}" for one in outcomes
                   if one.state is State.FAILED and one.name.startswith(path.name)]  # fmt: skip
    if failed:
        raise ChecksFailed(f"{work.server.name}: {failed[0]}", detail="\n".join(failed))
