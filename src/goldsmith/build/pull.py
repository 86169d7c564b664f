"""A version as a node pulls it itself out of its registry, instead of its being sent there (Proxmox VE 9.1 and later).

What it makes of it is NAME-DAY.N-DIGEST.tar, an OCI archive (`artifacts.pulling`), of which guests are made like of a
template. Before, the tag that it is to pull is compared with the version; skopeo compares each blob with its digest. A
shell on the node reads the archive again: there must be the version's blobs in it, whole, and none besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from goldsmith.artifacts.pulling import ARCHIVE_SUFFIX, ensure_reference, list_blobs
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.digest import Digest
from goldsmith.base.errors import PveError, ShellFailed, TaskFailed
from goldsmith.base.events import Events, LogLine
from goldsmith.build.carry import (
    DIGEST_TIMEOUT,
    TemplateClash,
    find_whole,
    is_directory,
    measure_file,
    name_archive,
)
from goldsmith.build.facts import Site
from goldsmith.pve.client import IMAGES_SINCE, NodeApi
from goldsmith.pve.storage import Volume

_BLOBS = "blobs/sha256/"
_DIGEST_EACH = 'echo "$TAR_FILENAME $(sha256sum)"'
"""What tar runs for each file of an archive, which it gets on its standard input (tar(1), --to-command)."""
_TAR_FAILED = 2
"""How tar ends where an archive cannot be read; others come from the way there."""


@dataclass(frozen=True)
class Way:
    """How a version gets to a node."""

    is_pulled: bool = False
    reason: str = ""
    """Why it is pulled, or why it is sent although it was to be pulled; empty where nobody wants it pulled."""


def choose_way(repository: Repository, nodes: Iterable[NodeApi]) -> Way:
    """Decide whether a version that is to be pulled can be.

    :param nodes: the one that is to pull it, and those that see the same storage: guests are to be made of it on each.
    """
    if repository.is_local:
        return Way(reason=f"{repository.location} is a directory, and a node pulls from a registry only")
    for node in nodes:
        try:
            if not node.takes_images:
                can = f"cannot pull, which Proxmox VE can since {IMAGES_SINCE}"
                return Way(reason=f"{node.name} runs {node.version} and {can}")
        except PveError as error:
            return Way(reason=f"{node.name} does not tell whether it can pull ({error.message})")
    return Way(is_pulled=True, reason=f"the node pulls it from {repository.location}")


def find_pulled(version: Version, site: Site, storage: str) -> Volume | None:
    """Find the archive of a version that a node has pulled into a storage; read again where there is a shell.

    :raises TemplateClash: a file of its name is something else.
    """
    name = name_archive(version)
    found = find_whole(f"{storage}:vztmpl/{name}", measure_file(version, name), site)
    if found is not None:
        check_archive(version, found, site)
    return found


def ensure_pulled(version: Version, repository: Repository, site: Site, storage: str, events: Events) -> Volume:
    """Have a version in a storage by letting the node pull it. What is there already is not pulled again.

    :raises TemplateClash: a file of its name is something else, and stays as it is.
    :raises RegistryError: the registry does not let us have the tag by which it is pulled.
    :raises PveError: the node does not get it, or not whole; nothing of it is kept.
    """
    found = find_pulled(version, site, storage)
    if found is not None:
        return found
    try:
        arrived = pull(version, repository, site, storage, name_archive(version), events)
    except TaskFailed:
        if (found := find_pulled(version, site, storage)) is not None:
            return found  # another machine had it pulled meanwhile: the node refuses a name that is taken
        raise
    try:
        find_pulled(version, site, storage)
    except PveError:
        with suppress(PveError):  # the first error says more, and its hint what is to be removed
            site.node.storage.delete_volume(arrived.volid)
        raise
    return arrived


def pull(
    version: Version, repository: Repository, site: Site, storage: str, name: str, events: Events
) -> Volume:  # fmt: skip
    """Let the node pull a version, by a tag that names its digest.

    :param name: of its file, with `.tar` at its end; the storage must have none of that name.
    :raises RegistryError, PveError: see `ensure_pulled`.
    """
    reference = ensure_reference(repository, version)

    def hear(line: str) -> None:
        events.emit(LogLine(source="pull", line=line))

    return site.node.storage.pull_image(storage, reference, name.removesuffix(ARCHIVE_SUFFIX), hear)


def check_archive(version: Version, volume: Volume, site: Site) -> None:
    """Compare an archive with a version, blob by blob, on the node; nothing is done where there is no shell.

    :raises TemplateClash: a blob is missing, damaged, or none of the version's.
    :raises ShellFailed: nobody can look.
    """
    if not (site.has_shell and is_directory(site, volume.storage)):
        return
    if fault := _read_fault(version, volume, site):
        raise TemplateClash(
            f"{volume.volid} on {site.node.name} is not {version}: {fault}",
            hint="somebody has changed it, or it did not arrive whole: it is not used; remove it (pvesm free), "
            "then try again",
        )


def _read_fault(version: Version, volume: Volume, site: Site) -> str:
    path = site.node.storage.get_template_directory(volume.storage) / volume.name
    command = ["tar", "-xf", str(path), "--wildcards", f"{_BLOBS}*", f"--to-command={_DIGEST_EACH}"]
    said = site.shell.run(command, timeout=DIGEST_TIMEOUT, check=False)
    if said.returncode == _TAR_FAILED:
        return f"it cannot be read ({(said.stderr.strip() or 'tar fails').splitlines()[0]})"
    if said.returncode:
        raise ShellFailed(f"tar failed on {site.shell.machine}, exit code {said.returncode}", detail=said.stderr)
    return find_fault(parse_blobs(said.stdout), list_blobs(version))


def parse_blobs(text: str) -> list[tuple[str, str]]:
    """Parse what tar says of each blob of an archive: the digest that it is named by, and its own."""
    lines = (line.removeprefix(_BLOBS).split() for line in text.splitlines())
    return [(f"sha256:{words[0]}", f"sha256:{words[1]}") for words in lines if len(words) > 1]


def find_fault(found: Sequence[tuple[str, str]], wanted: frozenset[Digest]) -> str:
    """Return what is wrong with an archive's blobs; empty where nothing is.

    :param found: of each the digest that it is named by, and its own.
    """
    named = {name for name, _ in found}
    faults = [f"blob {name} is damaged" for name, digest in found if name != digest]
    faults += [f"blob {name} is missing" for name in sorted(wanted - named)]
    faults += [f"blob {name} is none of it" for name in sorted(named - wanted)]
    return faults[0] if faults else ""
