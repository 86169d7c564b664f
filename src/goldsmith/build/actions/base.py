"""The base image."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import PurePosixPath

from goldsmith.base.digest import Digest
from goldsmith.build.context import Build
from goldsmith.build.facts import Site
from goldsmith.build.steps import EnsureBase

DIGEST_TIMEOUT = 600.0


def ensure_base(step: EnsureBase, build: Build) -> str:
    """Have the base image, and begin to digest it: that takes as long as reading it, and nothing waits for it yet."""
    build.base = build.site.node.storage.ensure_appliance(
        step.storage, step.wanted, build.hear("download"), newest=step.newest
    )
    path = build.site.node.storage.get_template_directory(build.base.storage) / build.base.name
    build.base_digest = _start_digest(build.site, path)
    return build.base.name


def _start_digest(site: Site, path: PurePosixPath) -> Future[Digest]:
    future: Future[Digest] = Future()

    def work() -> None:
        try:
            future.set_result(digest_on_node(site, path))
        except Exception as error:  # whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=work, name="base-digest", daemon=True).start()
    return future


def digest_on_node(site: Site, path: PurePosixPath) -> Digest:
    """Return the digest of a file on the node, computed there."""
    said = site.shell.run(["sha256sum", "--", str(path)], timeout=DIGEST_TIMEOUT).stdout
    return Digest("sha256:" + said.lstrip("\\").split()[0])
