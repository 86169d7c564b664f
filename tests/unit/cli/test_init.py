"""The skeleton of a new project: one text with what this repository itself has, and in every package of goldsmith."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from goldsmith.cli.init import list_skeleton, write_skeleton
from tests.unit.cli.running import make_environment

ROOT = Path(__file__).parents[3]
SHARED = (
    "images/lxc/playbook.yml", "images/lxc/tests/test_image.py", "images/lxc/vars.yml", "inventory/hosts.yml",
    "requirements.yml",
)  # fmt: skip


def test_a_new_project_begins_with_what_this_repository_has(tmp_path: Path) -> None:
    write_skeleton(tmp_path)
    for name in SHARED:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()
        assert not (tmp_path / name).is_symlink()


def test_every_link_of_the_skeleton_leads_to_what_the_source_archive_holds() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"][
        "include"
    ]
    skeleton = ROOT / "src/goldsmith/cli/skeleton"
    links = [path for path in skeleton.rglob("*") if path.is_symlink()]
    assert sorted(str(path.relative_to(skeleton)) for path in links) == sorted(SHARED)
    for path in links:
        target = path.resolve(strict=True).relative_to(ROOT.resolve())
        assert target.parts[0] in included


def test_its_makefile_calls_the_command(tmp_path: Path) -> None:
    write_skeleton(tmp_path)
    ask = ["make", "--dry-run", "--directory", str(tmp_path)]
    expected = {
        "lxc-image": "build images/lxc", "lxc-image-check": "build --check images/lxc", "web-image": "build images/web",
        "web-image-check": "build --check images/web", "validate": "validate", "images": "images",
    }  # fmt: skip
    for target, arguments in expected.items():
        done = subprocess.run([*ask, target], capture_output=True, text=True, check=True)
        assert f"\ngoldsmith {arguments}\n" in f"\n{done.stdout}"


@pytest.mark.skipif(find_spec("hatchling") is None, reason="builds a wheel; needs hatchling")
def test_an_installed_goldsmith_makes_the_same_project(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path / "dist"]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = (tmp_path / "dist").iterdir()
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    environment = make_environment(tmp_path, {"PYTHONPATH": str(tmp_path / "installed")})
    done = subprocess.run(
        [sys.executable, "-m", "goldsmith.cli.main", "init", "made"], capture_output=True, text=True, check=True,
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.stdout.split() == [os.path.join("made", name) for name, _ in list_skeleton()]  # noqa: PTH118
    for name in SHARED:
        assert (tmp_path / "made" / name).read_bytes() == (ROOT / name).read_bytes()
