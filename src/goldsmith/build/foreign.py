"""Base images from elsewhere: a URL, a file on this machine, a container image.

What they are is known by a digest before anything is brought to the node. There they lie under a name that bears it, so
that nothing is brought twice:

    my-base-9f86d081884c7d65.tar.zst                            of a URL or a file: digest of the file
    debian-systemd-0c71b6a5bd3b0d1c-9f86d081884c7d65.tar.zst    of a container image: digests of manifest and file
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from goldsmith.artifacts.credentials import find_login
from goldsmith.artifacts.export import write_template
from goldsmith.artifacts.repository import TAG, Repository, Version
from goldsmith.artifacts.revocation import check_not_revoked
from goldsmith.base.digest import Digest, digest_file
from goldsmith.base.errors import DefinitionError, PveError, TaskFailed, VersionNotFound
from goldsmith.base.events import Events
from goldsmith.base.files import open_lock, write_atomic
from goldsmith.build.carry import identify_volume
from goldsmith.build.facts import Site
from goldsmith.build.repositories import open_location, read_options
from goldsmith.definition.bases import Download, Foreign, LocalFile, OciImage, find_suffix
from goldsmith.definition.image import Image
from goldsmith.definition.values import REGISTRY
from goldsmith.pve.storage import Volume
from goldsmith.pve.tasks import OnLine

if TYPE_CHECKING:
    from goldsmith.artifacts.container_image import ContainerImage
    from goldsmith.artifacts.http import RegistryOptions

DIGITS = 16
"""Hex digits of a digest in a name: nobody makes two files with the same 64 bits by accident, and the whole digest is
compared as well."""
SUFFIX = ".tar.zst"
LONGEST = 120
"""Characters of a base's own name that are kept."""
BRINGING_TIMEOUT = 3600.0
"""Seconds to wait for another build that brings the same."""


@dataclass(frozen=True)
class Found:
    """A base image from elsewhere, before it is brought. `digest` goes into the keys of layers."""

    base: Foreign
    digest: Digest
    told: str
    """What a person is told of it."""
    image: ContainerImage | None = None
    """Of a container image, its manifest."""
    stored: Version | None = None
    """Where goldsmith has stored it in that registry, the version that it is."""
    is_own: bool = False
    """Whether it lies in the registry that the image's own versions are stored in."""

    @property
    def file_digest(self) -> Digest | None:
        """The digest of the file on the node, where that is known before it is there."""
        return None if isinstance(self.base, OciImage) else self.digest

    @property
    def name(self) -> str:
        """What it is called: how its file's name on the node begins."""
        if isinstance(self.base, OciImage):
            return f"{self.base.name}-{_shorten(self.digest)}"
        return clean_name(self.base.filename.removesuffix(self.suffix))

    @property
    def suffix(self) -> str:
        """How its file's name ends."""
        return SUFFIX if isinstance(self.base, OciImage) else find_suffix(self.base.filename)

    def name_file(self, digest: Digest) -> str:
        """Return the name of its file on the node."""
        return f"{self.name}-{_shorten(digest)}{self.suffix}"

    def is_named(self, filename: str) -> bool:
        """Tell whether a file on the node has the name of this base."""
        if self.file_digest is not None:
            return filename == self.name_file(self.file_digest)
        start, end = f"{self.name}-", self.suffix
        digits = filename.removeprefix(start).removesuffix(end)
        return filename == f"{start}{digits}{end}" and re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", digits) is not None

    def is_true(self, filename: str, digest: Digest) -> bool:
        """Tell whether a file is what its name promises."""
        return digest == self.file_digest if self.file_digest is not None else filename == self.name_file(digest)


def _shorten(digest: Digest) -> str:
    return digest.removeprefix("sha256:")[:DIGITS]


def clean_name(name: str) -> str:
    """Return a file's name as Proxmox takes it: it would put `_` for other characters (PVE 8.4, upload)."""
    return re.sub(r"[^-a-zA-Z0-9_.]", "_", name)[:LONGEST] or "base"


