"""A fakepve that a build can work on: storages that are directories, and vzdump, which fakepve itself does not do."""

from __future__ import annotations

import asyncio
import io
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakepve import FakePve
from fakepve.certs import make_cert
from fakepve.model import PveError, TaskError
from fakepve.server import USER, error, ok, settle

from goldsmith.base.secrets import Secret
from goldsmith.build.facts import Site
from goldsmith.pve.client import open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.shell import LocalShell

NO_ROOM = "command 'tar' failed: exit code 2: No space left on device"
TASKS = (
    "/lxc",
    "/lxc/{vmid}",
    "/vzdump",
    "/start",
    "/stop",
    "/shutdown",
    "/snapshot",
    "/rollback",
    "/clone",
    "/oci-registry-pull",
)
"""Ends of the paths whose writes are tasks."""
TEMPLATE = "debian-12-standard_12.7-1_amd64.tar.zst"
NODE = "pve1"


LOCKED = "can't lock file '/run/lock/lxc/pve-config-{vmid}.lock' - got timeout"
ANSWERS: dict[str, tuple[int, str]] = {
    "refused": (403, "Permission check failed (/vms/900, VM.Allocate)"),
    "broken": (500, "unable to open file '/etc/pve/nodes/pve1/lxc/900.conf.tmp' - Input/output error"),
    "locked": (500, LOCKED.format(vmid=900)),
    "no quorum": (500, "cluster not ready - no quorum?"),
    "offline": (595, "No route to host"),
    "full": (500, "unable to create image: storage 'local-lvm': No space left on device"),
}
"""Faults that are an answer of PVE 8.4: status and message."""
FAULTS = (*ANSWERS, "answer lost", "no answer", "task fails", "task lacks lock")
PBS_VOLUME = re.compile(r"backup/ct/(?P<vmid>\d+)/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
HANGING = 0.8
"""Seconds that an answer takes which does not come in time."""


@dataclass
class Fault:
    """What goes wrong: at one call, counted from 0, or from then on at each of its kind until the node is healed."""

    kind: str
    at: int
    lasting: bool = False
    call: str = ""


class Node(FakePve):  # type: ignore[misc]
    """With vzdump as PVE 8.4 does it (lock `backup`, a log that names the archive, a tar of the guest), and faults.

    It pulls container images as PVE 9.1 does, without fetching any; see `images`.
    """

    certificate: Path

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[str] = []
        self.fault: Fault | None = None
        self._opened: set[Any] = set()
        self.images: dict[str, int] = {}
        """What can be pulled, with how many bytes its archive has: `host/path:tag`."""
        self.rivals: set[str] = set()
        """Storages into which somebody else pulls the same a moment before."""
        self.versions: dict[str, str] = {}
        """What nodes run, where that is not the version that answers."""

    async def hang_up(self) -> None:
        """End the connections that are still there: fakepve leaves the last ones open."""
        for transport in self._opened:
            transport.abort()
        await asyncio.sleep(0.01)

    def arm(self, fault: Fault | None) -> None:
        """Count calls from now on; let one of them go wrong, or none any more."""
        self.calls, self.fault = [], fault

    def _is_hit(self, call: str) -> bool:
        if (fault := self.fault) is None:
            return False
        if len(self.calls) - 1 == fault.at:
            fault.call = call
            return True
        return fault.lasting and call == fault.call

    async def _answer(self, request: Any, handler: Any, generic: Any, path_node: str) -> Any:
        call = f"{request.method} {re.sub(r'^/api2/json|UPID:.*?(?=/|$)', '', request.path)}"
        self.calls.append(call)
        self._opened |= {request.transport} - {None}  # whose client has hung up already
        if not self._is_hit(call) or self.fault is None:
            return await super()._answer(request, handler, generic, path_node)
        kind = self.fault.kind
        if kind in ANSWERS:
            return error(*ANSWERS[kind])
        if kind.startswith("task"):
            return await self._fail_task(request, handler, generic, path_node)
        answer = await super()._answer(request, handler, generic, path_node)
        if kind == "answer lost":
            request.transport.abort()
        else:
            await asyncio.sleep(HANGING)
        return answer

    async def _fail_task(self, request: Any, handler: Any, generic: Any, path_node: str) -> Any:
        """Fail in a task what is done in one; all else goes well."""
        template = re.sub(r"/lxc/\d+", "/lxc/{vmid}", request.path)
        if request.method == "GET" or not template.endswith(TASKS):
            return await super()._answer(request, handler, generic, path_node)
        vmid = next(iter(re.findall(r"/lxc/(\d+)", request.path)), "")
        why = LOCKED.format(vmid=vmid) if self.fault and "lock" in self.fault.kind else NO_ROOM

        async def body() -> None:
            raise TaskError(why)

        return ok(await self.task(path_node, "vztask", vmid, request[USER], body))

    def _routes_images(self) -> list[tuple[str, str, Any]]:
        return [
            ("GET", "/nodes/{node}/version", self._node_version),
            ("POST", "/nodes/{node}/storage/{storage}/oci-registry-pull", self._pull),
        ]

    def _parse_volname(self, store: dict[str, Any], volname: str) -> tuple[str, int | None, str]:
        """Know archives of images as templates (since pve-storage 9.0.17), and a Proxmox Backup Server's volumes."""
        if store.get("type") == "pbs":
            if (found := PBS_VOLUME.fullmatch(volname)) is None:
                raise PveError(500, f"unable to parse PBS volume name '{volname}'")
            return "backup", int(found["vmid"]), "pbs-ct"
        if re.fullmatch(r"vztmpl/[^/]+\.tar", volname):
            return "vztmpl", None, "raw"
        parsed: tuple[str, int | None, str] = super()._parse_volname(store, volname)
        return parsed

    async def _node_version(self, values: dict[str, Any], user: str) -> dict[str, str]:
        del user
        return {"version": self.versions.get(values["node"], self.version), "release": "", "repoid": ""}

    async def _pull(self, values: dict[str, Any], user: str) -> str:
        name = f"{values['filename']}.tar"
        if values["storage"] in self.rivals:
            self.store_file(values["storage"], name, self.images[values["reference"]], "vztmpl")

        async def body() -> None:
            if f"vztmpl/{name}" in self.storages[values["storage"]].get("volumes", {}):
                raise TaskError(f"refusing to override existing file '{name}'")
            if values["reference"] not in self.images:
                raise TaskError("skopeo failed: exit code 1")
            self.store_file(values["storage"], name, self.images[values["reference"]], "vztmpl")

        upid: str = await self.task(values["node"], "download", name, user, body)
        return upid

    def _item(self, name: str, volname: str, vol: dict[str, Any]) -> Any:
        item = super()._item(name, volname, vol)
        if "notes" in item:
            item["notes"] = item["notes"].partition("\n")[0]
        return item

    async def _content_put(self, values: dict[str, Any], user: str) -> None:
        sid, volname, volid, store, vtype, owner, _ = self._volume_target(values)
        if store.get("type") != "pbs":
            await super()._content_put(values, user)
            return
        self._check_access(user, sid, vtype, owner, volid)
        for key in ("notes", "protected"):  # one after the other (PVE::API2::Storage::Content, updateattributes)
            if key == "protected" and values.get(key) and store.get("full"):
                raise PveError(500, f"The number of protected backups per guest is limited to 5 on storage '{sid}'")
            if key in values:
                store["volumes"][volname][key] = values[key]

    async def _content_delete(self, values: dict[str, Any], user: str) -> Any:
        sid, volname, _, store, _, owner, _ = self._volume_target(values)
        if store.get("type") != "pbs" or volname in store["volumes"]:
            return await super()._content_delete(values, user)

        async def forget() -> None:
            raise TaskError("proxmox-backup-client failed: Error: no such snapshot")

        return await self.task(values["node"], "imgdel", f"{owner}@{sid}", user, forget, lock=False)

    def _routes_vzdump(self) -> list[tuple[str, str, Any]]:
        return [("POST", "/nodes/{node}/vzdump", self._vzdump)]

    async def _vzdump(self, values: dict[str, Any], user: str) -> str:
        guest, storage = self.guest(int(values["vmid"])), values["storage"]
        store = self.storages[storage]
        if store["type"] == "pbs":
            return await self._back_up(values, user, guest, store)
        stamp = time.strftime("%Y_%m_%d-%H_%M_%S")
        path = Path(store["path"]) / "dump" / f"vzdump-lxc-{guest.vmid}-{stamp}.tar"

        async def body() -> str:
            self._task_lock(guest)
            guest.lock = "backup"
            try:
                await self.pause(self.ct_secs["create"])
                path.write_bytes(pack_guest(guest.name))
            finally:
                guest.lock = None
            store.setdefault("volumes", {})[f"backup/{path.name}"] = {
                "content": "backup", "format": "tar", "size": path.stat().st_size, "vmid": guest.vmid,
                "ctime": int(time.time()), "notes": values.get("notes-template", "").replace("\\n", "\n"),
            }  # fmt: skip
            return f"INFO: Finished Backup of VM {guest.vmid}"

        log = [f"INFO: starting new backup job: vzdump {guest.vmid}", f"INFO: creating vzdump archive '{path}'"]
        upid: str = await self.task(values["node"], "vzdump", guest.vmid, user, body, vm=guest, lock=False, log=log)
        return upid

    async def _back_up(self, values: dict[str, Any], user: str, guest: Any, store: dict[str, Any]) -> str:
        """Dump to a Proxmox Backup Server: no file, no suffix, a name with colons (PVE::VZDump, exec_backup_task)."""
        name = f"ct/{guest.vmid}/{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"

        async def body() -> str:
            store["volumes"][f"backup/{name}"] = {
                "content": "backup", "format": "pbs-ct", "size": 1000, "vmid": guest.vmid, "ctime": int(time.time()),
                "notes": values.get("notes-template", "").replace("\\n", "\n"),
                "protected": values.get("protected", False),
            }  # fmt: skip
            return f"INFO: Finished Backup of VM {guest.vmid}"

        log = [f"INFO: creating Proxmox Backup Server archive '{name}'"]
        upid: str = await self.task(values["node"], "vzdump", guest.vmid, user, body, vm=guest, lock=False, log=log)
        return upid


def pack_guest(hostname: str) -> bytes:
    """An archive of a guest with hardly anything in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in {"./etc/hostname": hostname, "./etc/vzdump/pct.conf": "arch: amd64\n"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@contextmanager
def serve_node(directory: Path) -> Iterator[Node]:
    """A node whose storage `local` lies in a directory, with a base template in it."""
    certificate, key = make_cert(str(directory), hosts=("127.0.0.1",))[:2]
    node = Node(host="127.0.0.1", port=0)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="node")
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(node.start(certificate, key), loop).result(30)
        node.certificate = Path(certificate)
        fill_storage(node, directory / "local")
        yield node
    finally:
        for ending in (settle(), node.stop(), node.hang_up()):
            asyncio.run_coroutine_threadsafe(ending, loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def fill_storage(node: Node, path: Path) -> None:
    """Let `local` lie in a directory; the base template is in it."""
    for folder in ("dump", "template/cache"):
        (path / folder).mkdir(parents=True)
    node.storages["local"]["path"] = str(path)
    (path / "template" / "cache" / TEMPLATE).write_bytes(b"a base image")
    node.store_file("local", TEMPLATE, 12, "vztmpl")


@contextmanager
def open_site(node: Node, *, user: str = "", password: str = "", timeout: float = 10.0) -> Iterator[Site]:
    """The node as a place to build, with this machine's shell for its own."""
    connection = Connection(
        node.host, node.port, user or node.user, password=Secret(password or node.password),
        ca_file=node.certificate, timeout=timeout,
    )  # fmt: skip
    with ExitStack() as stack:
        pve = stack.enter_context(open_pve(connection))
        yield Site(pve=pve, node=pve.node(NODE), shell=LocalShell(), kind="proxmox", version="9.0.10")


def fill_cluster(node: Node, nodes: int, guests: int) -> None:
    """Make it a cluster of many nodes, with somebody's guests evenly on them; a third are stopped."""
    for number in range(1, nodes + 1):
        node.add_node(f"pve{number}")
    for number in range(guests):
        address = f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}/8"
        node.add_ct(
            1000 + number, name=f"web-{number}", node=f"pve{number % nodes + 1}",
            status="running" if number % 3 else "stopped",
            config={"net0": f"name=eth0,bridge=vmbr0,ip={address}", "tags": "theirs"},
        )  # fmt: skip
