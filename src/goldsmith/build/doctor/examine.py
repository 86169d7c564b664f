"""Looking at a Proxmox with the eyes of a build: one check after another, each of which only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from goldsmith.base.errors import ApiFailed, GoldsmithError, ShellFailed
from goldsmith.base.findings import Finding, Level
from goldsmith.base.units import render_bytes
from goldsmith.build.base import is_version
from goldsmith.build.delivery import Delivery, Way
from goldsmith.build.doctor.needs import Need, Work, list_needs
from goldsmith.build.doctor.role import render_commands
from goldsmith.build.facts import (
    Site,
    check_consoles,
    choose_dump_storage,
    find_base_storage,
    note_answering,
    read_guest_facts,
)
from goldsmith.build.foreign import Found, find_brought, find_foreign
from goldsmith.build.plan import choose_disk
from goldsmith.definition.bases import Download
from goldsmith.definition.image import Image
from goldsmith.pve.client import PveVersion, parse_version
from goldsmith.pve.storage import Storage, find_appliance, find_newest

OLDEST, NEWEST = PveVersion(7, 4), PveVersion(9, 99)
"""The versions that goldsmith knows."""
MOST_SKEW = 30.0
"""Seconds. Tickets and certificates bear minutes; times of versions and backups should not lie about their order."""
LITTLE_ROOM = 4 << 30
"""Bytes: a dump and its template, of an image that is not large."""


@dataclass
class Examination:
    """What is looked at: an image's node, and what has been found out about it so far."""

    image: Image
    site: Site
    delivery: Delivery | None = None
    """How the image gets to the node, where there is no shell on it."""

    @property
    def builds(self) -> bool:
        """Whether the image is built on the node."""
        return self.delivery is None or self.delivery.way is Way.BACKUP

    @property
    def version(self) -> PveVersion:
        """The node's version."""
        return parse_version(self.site.version)

    def find_storage(self, name: str) -> Storage | None:
        """Find a storage of the node."""
        return next((found for found in self.site.node.storage.list_storages() if found.name == name), None)

    @cached_property
    def work(self) -> Work:
        """Where the work happens."""
        variables, vmid = self.image.variables, self.image.variables.temp_vmid
        return Work(
            node=self.site.node.name,
            vmids=self.image.vmids if vmid is None else range(vmid, vmid + 1),
            disk_storage=choose_disk(self.image).storage,
            template_storage=variables.proxmox_storage,
            dump_storage=self._choose_dump_storage() if self.builds else "",
            bridge=variables.temp_bridge or self.site.bridge,
            publish=tuple(dict.fromkeys(word.rpartition(":")[2] for word in variables.publish)),
            pool=variables.proxmox_pool or "",
            console="console" in (variables.guest_connection, variables.test_connection),
            downloads=isinstance(self.image.base, Download) or variables.proxmox_pull,
        )

    def _choose_dump_storage(self) -> str:
        """Return where dumps go; where we see no storage that takes them, where they would go if we did."""
        preferred = self.site.file_storage or self.image.variables.proxmox_storage
        seen = self.site.node.storage.list_storages("backup")
        return choose_dump_storage(seen, preferred).name if seen else preferred


Check = Callable[[Examination], Iterator[Finding]]


def examine(image: Image, site: Site, delivery: Delivery | None = None) -> list[Finding]:
    """Look at an image's node. A check that cannot be made is a finding itself.

    :param delivery: how the image gets there, where there is no shell.
    """
    examination = Examination(image, site, delivery)
    return [finding for check in CHECKS for finding in _run(check, examination)]


def _run(check: Check, examination: Examination) -> Iterator[Finding]:
    try:
        yield from check(examination)
    except GoldsmithError as error:
        subject = check.__name__.removeprefix("check_").replace("_", " ")
        yield Finding(subject, "error", error.message, error.hint)


def check_version(examination: Examination) -> Iterator[Finding]:
    """Say what answers, and who we are there."""
    site, version = examination.site, examination.version
    who = f"{site.pve.user} on node {site.node.name}"
    if OLDEST <= version <= NEWEST:
        yield Finding("Proxmox VE", "ok", f"{version}, {who}")
    else:
        hint = f"goldsmith knows versions {OLDEST.major}.{OLDEST.minor} to {NEWEST.major}"
        yield Finding("Proxmox VE", "warning", f"{version}, {who}", hint)


