"""Templates in a directory of a node: which file a version is there."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, cast

import pytest

from goldsmith.artifacts.export import measure_template
from goldsmith.artifacts.repository import Repository, open_repository
from goldsmith.base.events import Events
from goldsmith.build.actions.export import ensure_template
from goldsmith.build.steps import PlaceTemplate
from tests.unit.artifacts.making import put

FOLDER = PurePosixPath("/templates")


class Files:
    """A node's shell, as far as files have names and sizes."""

    def __init__(self) -> None:
        self.sizes: dict[PurePosixPath, int] = {}

    def exists(self, path: PurePosixPath) -> bool:
        return path in self.sizes

    def size(self, path: PurePosixPath) -> int:
        return self.sizes[path]

    def make_directory(self, path: PurePosixPath) -> None:
        assert path == FOLDER

    def put(self, source: Any, path: PurePosixPath, *, on_bytes: object) -> int:
        assert path not in self.sizes
        self.sizes[path] = source.size
        return int(source.size)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def test_a_template_is_found_under_the_number_that_was_free(repository: Repository) -> None:
    """Versions of another repository may have had the numbers before: it is written once all the same."""
    files, version = Files(), put(repository, "golden")
    site = cast("Any", SimpleNamespace(shell=files))
    step = PlaceTemplate(directory=FOLDER, name="golden", reason="")
    files.sizes = {FOLDER / "golden-20261123.tar.zst": 7, FOLDER / "golden-20261123.2.tar.zst": 8}
    paths = {ensure_template(step, repository, version, site, Events()) for _ in range(3)}
    assert paths == {FOLDER / "golden-20261123.3.tar.zst"}
    assert files.sizes[FOLDER / "golden-20261123.3.tar.zst"] == measure_template(version)
    assert len(files.sizes) == 3
