"""How a person names an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.base.errors import UsageError
from goldsmith.definition.images import find_image_directory, list_images


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("lxc", "debian-12-docker", "half"):
        (tmp_path / "images" / name).mkdir(parents=True)
    for name in ("lxc", "debian-12-docker"):
        (tmp_path / "images" / name / "vars.yml").touch()
    (tmp_path / "images" / "README.md").touch()
    return tmp_path


def test_folders_with_a_vars_file_are_listed_by_name(project: Path) -> None:
    assert [path.name for path in list_images(project)] == ["debian-12-docker", "lxc"]


def test_a_project_without_images_has_none(tmp_path: Path) -> None:
    assert list_images(tmp_path) == []


@pytest.mark.parametrize("where", ["lxc", "images/lxc", "images/lxc/", "./images/lxc", "images/lxc/vars.yml"])
def test_an_image_is_found_by(where: str, project: Path) -> None:
    assert find_image_directory(where, project) == project / "images" / "lxc"


def test_an_image_elsewhere_is_found_by_its_absolute_path(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "vars.yml").touch()
    assert find_image_directory(str(elsewhere), project) == elsewhere


@pytest.mark.parametrize(
    ("where", "message", "hint"),
    [
        ("lcx", "there is no image 'lcx' in {project}", "did you mean images/lxc?"),
        ("images/debian-12-dokcer", "there is no image", "did you mean images/debian-12-docker?"),
        ("web", "there is no image 'web'", "images here: images/debian-12-docker, images/lxc"),
        ("half", "{project}/images/half has no vars.yml", "images here: images/debian-12-docker, images/lxc"),
        ("/nowhere", "there is no image '/nowhere'", "images here:"),
        ("", "there is no image ''", "images here:"),
        ("a\0b", "there is no image", "images here:"),
    ],
)
def test_a_name_that_is_none_says_what_was_meant(where: str, message: str, hint: str, project: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_image_directory(where, project)
    assert message.format(project=project) in caught.value.message
    assert hint in caught.value.hint


def test_without_any_image_the_hint_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_image_directory("lxc", tmp_path)
    assert caught.value.hint == f"make one: a folder in {tmp_path}/images with a vars.yml and a playbook.yml"
