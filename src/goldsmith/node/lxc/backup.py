"""vzdump: backups of guests as archives that Proxmox itself can restore or use as templates.

One job at a time on a node. A guest is locked (`backup`) meanwhile; an archive gets its name only when it is whole.

    <dump>/vzdump-lxc-<vmid>-<YYYY_MM_DD-HH_MM_SS>.tar.zst   ./etc/vzdump/pct.conf, then the guest's files
    <dump>/vzdump-lxc-<vmid>-<...>.log                        what the task log says of this guest
    <archive>.notes, <archive>.protected                      when asked for
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from subprocess import DEVNULL

from goldsmith.base.errors import GoldsmithError, LockTaken
from goldsmith.base.files import open_lock
from goldsmith.base.process import Argument
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault, TaskInterrupted
from goldsmith.node.lxc.archive import CONFIG_MEMBER, pack_command, run_pipeline
from goldsmith.node.lxc.config import GuestConfig, Options, has_config, hold_lock, open_config, render_config
from goldsmith.node.lxc.disks import close_sources, open_sources, plan_assembly
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.power import shutdown_guest, start_guest
from goldsmith.node.lxc.properties import MountPoint
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.lxc.snapshots import delete_quietly, has_snapshot_feature, open_frozen, snapshot_volumes
from goldsmith.node.routing import Task
from goldsmith.node.storage.driver import Storage, VolumeId
from goldsmith.node.storage.work import check_protected

SNAPSHOT = "vzdump"
Log = Callable[[str], None]


@dataclass(frozen=True)
class BackupRequest:
    """What `POST vzdump` asked for; `command` is the line that the log begins with."""

    vmids: list[int]
    storage: str = "local"
    mode: str = "snapshot"
    compress: str = "0"
    threads: int | None = None
    notes: str = ""
    protected: bool = False
    prune: str = ""
    excludes: list[str] = field(default_factory=list)
    standard_excludes: bool = True
    lockwait: int = 180
    stopwait: int = 10
    most_protected: int | None = None
    """How many protected backups of a guest there may be."""
    command: str = "vzdump"
    allowed: frozenset[int] = frozenset()
    """Guests that the caller may back up; asking for another fails the task (PVE)."""


def run_backup(task: Task, node: Node, request: BackupRequest) -> None:
    """Worker `vzdump`: back up guests one after another; one failure fails the job, not the other backups."""
    for vmid in request.vmids:
        if vmid not in request.allowed:
            raise ApiFault(f"403 Permission check failed (/vms/{vmid}, VM.Backup)")
    storage = _get_backup_storage(node, request.storage)
    with _open_job(node, request, task.log):
        task.log(f"INFO: starting new backup job: {request.command}")
        failed = [vmid for vmid in request.vmids if not _back_up_one(task, node, storage, request, vmid)]
        if failed:
            task.log("INFO: Backup job finished with errors")
            raise ApiFault("job errors")
        task.log("INFO: Backup job finished successfully")


def _get_backup_storage(node: Node, name: str) -> Storage:
    prefix = f"could not get storage information for '{name}'"
    try:
        storage = node.storage(name)
    except ApiFault as error:
        raise ApiFault(f"{prefix}: {error}") from error
    if "backup" not in storage.content:
        raise ApiFault(f"{prefix}: can't use storage '{name}' for backups - wrong content type")
    return storage


@contextmanager
def _open_job(node: Node, request: BackupRequest, log: Log) -> Iterator[None]:
    path = node.locks / "vzdump.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(open_lock(path))
        except LockTaken:
            log("INFO: trying to get global lock - waiting...")
            try:
                stack.enter_context(open_lock(path, timeout=request.lockwait * 60))
            except LockTaken as error:
                raise ApiFault("can't acquire lock '/var/run/vzdump.lock' - got timeout") from error
            log("INFO: got global lock")
        yield


def _write_conf(folder: Path, config: GuestConfig, idmap: IdMap, stack: ExitStack) -> None:
    """Lay out what the archive begins with: the guest's options without snapshots, locks and pending changes."""
    rmtree(folder, ignore_errors=True)
    stack.callback(rmtree, folder, ignore_errors=True)
    options = config.current.copy()
    for key in ("lock", "parent"):
        options.values.pop(key, None)
    path = folder / CONFIG_MEMBER
    path.parent.mkdir(parents=True)
    path.write_text(render_config(GuestConfig(options)))
    for made in (path, *list(path.parents)[: len(Path(CONFIG_MEMBER).parents)]):
        os.chown(made, *idmap.owner)