def check_clock(examination: Examination) -> Iterator[Finding]:
    """Compare the clocks."""
    ahead = examination.site.pve.read_clock()
    if ahead is None:
        yield Finding("clock", "warning", "the node does not tell its time", "compare it yourself: date")
    elif abs(ahead) > MOST_SKEW:
        direction = "ahead of" if ahead > 0 else "behind"
        hint = "set the clocks by NTP on both (chrony)"
        yield Finding("clock", "warning", f"the node is {abs(ahead):.0f} s {direction} this machine", hint)
    else:
        yield Finding("clock", "ok", "the node and this machine agree")


def check_privileges(examination: Examination) -> Iterator[Finding]:
    """Compare what we may do with what the work needs; of what is missing, say how it is granted."""
    pve = examination.site.pve
    needs = list_needs(examination.work, examination.version)
    lacking = [(need, missing) for need in needs if (missing := set(need.privileges) - pve.find_privileges(need.path))]
    for need, missing in lacking:
        yield _describe_lack(need, missing)
    if not lacking:
        yield Finding("privileges", "ok", f"{pve.user} has all that are needed, on {len(needs)} paths")
        return
    connection = pve.connection
    token = connection.token_name if connection.token_id else ""
    commands = render_commands(needs, connection.token_user if token else connection.user, token, pve.list_roles())
    yield Finding("privileges", "ok", "all of them are granted by these commands on the node:", "\n".join(commands))


def _describe_lack(need: Need, missing: set[str]) -> Finding:
    level: Level = "error" if need.vital else "warning"
    return Finding("privileges", level, f"{', '.join(sorted(missing))} missing on {need.path} ({need.purpose})")


def check_storages(examination: Examination) -> Iterator[Finding]:
    """Look at the storages: whether they are there, take what they are to take, and have room."""
    work = examination.work
    wanted: dict[str, dict[str, str]] = {}
    for name, content, what in (
        (work.disk_storage, "rootdir", "guests' disks"),
        (work.template_storage, "vztmpl", "templates"),
        (work.dump_storage, "backup", "dumps"),
        *((word, "vztmpl", "templates") for word in examination.image.variables.publish if ":" not in word),
    ):
        if not name:
            continue
        wanted.setdefault(name, {})[content] = what
    for name, contents in wanted.items():
        yield from _judge_storage(name, contents, examination)


def _judge_storage(name: str, contents: dict[str, str], examination: Examination) -> Iterator[Finding]:
    subject, storage = f"storage {name}", examination.find_storage(name)
    if storage is None or not storage.active:
        state = "is not there, or we may not see it" if storage is None else "is not active"
        yield Finding(subject, "error", f"it {state}", "Datacenter, Storage; and Datastore.Audit on it")
        return
    lacking = [what for content, what in contents.items() if content not in storage.content]
    if lacking:
        hint = f"pvesm set {name} --content {','.join(sorted(storage.content | set(contents)))}"
        yield Finding(subject, "error", f"it takes no {', no '.join(lacking)}", hint)
    room = f"{render_bytes(storage.available)} of {render_bytes(storage.total)} free"
    if storage.available < LITTLE_ROOM:
        yield Finding(subject, "warning", f"only {room}", "a build may need more")
    elif not lacking:
        yield Finding(subject, "ok", f"{', '.join(contents.values())}; {room}")


def check_bridge(examination: Examination) -> Iterator[Finding]:
    """Look for the bridge that guests are connected to."""
    bridges, wanted = examination.site.node.list_bridges(), examination.work.bridge
    if wanted in bridges:
        yield Finding("network", "ok", f"bridge {wanted}")
    elif bridges:
        yield Finding("network", "error", f"there is no bridge {wanted}", f"there is: {', '.join(bridges)}")
    else:
        yield Finding("network", "warning", f"whether there is a bridge {wanted} cannot be seen")


