"""The base image: a template of the node, or another version."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from contextlib import ExitStack
from pathlib import Path

from goldsmith.artifacts.revocation import check_not_revoked
from goldsmith.base.digest import Digest
from goldsmith.build.base import get_base_version, is_version
from goldsmith.build.carry import identify_volume
from goldsmith.build.context import Build
from goldsmith.build.facts import Site
from goldsmith.build.foreign import Carrier, Found, describe_source, digest_base
from goldsmith.build.repositories import open_image_repository
from goldsmith.build.steps import EnsureBase
from goldsmith.build.templates import Bringing, ensure_version
from goldsmith.pve.storage import Volume


def ensure_base(step: EnsureBase, build: Build) -> str:
    """Have the base image, and begin to digest it: that takes as long as reading it, and nothing waits for it yet."""
    if is_version(step.wanted):
        return ensure_base_version(step, build)
    if step.found is not None:
        return ensure_foreign_base(step, step.found, build)
    volume = build.site.node.storage.ensure_appliance(
        step.storage, step.wanted, build.hear("download"), newest=step.newest
    )
    build.base, build.base_name = volume.volid, volume.name
    build.base_digest = _start_digest(build.site, volume, build.state)
    build.undo.enter(ExitStack()).callback(wait, [build.base_digest])  # what reads a file of the node ends with us
    return volume.name


def ensure_base_version(step: EnsureBase, build: Build) -> str:
    """Have another version as the base: on the node only where a guest is made from it, not where layers are there.

    :raises VersionNotFound, VersionRevoked: there is none that may be built upon.
    """
    repository = open_image_repository(build.image)
    version = get_base_version(step.wanted, repository)
    check_not_revoked(repository, version)
    build.base_name, build.base_digest = f"image:{version}", Future()
    build.base_digest.set_result(version.digest)
    if not build.plan.since:
        bringing = Bringing(build.site, step.storage, build.journal, build.undo, build.events)
        build.base = ensure_version(version, repository, bringing)
    return str(version)


def ensure_foreign_base(step: EnsureBase, found: Found, build: Build) -> str:
    """Have a base from elsewhere on the node; only where a guest is made from it, not where layers are there.

    :raises PveError, RepositoryError: it cannot be brought; nothing of it is kept.
    """
    build.base_name, build.base_digest = describe_source(found), Future()
    build.base_digest.set_result(found.digest)
    if build.plan.since:
        return f"{found.name}, not needed on the node"
    carrier = Carrier(build.site, step.storage, build.state, build.events, build.hear("base"))
    volume = carrier.ensure(found)
    build.base = volume.volid
    return volume.name


def _start_digest(site: Site, volume: Volume, state: Path) -> Future[Digest]:
    """Begin to digest a template; where there is no shell to do it, what the plan took for its digest is that."""
    future: Future[Digest] = Future()

    def work() -> None:
        try:
            future.set_result(identify_volume(site, volume) if site.has_shell else digest_base(site, volume, state))
        except Exception as error:  # whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=work, name="base-digest", daemon=True).start()
    return future