class _Report:
    """The log of one guest's backup: into the task's log, and kept for the file beside the archive."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.say("INFO", line)

    def say(self, level: str, line: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self.lines.append(f"{stamp} {level}: {line}")
        self._task.log(f"{level}: {line}")


def _back_up_one(task: Task, node: Node, storage: Storage, request: BackupRequest, vmid: int) -> bool:
    """Back up one guest; tell whether it went well."""
    report, begun = _Report(task), time.time()
    name = f"vzdump-lxc-{vmid}-{time.strftime('%Y_%m_%d-%H_%M_%S')}"
    log_path = storage.path(VolumeId(storage.id, f"backup/{name}.log"))
    report.info(f"Starting Backup of VM {vmid} (lxc)")
    report.info(f"Backup started at {time.strftime('%Y-%m-%d %H:%M:%S')}")
    try:
        if not has_config(node, vmid):
            raise ApiFault(f"unable to find VM '{vmid}'")
        _Backup(task, node, storage, request, vmid, name, report).run()
    except (ApiFault, GoldsmithError, OSError) as error:
        is_interrupted = isinstance(error, TaskInterrupted)
        reason = "interrupted by signal" if is_interrupted else error
        report.say("ERROR", f"Backup of VM {vmid} failed - {reason}")
        report.info(f"Failed at {time.strftime('%Y-%m-%d %H:%M:%S')}")
        if is_interrupted:
            raise ApiFault("job errors") from error
        return False
    else:
        seconds = int(time.time() - begun)
        report.info(f"Finished Backup of VM {vmid} ({seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02})")
        report.info(f"Backup finished at {time.strftime('%Y-%m-%d %H:%M:%S')}")
        return True
    finally:
        log_path.write_text("".join(line + "\n" for line in report.lines))


def compressor(compress: str, threads: int | None) -> tuple[list[Argument], str]:
    """Return the program that packs an archive, and what its name ends with.

    :param threads: of zstd; 0 is half of the processors (PVE), None all of them.
    """
    processors = os.cpu_count() or 1
    if compress == "zstd":
        count = processors if threads is None else threads or max(1, processors // 2)
        return ["zstd", "-q", f"-T{count}", "-c"], ".tar.zst"
    if compress == "gzip":
        return ["gzip", "-c"], ".tar.gz"
    if compress in ("1", "lzo"):
        return ["lzop", "-c"], ".tar.lzo"
    return [], ".tar"


def render_excludes(patterns: list[str]) -> list[str]:
    """Return tar's patterns for `exclude-path`: absolute ones hang on the guest's root."""
    return [f".{pattern}" if pattern.startswith("/") else pattern for pattern in patterns]


NOTE_VARIABLES = frozenset(("cluster", "guestname", "node", "vmid"))


def find_template_fault(template: str) -> str:
    """Return what is wrong with a notes template, in PVE's words; empty where nothing is."""
    if "\n" in template:
        return "contains a line feed"
    escapes = (match for match in re.finditer(r"\\(.)", template) if match[1] not in "n\\")
    variables = (match for match in re.finditer(r"\{\{([^\s{}]+)\}\}", template) if match[1] not in NOTE_VARIABLES)
    found = [f"escape sequence '{match[0]}' at char {match.start()}" for match in escapes]
    found += [f"variable '{match[1]}' at char {match.end() - len(match[1])}" for match in variables]
    return f"found unknown: {', '.join(found)}" if found else ""


def render_notes(template: str, values: Mapping[str, str]) -> str:
    r"""Fill in a notes template: `{{guestname}}`, `{{vmid}}`, `{{node}}`, `{{cluster}}`; `\n` is a line feed."""
    text = re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], template)
    return re.sub(rf"\{{\{{({'|'.join(values)})\}}\}}", lambda match: values[match[1]], text)


def render_bytes(size: int) -> str:
    """Render a size as vzdump's log does."""
    if size < 1 << 20:
        return f"{size >> 10}KB"
    return f"{size >> 20}MB" if size < 1 << 30 else f"{size / (1 << 30):.2f}GB"


