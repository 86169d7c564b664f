"""What changes the digest of a play's content, and what does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from goldsmith.base.digest import Digest
from goldsmith.base.secrets import Secret
from goldsmith.provision.content import digest_content
from goldsmith.provision.play import Play

FILES = {
    "images/lxc/playbook.yml": "- hosts: all\n  tasks:\n    - import_tasks: ../common/tasks.yml\n",
    "images/lxc/vars.yml": "a: 1\n",
    "images/lxc/README.md": "text\n",
    "images/lxc/files/README.md": "a file that is copied\n",
    "images/lxc/tests/test_it.py": "pass\n",
    "images/lxc/group_vars/all.yml": "b: 1\n",
    "images/lxc/roles/near/tasks/main.yml": "[]\n",
    "images/lxc/roles/near/README.md": "text\n",
    "images/common/tasks.yml": "- import_tasks: ../more/deep.yml\n",
    "images/more/deep.yml": "[]\n",
    "images/vm/playbook.yml": "[]\n",
    "roles/far/tasks/main.yml": "[]\n",
    "roles/far/files/vars.yml": "a: 1\n",
    "roles/far/README.md": "text\n",
    "requirements.yml": "roles: [geerlingguy.docker]\ncollections:\n  - name: a.b\n    version: 1.0.0\n",
    "ansible.cfg": "[defaults]\nroles_path = third:~/.ansible/roles\nlog_path = log/ansible.log\n",
    "third/party/tasks/main.yml": "[]\n",
    "log/ansible.log": "x\n",
    "collections/ansible_collections/a/b/MANIFEST.json": '{"version": "1.0.0"}',
    "home/.ansible/roles/geerlingguy.docker/tasks/main.yml": "[]\n",
    "home/.ansible/roles/geerlingguy.docker/meta/.galaxy_install_info": "install_date: today\n",
    "repository/index.json": "{}",
}
COUNTED = [
    "images/lxc/playbook.yml", "images/lxc/files/README.md", "images/lxc/group_vars/all.yml",
    "images/lxc/roles/near/tasks/main.yml", "images/common/tasks.yml", "images/more/deep.yml",
    "third/party/tasks/main.yml", "roles/far/tasks/main.yml", "roles/far/files/vars.yml", "ansible.cfg",
    "collections/ansible_collections/a/b/MANIFEST.json", "home/.ansible/roles/geerlingguy.docker/tasks/main.yml",
]  # fmt: skip


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    root = tmp_path / "project"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setenv("HOME", str(root / "home"))
    return Play(root / "images" / "lxc" / "playbook.yml", root)


@pytest.fixture
def change(play: Play) -> Callable[[str], tuple[Digest, Digest]]:
    """Change a file; return the digests before and after."""

    def change_file(name: str) -> tuple[Digest, Digest]:
        before = digest_content(play)
        (play.project / name).write_text(FILES[name] + "# changed\n")
        return before, digest_content(play)

    return change_file


@pytest.mark.parametrize("name", COUNTED)
def test_what_the_playbook_can_reach_counts(change: Callable[[str], tuple[Digest, Digest]], name: str) -> None:
    before, after = change(name)
    assert before != after


@pytest.mark.parametrize("name", sorted(set(FILES) - set(COUNTED)))
def test_what_it_cannot_reach_does_not_count(change: Callable[[str], tuple[Digest, Digest]], name: str) -> None:
    before, after = change(name)
    assert before == after


def test_neither_time_nor_place_nor_variables_count(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_content(play)
    moved = tmp_path / "elsewhere" / "project"
    shutil.copytree(play.project, moved, copy_function=shutil.copy)
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    (moved / ".git").mkdir()
    (moved / "roles" / "far" / ".git").mkdir()
    monkeypatch.setenv("HOME", str(moved / "home"))
    variables = {"password": Secret("hush")}
    assert digest_content(Play(moved / "images" / "lxc" / "playbook.yml", moved, variables)) == before


def test_a_mode_and_a_new_file_count(play: Play) -> None:
    seen = {digest_content(play)}
    (play.playbook.parent / "files" / "README.md").chmod(0o755)
    seen.add(digest_content(play))
    (play.playbook.parent / "files" / "empty").touch()
    seen.add(digest_content(play))
    (play.project / "filter_plugins").mkdir()
    seen.add(digest_content(play))
    assert len(seen) == 4


def test_what_a_link_leads_to_counts(play: Play, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "tasks").mkdir(parents=True)
    (play.project / "roles" / "linked").symlink_to(shared)
    (shared / "loop").symlink_to(shared)
    before = digest_content(play)
    (shared / "tasks" / "main.yml").write_text("[]\n")
    assert digest_content(play) != before


def test_another_wanted_version_counts(play: Play) -> None:
    before = digest_content(play)
    text = FILES["requirements.yml"].replace("1.0.0", "1.0.1")
    (play.project / "requirements.yml").write_text(text)
    assert digest_content(play) != before


def test_requirements_that_are_not_yaml_count_as_they_are(play: Play) -> None:
    (play.project / "requirements.yml").write_text("{[\n")
    before = digest_content(play)
    (play.project / "requirements.yml").write_text("{[[\n")
    assert digest_content(play) != before


@pytest.mark.parametrize("text", ["", "roles: []\ncollections: []\n", "- src: x\n", "collections: [a.b]\n"])
def test_every_form_of_requirements_is_understood(play: Play, text: str) -> None:
    (play.project / "requirements.yml").write_text(text)
    assert digest_content(play).startswith("sha256:")