def describe_source(found: Found) -> str:
    """Return what is recorded as the base's name: where it comes from, without what a URL may hold for us alone."""
    match found.base:
        case Download(url=url):
            return url.partition("?")[0]
        case LocalFile():
            return found.base.filename
        case OciImage():
            return f"{REGISTRY}{found.base}"


def find_foreign(image: Image, site: Site) -> Found | None:
    """Find what an image is built upon, where that comes from elsewhere. A registry is asked what a tag names now.

    :raises DefinitionError: the file is not what base_checksum says, or cannot be read.
    :raises RepositoryError: the registry has no such image, or it is no container image.
    """
    match image.base:
        case Download() as base:
            digest = Digest(image.variables.base_checksum or "")
            return Found(base, digest, f"the node downloads it, unless it is there: {digest}")
        case LocalFile() as base:
            return _find_file(base, image)
        case OciImage() as base:
            return _find_image(base, site, image.repository)
    return None


def _find_file(base: LocalFile, image: Image) -> Found:
    path, said = Path(base.path), image.variables.base_checksum
    try:
        digest = digest_file(path)
    except OSError as error:
        problem = image.problem("base_image", f"base_image: {path} cannot be read: {error.strerror}")
        raise DefinitionError([problem]) from error
    if said is not None and digest != said:
        raise DefinitionError([image.problem("base_checksum", f"base_checksum is not that of {path}, {digest}")])
    return Found(base, digest, f"{path.name} of this machine: {digest}")


def _find_image(base: OciImage, site: Site, repository: str) -> Found:
    from goldsmith.artifacts.container_image import find_image  # HTTP takes a while to import

    architecture, is_own = site.node.read_architecture(), repository.startswith(f"{REGISTRY}{base.host}/")
    found = find_image(base, architecture, choose_options(is_own=is_own))
    if is_own and (stored := _find_stored(found)) is not None:
        return Found(base, found.digest, f"{base} is {stored}, {found.digest}", found, stored, is_own)
    return Found(base, found.digest, f"{base} is {found.digest} now, for {architecture}", found, is_own=is_own)


def choose_options(*, is_own: bool) -> RegistryOptions:
    """Return how a base's registry is talked to; what the environment says is meant for the image's own registry.

    Another one never gets that login; it is spoken to by TLS, and known by the logins that podman and docker keep.
    """
    from goldsmith.artifacts.http import RegistryOptions

    if not is_own:
        return RegistryOptions()
    options = read_options(os.environ)
    return replace(options, credentials=find_login(os.environ))


def _find_stored(image: ContainerImage) -> Version | None:
    """Find the version that an image is: goldsmith has stored it with a record, and its layers are a template's bytes.

    :raises VersionRevoked: nobody is to build upon it.
    """
    if not TAG.fullmatch(image.version):
        return None
    repository = _open_repository(image.reference)
    version = repository.find_version(f"{image.reference.name}:{image.version}")
    if version is None or version.digest != image.digest:
        return None
    try:
        repository.read_record(version)
    except VersionNotFound:
        return None
    check_not_revoked(repository, version)
    return version


def _open_repository(reference: OciImage) -> Repository:
    return open_location(f"{REGISTRY}{reference.host}/{reference.path.rpartition('/')[0]}")


# --- on the node


def digest_base(site: Site, base: Volume, state: Path) -> Digest:
    """Return the digest of a template, remembered by its volume id, size and time as the node tells them."""
    known, name = _read_known(state), _name_known(site, base)
    if name not in known:
        remember_digest(site, base, identify_volume(site, base), state)
        known = _read_known(state)
    return Digest(known[name])


