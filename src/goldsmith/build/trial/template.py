"""The version as a template on the node: found there, or brought for as long as the trial runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from goldsmith.artifacts.export import SUFFIX, open_template
from goldsmith.base.digest import Digest
from goldsmith.build.actions.base import digest_on_node
from goldsmith.build.facts import Site
from goldsmith.build.traces import remove_template
from goldsmith.build.trial.context import Trial
from goldsmith.definition.image import Image
from goldsmith.pve.storage import Volume


def ensure_template(trial: Trial) -> str:
    """Have the version's template on the node, and return a short word on where from."""
    found = find_template(trial)
    if found is not None:
        trial.volid = found.volid
        return f"{found.volid} is there"
    trial.volid = bring_template(trial)
    return trial.volid


def list_storages(image: Image, site: Site) -> Iterator[str]:
    """Yield the storages in which builds of an image put templates, the usual one first."""
    yield from dict.fromkeys([site.file_storage or image.variables.proxmox_storage, image.variables.proxmox_storage])


def find_template(trial: Trial) -> Volume | None:
    """Find a template that is the version byte by byte, whatever it is called: a build has put it there."""
    with open_template(trial.repository, trial.plan.version) as stream:
        size = stream.size
        same_size = [
            volume
            for storage in list_storages(trial.plan.image, trial.site)
            for volume in trial.site.node.storage.list_content(storage, "vztmpl")
            if volume.size == size
        ]
        if not same_size:
            return None
        while stream.read():
            pass
        wanted = stream.digest
    return next((volume for volume in same_size if _digest(trial.site, volume) == wanted), None)


def _digest(site: Site, volume: Volume) -> Digest:
    return digest_on_node(site, site.node.storage.get_template_directory(volume.storage) / volume.name)


def bring_template(trial: Trial) -> str:
    """Write the version into the node's storage, under a name that belongs to this trial alone."""
    storage = next(list_storages(trial.plan.image, trial.site))
    folder, name = trial.site.node.storage.get_template_directory(storage), name_template(trial)
    volid = f"{storage}:vztmpl/{name}"
    trial.journal.note_template(volid)
    trial.undo.add(f"template {volid}", lambda: remove_template(trial.site, volid, trial.journal.run_id))
    with open_template(trial.repository, trial.plan.version) as stream:
        watch = trial.events.watch(name, stream.size)
        trial.site.shell.make_directory(folder)
        trial.site.shell.put(stream, PurePosixPath(folder / name), on_bytes=watch)
    return volid


def name_template(trial: Trial) -> str:
    """Return the name of a trial's own template; it carries the run's id, by which it is known to be ours."""
    version = trial.plan.version
    return f"goldsmith-test-{version.name}-{version.tag}-{trial.journal.run_id}{SUFFIX}"
