"""Versions as templates on the node: found there byte by byte, or brought for as long as a run lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from goldsmith.artifacts.export import SUFFIX, digest_template, measure_template, open_template
from goldsmith.artifacts.pulling import ARCHIVE_SUFFIX
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.events import Events, Notice
from goldsmith.build.carry import TemplateClash, digest_volume, find_carried, open_cargo, upload
from goldsmith.build.facts import Site
from goldsmith.build.journal import Journal
from goldsmith.build.kept import get_backup
from goldsmith.build.pull import choose_way, find_pulled, pull
from goldsmith.build.traces import remove_template
from goldsmith.build.undo import Undo
from goldsmith.pve.storage import Volume


@dataclass(frozen=True)
class Bringing:
    """Who wants templates, and what of theirs is removed at the end. `storage` is the image's own."""

    site: Site
    storage: str
    journal: Journal
    undo: Undo
    events: Events

    def list_storages(self) -> Iterator[str]:
        """Yield the storages in which builds put templates, the usual one first."""
        yield from dict.fromkeys([self.site.file_storage or self.storage, self.storage])


def ensure_version(version: Version, repository: Repository, bringing: Bringing) -> str:
    """Have a version on the node as what guests are made from, and return its volume id.

    :raises PveError: it is a backup, and not there.
    """
    if version.backup:
        return get_backup(version, bringing.site).volid
    found = find_version(version, repository, bringing)
    return found.volid if found is not None else bring_version(version, repository, bringing)


def find_version(version: Version, repository: Repository, bringing: Bringing) -> Volume | None:
    """Find a template that is the version byte by byte, whatever it is called: a build has put it there.

    What a node has pulled is found by its name, and its blobs are compared. Without a shell nobody can read either;
    there it is the name that tells, and the checksum at its arrival.
    """
    if not bringing.site.has_shell:
        return _find_named(find_carried, version, bringing)
    pulled = _find_named(find_pulled, version, bringing)
    if pulled is not None and bringing.site.node.takes_images:
        return pulled
    size = measure_template(version)
    same_size = [
        volume
        for storage in bringing.list_storages()
        for volume in bringing.site.node.storage.list_content(storage, "vztmpl")
        if volume.size == size
    ]
    if not same_size:
        return None
    wanted = digest_template(repository, version)
    return next((volume for volume in same_size if digest_volume(bringing.site, volume) == wanted), None)


def _find_named(
    find: Callable[[Version, Site, str], Volume | None], version: Version, bringing: Bringing
) -> Volume | None:
    """Find a version by its name; a file of that name which it cannot be is told of, and not used."""
    for storage in bringing.list_storages():
        try:
            if (found := find(version, bringing.site, storage)) is not None:
                return found
        except TemplateClash as error:
            bringing.events.emit(Notice(message=f"{error.message}; it is not used", level="warning"))
    return None


def can_pull(repository: Repository, bringing: Bringing) -> bool:
    """Tell whether the node is to pull a version itself, and can; where it is to and cannot, that is told."""
    if not bringing.site.pulls:
        return False
    way = choose_way(repository, [bringing.site.node])
    if not way.is_pulled:
        bringing.events.emit(Notice(message=f"{way.reason}; it is sent", level="warning"))
    return way.is_pulled


def pull_version(version: Version, repository: Repository, storage: str, bringing: Bringing) -> str:
    """Let the node pull a version from the registry, by a tag that names its digest; it goes with the run."""
    name = f"goldsmith-{version.name}-{version.tag}-{bringing.journal.run_id}{ARCHIVE_SUFFIX}"
    register_template(f"{storage}:vztmpl/{name}", bringing)
    return pull(version, repository, bringing.site, storage, name, bringing.events).volid


def register_template(volid: str, bringing: Bringing) -> None:
    """Have a template removed at the end of the run, however that ends."""
    site, run_id = bringing.site, bringing.journal.run_id
    bringing.journal.note_template(volid)
    bringing.undo.add(f"template {volid}", lambda: remove_template(site, volid, run_id))


def bring_version(version: Version, repository: Repository, bringing: Bringing) -> str:
    """Bring a version into the node's storage, under a name that belongs to this run alone: it goes with the run."""
    site, run_id = bringing.site, bringing.journal.run_id
    storage = next(bringing.list_storages())
    name = f"goldsmith-{version.name}-{version.tag}-{run_id}{SUFFIX}"
    volid = f"{storage}:vztmpl/{name}"
    if can_pull(repository, bringing):
        return pull_version(version, repository, storage, bringing)
    register_template(volid, bringing)
    if not site.has_shell:
        with open_cargo(repository, version, name=name) as cargo:
            return upload(cargo, site, storage, bringing.events).volid
    folder = site.node.storage.get_template_directory(storage)
    with open_template(repository, version) as stream:
        site.shell.make_directory(folder)
        site.shell.put(stream, folder / name, on_bytes=bringing.events.watch(name, stream.size))
    return volid
