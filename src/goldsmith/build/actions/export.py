"""From the stopped guest to a version in the repository and a template on the node."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from goldsmith import __version__
from goldsmith.artifacts.export import SUFFIX, measure_template, open_template
from goldsmith.artifacts.provenance import attach_provenance
from goldsmith.artifacts.record import BuildRecord, render_time
from goldsmith.artifacts.repository import NewVersion, Repository, Version
from goldsmith.artifacts.revocation import revoke
from goldsmith.artifacts.store import CREATED
from goldsmith.base.errors import GoldsmithError
from goldsmith.base.events import Events
from goldsmith.base.units import render_bytes
from goldsmith.build.actions.guest import describe_dump
from goldsmith.build.cache.keys import RECORDED, describe_keys
from goldsmith.build.carry import Volid, carry, find_carried, open_cargo
from goldsmith.build.context import Build
from goldsmith.build.facts import Site
from goldsmith.build.git import read_git_state
from goldsmith.build.kept import get_backup, render_notes
from goldsmith.build.play import list_recorded, make_play
from goldsmith.build.repositories import open_image_repository, open_location
from goldsmith.build.steps import DumpGuest, KeepBackup, PlaceTemplate, StoreVersion, UploadTemplate
from goldsmith.build.times import choose_times
from goldsmith.build.traces import end_tasks, remove_dumps
from goldsmith.provision.content import digest_content
from goldsmith.provision.tools import read_tool_versions
from goldsmith.pve.shell import TargetExists


def dump_guest(step: DumpGuest, build: Build) -> str:
    """Let the node dump the guest; the dump goes when it has been stored."""
    build.journal.note_dump(step.storage)
    build.remove_dump = build.undo.add("the dump", lambda: remove_dump(step.storage, build))
    build.dump = build.site.node.backups.create(
        build.guest.vmid,
        storage=step.storage,
        compress=step.compress,
        notes=describe_dump(build),
        on_line=build.hear("vzdump"),
    )
    return render_bytes(build.dump.size)


def remove_dump(storage: str, build: Build) -> bool:
    """Delete the build's dump, also one that was being made when the build was interrupted; tell whether there was one.

    An archive of a finished layer is none.
    """
    end_tasks(build.site, build.guest.vmid)
    return bool(remove_dumps(build.site, storage, build.journal.run_id, build.journal.entry.vmids))


def store_version(step: StoreVersion, build: Build) -> str:
    """Read the dump back into the repository; the version is there as a whole or not at all."""
    repository = open_location(step.repository)
    before = repository.find_version(step.name)
    known = repository.list_diff_ids(before) if before is not None and repository.is_local else None
    record = make_record(build)
    times = choose_times(record, build.since[0], build.epoch)
    with repository.open_writer() as writer:
        with build.site.shell.open_read(build.dump.path) as stream:
            watch = build.events.watch(step.title, build.dump.size)
            layers = writer.add_layers(cast(BinaryIO, stream), times=times, on_bytes=watch, known=known)
        local_day = datetime.now().astimezone().date()
        record = replace(record, finished=datetime.now(UTC), seconds=build.seconds)
        new = NewVersion(name=step.name, layers=layers, record=record, architecture=build.architecture, day=local_day)
        build.version = writer.put(new)
    attest_version(repository, build.version, record, build.os_release)
    return f"{build.version}, {render_bytes(build.version.size)}"


def keep_backup(step: KeepBackup, build: Build) -> str:
    """Store a version that has no layers and is the dump; then say so in its notes, and protect it.

    From then on it is no leftover of the build. Where that fails, the version is revoked: its backup goes.
    """
    repository, record = open_location(step.repository), make_record(build)
    with repository.open_writer() as writer:
        new = NewVersion(
            name=step.name, layers=(), record=record, architecture=build.architecture,
            day=datetime.now().astimezone().date(), backup=build.dump.volid, backup_size=build.dump.size,
        )  # fmt: skip
        build.version = writer.put(new)
    attest_version(repository, build.version, record, build.os_release)
    try:
        notes = render_notes(build.version, build.base_name)
        build.site.node.storage.set_volume(build.dump.volid, {"notes": notes, "protected": True})
        get_backup(build.version, build.site)
    except GoldsmithError as error:
        reason = f"its backup could not be kept: {error.message}"
        revoke(repository, build.version, reason=reason, who=f"build {build.journal.run_id}")
        raise
    build.template = Volid(build.dump.volid)
    return f"{build.version}, {build.dump.volid}, {render_bytes(build.version.size)}"


def attest_version(repository: Repository, version: Version, record: BuildRecord, os_release: bytes) -> None:
    """Store beside a version what scanners look for: its bill of materials, and how it came to be."""
    from goldsmith.artifacts.sbom import MEDIA_TYPE, parse_os_release, render_sbom  # slow, and often nothing is built

    document = render_sbom(version, record, parse_os_release(os_release))
    repository.attach(version, MEDIA_TYPE, {MEDIA_TYPE: document}, {CREATED: render_time(version.created)})
    attach_provenance(repository, version)


def make_record(build: Build) -> BuildRecord:
    """Say what the version is made of, as far as that can be known before it is stored."""
    return BuildRecord(
        image=build.image.name,
        base_name=build.base_name,
        base_digest=build.base_digest.result(),
        playbook_digest=digest_content(make_play(build.image)),
        variables=list_recorded(build.image),
        packages=build.packages,
        tools={"goldsmith": __version__, **read_tool_versions()},
        started=build.started,
        finished=datetime.now(UTC),
        seconds=build.seconds,
        git=read_git_state(build.image.directory),
        build_id=build.journal.run_id,
        node_kind=build.site.kind,
        node_version=build.site.version,
        extra={} if build.find_changes() else {RECORDED: describe_keys(build.keys, build.since)},
    )


def place_template(step: PlaceTemplate, build: Build) -> str:
    """Write the version as a template into the directory, under its day's first free name from its own number on."""
    repository = open_image_repository(build.image)
    build.template = write_template(step, repository, build.version, build.site, build.events)
    return f"{build.template.name}, {render_bytes(build.version.size)}"