def check_address(examination: Examination) -> Iterator[Finding]:
    """Look whether vmid and address of temporary guests are free."""
    image, site = examination.image, examination.site
    facts, vmid, address = read_guest_facts(site), image.variables.temp_vmid, image.fixed_address
    if vmid is not None and vmid in facts.vmids:
        yield Finding("vmid", "error", f"temp_vmid {vmid} belongs to another guest", "choose another, or leave it out")
    elif vmid is None and facts.vmids.issuperset(image.vmids):
        yield Finding(
            "vmid", "error", f"none from {image.vmids.start} to {image.vmids.stop - 1} is free", "set temp_vmid"
        )
    else:
        yield Finding("vmid", "ok", f"{vmid or next(free for free in image.vmids if free not in facts.vmids)} is free")
    if address is not None and address.ip in note_answering(facts, address).addresses:
        yield Finding("address", "error", f"somebody has temp_ip_address {address.ip} already", "choose another")
    elif address is not None:
        yield Finding("address", "ok", f"nobody answers at {address.ip}")


def check_base_image(examination: Examination) -> Iterator[Finding]:
    """Look for the base image, in the storage and in the node's appliance index."""
    if not examination.builds:
        yield Finding("base image", "ok", "that of the embedded node of this machine, where the image is built")
        return
    base, store = examination.image.variables.base_image, examination.site.node.storage
    storage = find_base_storage(base, examination.image.variables.proxmox_storage)
    if is_version(base):
        yield Finding("base image", "ok", f"{base} comes from the repository")
    elif (foreign := find_foreign(examination.image, examination.site)) is not None:
        yield _judge_foreign(foreign, storage, examination)
    elif (found := find_newest(base, store.list_content(storage, "vztmpl"))) is not None:
        yield Finding("base image", "ok", f"{storage} has {found.name}")
    elif find_appliance(base, store.list_appliances()) is not None:
        yield Finding("base image", "ok", f"{base} is downloaded through the appliance index")
    else:
        hint = "pveam update; pveam available --section system"
        yield Finding("base image", "error", f"neither {storage} nor the appliance index has {base}", hint)


def check_console(examination: Examination) -> Iterator[Finding]:
    """Look whether guests can be entered through their consoles, where the image wants that."""
    if examination.work.console:
        check_consoles(examination.site)
        yield Finding("console", "ok", f"{examination.site.pve.user} may open consoles")


def _judge_foreign(found: Found, storage: str, examination: Examination) -> Finding:
    """Look whether a base from elsewhere is there already, or can be had; a URL must be reached by the node itself."""
    volume = find_brought(found, examination.site, storage)
    if volume is not None:
        return Finding("base image", "ok", f"{storage} has {volume.name}")
    if not isinstance(found.base, Download):
        return Finding("base image", "ok", f"it is sent to {storage}: {found.told}")
    try:
        size = examination.site.node.storage.query_url(found.base.url)
    except ApiFailed as error:
        hint = "the node itself downloads it; or download it to this machine, and let base_image be its path"
        return Finding("base image", "error", f"the node does not get {found.base.url}: {error.reason}", hint)
    told = f", {render_bytes(size)}" if size else ""
    return Finding("base image", "ok", f"the node downloads {found.base.url}{told}")


def check_shell(examination: Examination) -> Iterator[Finding]:
    """Open the shell on the node, as root; where there is to be none, say how it is done without."""
    if not examination.site.has_shell:
        reason = examination.delivery.reason if examination.delivery is not None else "proxmox_shell is none"
        yield Finding("shell", "ok", f"none is wanted: {reason}")
        return
    shell = examination.site.shell
    try:
        said = shell.run(["id", "-u"]).stdout.strip()
    except ShellFailed as error:
        yield Finding("shell", "error", error.message, error.hint)
        return
    if said == "0":
        yield Finding("shell", "ok", f"root on {shell.machine}")
    else:
        yield Finding("shell", "error", f"user id {said} on {shell.machine}, not root", "see proxmox_shell_user")


CHECKS: tuple[Check, ...] = (
    check_version,
    check_clock,
    check_privileges,
    check_storages,
    check_bridge,
    check_address,
    check_base_image,
    check_console,
    check_shell,
)
