"""What is wrong with one version: it is read back with all that belongs to it."""

from __future__ import annotations

from dataclasses import replace

from goldsmith.artifacts.manifest import Descriptor, list_children
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.errors import RepositoryDamaged, RepositoryError
from goldsmith.base.events import OnBytes

PIECE = 1 << 20


def list_damage(repository: Repository, version: Version, on_bytes: OnBytes) -> list[str]:
    """Read a version with all that belongs to it, and return what is wrong.

    :raises RepositoryError: the repository cannot be read.
    """
    problems: list[str] = []
    done = 0
    with repository.store.open_reading():
        for manifest in [repository.get_image(version), *repository.list_referrers(version)]:
            try:
                children = list_children(repository.store.read_blob(manifest))
            except RepositoryError as error:
                problems.append(_get_message(error))
                continue
            for child in children:
                try:
                    done += _read(repository, replace(child, home=version.name), done, on_bytes)
                except RepositoryError as error:
                    problems.append(_get_message(error))
    return sorted(set(problems))


def _get_message(error: RepositoryError) -> str:
    """Return what is wrong with a blob; a registry that gives no answer says nothing about blobs.

    :raises RepositoryError: the registry does not answer.
    """
    if isinstance(error, RepositoryDamaged) or getattr(error, "status", None):
        return error.message
    raise error


def _read(repository: Repository, blob: Descriptor, before: int, on_bytes: OnBytes) -> int:
    done = 0
    with repository.open_blob(blob) as reader:
        while piece := reader.read(PIECE):
            done += len(piece)
            on_bytes(before + done)
    return done