def remember_digest(site: Site, base: Volume, digest: Digest, state: Path) -> None:
    """Remember the digest of a template that has just been compared with it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(state / "bases.json", json.dumps({**_read_known(state), _name_known(site, base): digest}))


def _name_known(site: Site, base: Volume) -> str:
    return f"{site.name} {base.volid} {base.size} {base.created}"


def _read_known(state: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        return dict(json.loads((state / "bases.json").read_text(encoding="utf-8")))
    return {}


def find_brought(found: Found, site: Site, storage: str) -> Volume | None:
    """Find the file on the node that a base from elsewhere has been brought as; its name alone counts."""
    named = (volume for volume in site.node.storage.list_content(storage, "vztmpl") if found.is_named(volume.name))
    return next(named, None)


@dataclass(frozen=True)
class Carrier:
    """Brings a base image to a node's storage. `state`: goldsmith's own directory on this machine."""

    site: Site
    storage: str
    state: Path
    events: Events
    on_line: OnLine

    def ensure(self, found: Found) -> Volume:
        """Have a base on the node, whole: there already, or brought.

        :raises PveError: it cannot be brought; what lies there under its name is something else.
        :raises RepositoryError: the container image cannot boot as a system, or is damaged.
        """
        with open_lock(self.state / "bases" / f"{found.name}.lock", timeout=BRINGING_TIMEOUT, what=found.name):
            volume = find_brought(found, self.site, self.storage)
            if volume is None:
                volume = self._bring(found)
            elif not self._is_whole(found, volume):
                hint = f"remove it, and it is brought again: pvesm free {volume.volid}"
                raise PveError(f"{volume.volid} is damaged: it is not what its name says", hint=hint)
            return volume

    def _is_whole(self, found: Found, volume: Volume) -> bool:
        """Tell whether a file on the node is what its name says.

        Where there is no shell on the node to digest it, and nobody here has brought it, the node compares a download
        itself; of others only the name and the size can be looked at.
        """
        if self.site.has_shell or _name_known(self.site, volume) in _read_known(self.state):
            return found.is_true(volume.name, digest_base(self.site, volume, self.state))
        match found.base:
            case Download(url=url):
                return self._download(found, url).volid == volume.volid
            case LocalFile(path=path):
                return volume.size == Path(path).stat().st_size
            case OciImage():
                return volume.size > 0

    def _bring(self, found: Found) -> Volume:
        match found.base:
            case Download(url=url):
                volume = self._download(found, url)
                remember_digest(self.site, volume, found.digest, self.state)
                return volume
            case LocalFile(path=path):
                return self._upload(found, Path(path), found.digest)
            case OciImage():
                with self._make_template(found) as (file, digest):
                    return self._upload(found, file, digest)

    def _download(self, found: Found, url: str) -> Volume:
        name = found.name_file(found.digest)
        try:
            return self.site.node.storage.download(self.storage, url, name, sha256=found.digest, on_line=self.on_line)
        except TaskFailed as error:
            if "checksum mismatch" in error.exitstatus:
                error.hint = "what is behind the URL is not what base_checksum says; nothing of it was kept"
            else:
                error.hint = (
                    f"it is {self.site.node.name} that downloads; where it has no way there, download the file to this "
                    f"machine, and let base_image be its path: ./{name}"
                )
            raise

    def _upload(self, found: Found, file: Path, digest: Digest) -> Volume:
        name, size = found.name_file(digest), file.stat().st_size
        with file.open("rb") as source:
            volume = self.site.node.storage.bring(
                self.storage, name, source, size, sha256=digest, progress=self._watch(name, size), on_line=self.on_line
            )
        remember_digest(self.site, volume, digest, self.state)
        return volume

    def _watch(self, name: str, size: int) -> Callable[[int, int], None]:
        watch = self.events.watch(name, size)
        return lambda done, _total: watch(done)

    @contextmanager
    def _make_template(self, found: Found) -> Iterator[tuple[Path, Digest]]:
        """Have a container image as a template file on this machine while the block runs."""
        from goldsmith.artifacts.container_image import INIT, SSHD, squash_image

        assert isinstance(found.base, OciImage)
        assert found.image is not None
        folder = self.state / "bases" / f"{found.name}.part"
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed; we hold the lock
        try:
            folder.mkdir(mode=0o700)
            watch = self.events.watch(str(found.base), found.image.size)
            if found.stored is not None:
                target = folder / f"template{SUFFIX}"
                write_template(_open_repository(found.base), found.stored, target, on_bytes=watch)
                yield target, digest_file(target)
                return
            options, wanted = choose_options(is_own=found.is_own), (INIT, SSHD)
            made = squash_image(found.image, folder, options, wanted=wanted, on_bytes=watch)
            yield made.path, made.digest
        finally:
            shutil.rmtree(folder, ignore_errors=True)
