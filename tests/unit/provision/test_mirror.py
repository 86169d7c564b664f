"""A playbook that is no file of the user's finds everything as if it stood in the image's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.provision.mirror import find_original, place_playbook
from goldsmith.provision.play import Play
from tests.unit.provision.running import run_ansible

FILES = {
    "images/lxc/playbook.yml": "- hosts: all\n",
    "images/lxc/files/near": "near",
    "images/lxc/templates/a.j2": "{% include 'b.j2' %}",
    "images/lxc/templates/b.j2": "{{ who }}",
    "images/lxc/group_vars/all.yml": "who: grouped\n",
    "images/lxc/vars/v.yml": "where: found\n",
    "images/common/far": "far",
    "images/common/more.yml": "- include_vars: v.yml\n",
    "roles/web/tasks/main.yml": "- set_fact: {role: \"{{ lookup('file', 'inside') }}\"}\n",
    "roles/web/files/inside": "inside",
    "assets/top": "top",
}
TEXT = """
- hosts: all
  gather_facts: false
  roles: [web]
  tasks:
    - import_tasks: ../common/more.yml
    - assert:
        that:
          - lookup('file', 'near') == 'near'
          - lookup('file', '../common/far') == 'far'
          - lookup('file', playbook_dir ~ '/../../assets/top') == 'top'
          - lookup('template', 'a.j2') == 'grouped'
          - where == 'found'
          - role == 'inside'
"""


@pytest.fixture
def play(tmp_path: Path) -> Play:
    root = tmp_path / "project"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Play(root / "images" / "lxc" / "playbook.yml", root)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder


def run_playbook(play: Play, playbook: Path) -> None:
    roles = str(play.project / "roles")
    run_ansible(playbook, home=playbook.parent / "home", cwd=play.project, ANSIBLE_ROLES_PATH=roles)


@pytest.mark.slow
def test_ansible_finds_the_same_from_the_mirror_as_from_the_folder(play: Play, private: Path) -> None:
    before = sorted(play.project.rglob("*"))
    run_playbook(play, place_playbook(replace(play, text=TEXT), private))
    assert sorted(play.project.rglob("*")) == before
    play.playbook.write_text(TEXT)
    run_playbook(play, play.playbook)


def test_a_file_of_the_users_is_run_where_it_stands(play: Play, private: Path) -> None:
    assert place_playbook(play, private) == play.playbook
    assert list(private.iterdir()) == []


def test_the_text_is_ours_alone_and_the_users_file_stays(play: Play, private: Path) -> None:
    placed = place_playbook(replace(play, text=TEXT), private)
    assert placed.read_text() == TEXT
    assert placed.stat().st_mode & 0o777 == 0o600
    assert play.playbook.read_text() == FILES["images/lxc/playbook.yml"]
    assert placed.parent.joinpath("files").resolve() == play.playbook.parent / "files"


def test_an_image_without_a_playbook_can_have_one(play: Play, private: Path) -> None:
    play.playbook.unlink()
    assert place_playbook(replace(play, text=TEXT), private).read_text() == TEXT
    assert not play.playbook.exists()


def test_what_is_told_of_a_file_in_the_mirror_is_true_of_the_users(play: Play, private: Path) -> None:
    placed = place_playbook(replace(play, text=TEXT), private)
    assert find_original(placed, play, private) == play.playbook
    assert find_original(placed.parent / "x.yml", play, private) == play.playbook.parent / "x.yml"
    assert find_original(Path("/elsewhere/x.yml"), play, private) == Path("/elsewhere/x.yml")