def ensure_template(
    step: PlaceTemplate, repository: Repository, version: Version, site: Site, events: Events
) -> PurePosixPath:
    """Return where the version is as a template; it is written where nothing of its size has one of its names.

    It need not have its own number: another repository's version may have been there before.
    """
    attempt = version.number
    while site.shell.exists(path := step.directory / name_template(step.name, version.day, attempt)):
        if site.shell.size(path) == measure_template(version):
            return path
        attempt += 1
    return write_template(step, repository, version, site, events)


def write_template(
    step: PlaceTemplate, repository: Repository, version: Version, site: Site, events: Events
) -> PurePosixPath:
    """Write a version as a template into a directory on the node; a name that is taken gets another number."""
    site.shell.make_directory(step.directory)
    attempt = version.number
    while True:
        path = step.directory / name_template(step.name, version.day, attempt)
        if not site.shell.exists(path):  # asked first: a template is long to write only to learn that its name is taken
            try:
                with open_template(repository, version) as stream:
                    site.shell.put(stream, path, on_bytes=events.watch(path.name, stream.size))
            except TargetExists:
                pass
            else:
                return path
        attempt += 1


def upload_template(step: UploadTemplate, build: Build) -> str:
    """Upload the version into a storage of the Proxmox, under the name that means it."""
    assert build.target is not None
    repository = open_image_repository(build.image)
    build.template = send_template(step, repository, build.version, build.target, build.events)
    return f"{build.template}, {render_bytes(build.version.size)}"


def send_template(
    step: UploadTemplate, repository: Repository, version: Version, target: Site, events: Events
) -> Volid:
    """Have the version in a storage of the Proxmox; what is there already is not sent again."""
    found = find_carried(version, target, step.storage)
    if found is None:
        with open_cargo(repository, version) as cargo:
            found = carry(cargo, target, step.storage, events)
    return Volid(found.volid)


def name_template(name: str, day: str, number: int) -> str:
    """Return a template's file name: the day's first has no number."""
    return f"{name}-{day}{'' if number == 1 else f'.{number}'}{SUFFIX}"
