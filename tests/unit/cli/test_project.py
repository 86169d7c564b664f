"""Finding the project, and goldsmith's own directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.base.errors import UsageError
from goldsmith.cli.project import downloads_directory, find_project, get_project, state_directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/images/lxc").mkdir(parents=True)
    return tmp_path / "project"


@pytest.mark.parametrize("below", [".", "images", "images/lxc"])
def test_the_nearest_folder_upward_with_images_is_the_project(project: Path, below: str) -> None:
    assert find_project(project / below) == project
    assert get_project(None, project / below) == project


def test_a_project_in_a_project_is_found_first(project: Path) -> None:
    inner = project / "other/images"
    inner.mkdir(parents=True)
    assert find_project(inner) == project / "other"


def test_a_file_named_images_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/images").touch()
    with pytest.raises(UsageError):
        get_project(tmp_path / "folder", tmp_path)


def test_a_named_project_may_be_relative(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    assert get_project(Path("project"), Path("/")) == project


def test_a_named_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path} has no images/: that is no goldsmith project") as caught:
        get_project(tmp_path, tmp_path)
    assert "goldsmith init" in caught.value.hint


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/home/ops"}, "/home/ops/.local/state/goldsmith"),
        ({"HOME": "/home/ops", "XDG_STATE_HOME": "/srv/state"}, "/srv/state/goldsmith"),
        ({"HOME": "/home/ops", "XDG_STATE_HOME": ""}, "/home/ops/.local/state/goldsmith"),
        ({"HOME": "/home/ops", "XDG_STATE_HOME": "relative"}, "/home/ops/.local/state/goldsmith"),
    ],
)
def test_state_is_where_the_xdg_specification_wants_it(environment: dict[str, str], expected: str) -> None:
    assert state_directory(environment) == Path(expected)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/home/ops"}, "/home/ops/.cache/goldsmith/downloads"),
        ({"HOME": "/home/ops", "XDG_CACHE_HOME": "/srv/cache"}, "/srv/cache/goldsmith/downloads"),
        ({"HOME": "/home/ops", "XDG_CACHE_HOME": "relative"}, "/home/ops/.cache/goldsmith/downloads"),
    ],
)
def test_downloads_are_where_the_xdg_specification_wants_them(environment: dict[str, str], expected: str) -> None:
    assert downloads_directory(environment) == Path(expected)