@dataclass(frozen=True)
class _Backup:
    """One guest's backup: choose a mode that works, hold the guest accordingly, write, name, keep notes, prune."""

    _task: Task
    _node: Node
    _storage: Storage
    _request: BackupRequest
    _vmid: int
    _name: str
    _report: _Report

    @property
    def _runtime(self) -> Runtime:
        return Runtime(self._node, self._vmid)

    def run(self) -> None:
        if self._request.protected:
            check_protected(self._storage, self._vmid, self._request.most_protected)
        running = self._runtime.is_running()
        self._report.info(f"status = {'running' if running else 'stopped'}")
        with hold_lock(self._node, self._vmid, "backup") as config:
            points = self._choose_points(config.current)
            mode = self._choose_mode(config.current, running=running)
            self._report.info(f"backup mode: {mode}")
            for pattern in self._request.excludes:
                if pattern.endswith("/"):
                    self._task.warn(f"exclude-path '{pattern}' ends with a slash: it matches no file")
            archive = self._hold_and_write(config, points, mode, running=running)
            self._finish(archive, config.current)

    def _choose_points(self, options: Options) -> list[MountPoint]:
        """Return the mount points that belong to the backup, and say of each why it does or does not."""
        self._report.info(f"CT Name: {options.get('hostname', f'CT{self._vmid}')}")
        for point in options.mount_points():
            what = f"mount point {point.key} ('{point.target}')"
            if point.has_backup:
                self._report.info(f"including {what} in backup")
            elif point.kind == "volume":
                self._report.info(f"excluding volume {what} from backup (disabled)")
            else:
                self._report.info(f"excluding {point.kind} {what} from backup (not a volume)")
        return [point for point in options.mount_points() if point.has_backup]

    def _choose_mode(self, options: Options, *, running: bool) -> str:
        if not running:
            return "stop"
        included = Options({point.key: point.render() for point in options.mount_points() if point.has_backup})
        if self._request.mode == "snapshot" and not has_snapshot_feature(self._node, included):
            self._report.info("mode failure - some volumes do not support snapshots")
            self._report.info("trying 'suspend' mode instead")
            return "suspend"
        return self._request.mode

    def _hold_and_write(self, config: GuestConfig, points: list[MountPoint], mode: str, *, running: bool) -> Path:
        included = Options({point.key: point.render() for point in points})
        with ExitStack() as stack:
            if mode == "snapshot":
                self._report.info("create storage snapshot 'vzdump'")
                delete_quietly(self._node, included, SNAPSHOT)
                snapshot_volumes(self._node, self._vmid, included, SNAPSHOT, stack)
                stack.callback(self._report.info, "cleanup temporary 'vzdump' snapshot")
            elif mode == "suspend":
                stack.enter_context(self._open_suspended())
            elif running:
                stack.enter_context(self._open_stopped(config))
            if not running:
                stack.callback(close_sources, self._node, included)
            snapshot = SNAPSHOT if mode == "snapshot" else None
            return self._write(config, open_sources(self._node, included, snapshot=snapshot))

    @contextmanager
    def _open_suspended(self) -> Iterator[None]:
        begun = time.monotonic()
        self._report.info("suspend vm")
        with open_frozen(self._runtime):
            os.sync()
            yield
        self._report.info("resume vm")
        self._report.info(f"guest is online again after {time.monotonic() - begun:.0f} seconds")

    @contextmanager
    def _open_stopped(self, config: GuestConfig) -> Iterator[None]:
        begun = time.monotonic()
        self._report.info("stopping virtual guest")
        shutdown_guest(self._node, self._vmid, config, timeout=self._request.stopwait * 60, force=True)
        try:
            yield
        finally:
            self._report.info("restarting vm")
            with open_config(self._node, self._vmid, timeout=60) as present:
                start_guest(self._task, self._node, self._vmid, present)
            self._report.info(f"guest is online again after {time.monotonic() - begun:.0f} seconds")

    def _write(self, config: GuestConfig, sources: list[tuple[MountPoint, Path]]) -> Path:
        """Write the archive under a temporary name, then give it its own."""
        pack, suffix = compressor(self._request.compress, self._request.threads)
        archive = self._storage.path(VolumeId(self._storage.id, f"backup/{self._name}{suffix}"))
        partial = archive.with_name(f"{self._name}.tar.dat")
        conf = self._node.run / f"vzdump-{self._vmid}"
        idmap = IdMap.of(unprivileged=config.current.is_unprivileged)
        self._report.info(f"creating vzdump archive '{archive}'")
        with ExitStack() as stack:
            _write_conf(conf, config, idmap, stack)
            stack.callback(partial.unlink, missing_ok=True)
            targets = [point.target for point, _ in sources if point.key != "rootfs"]
            excludes = render_excludes(self._request.excludes)
            assembly = plan_assembly(sources, idmap, conf=conf)
            command = pack_command(assembly, idmap, targets, excludes, standard=self._request.standard_excludes)
            with partial.open("wb") as sink:
                stages = [command, *([pack] if pack else [])]
                run_pipeline(stages, source=DEVNULL, sink=sink, on_line=self._report.info)
                os.fsync(sink.fileno())
            partial.rename(archive)
        self._report.info(f"archive file size: {render_bytes(archive.stat().st_size)}")
        return archive

    def _finish(self, archive: Path, options: Options) -> None:
        if self._request.notes:
            self._report.info("adding notes to backup")
            name = options.get("hostname", f"CT{self._vmid}")
            values = {"guestname": name, "vmid": str(self._vmid), "node": self._node.name, "cluster": ""}
            archive.with_name(archive.name + ".notes").write_text(render_notes(self._request.notes, values))
        if self._request.protected:
            self._report.info("marking backup as protected")
            archive.with_name(archive.name + ".protected").touch()
        if self._request.prune:
            self._report.info(f"prune older backups with retention: {self._request.prune}")
            count = self._storage.prune(self._vmid, self._request.prune, log=self._report.info)
            self._report.info(f"pruned {count} backup(s) not covered by keep-retention policy")
