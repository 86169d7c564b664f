"""Ansible's own complaints, with file and line."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.errors import DefinitionError, Problem
from goldsmith.base.secrets import Secret
from goldsmith.provision.play import Play
from goldsmith.provision.syntax import check_syntax, find_problem

HEAD = "- hosts: all\n  tasks:\n"


class Project:
    """A project with one image."""

    def __init__(self, root: Path) -> None:
        self.root, self.image = root, root / "images" / "lxc"
        self.playbook = self.image / "playbook.yml"
        self.image.mkdir(parents=True)

    def play(self, text: str, **variables: Any) -> Play:
        self.playbook.write_text(text)
        return Play(self.playbook, self.root, variables)

    def refuse(self, text: str, *, host: str = "", **variables: Any) -> Problem:
        """Return the one problem that is found."""
        with pytest.raises(DefinitionError) as caught:
            check_syntax(self.play(text, **variables), host=host)
        (problem,) = caught.value.problems
        return problem


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_good_playbook_passes(project: Project) -> None:
    roles = [project.root / "roles" / "far", project.image / "roles" / "near"]
    for role in roles:
        (role / "tasks").mkdir(parents=True)
        (role / "tasks" / "main.yml").write_text("- ansible.builtin.debug: {msg: x}\n")
    (project.image / "group_vars").mkdir()
    (project.image / "group_vars" / "all.yml").write_text("near: near\n")
    text = "- hosts: '{{ pattern }}'\n  roles: [far, near]\n  vars_files: [no.yml]\n"
    check_syntax(project.play(text, pattern="all", password=Secret("x{{")), host="lxc-build")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("- hosts: all\n  roles: [missing]\n", 2, "the role 'missing' was not found"),
        (HEAD + "    - name: x\n      no_such_module: {}\n", 3, "couldn't resolve module/action 'no_such_module'"),
        (HEAD + "    - name: x\n     debug: {}\n", 4, "YAML parsing failed"),
        (HEAD + "    - import_tasks: missing.yml\n", 3, "missing.yml does not exist"),
        ("- hosts: all\n  task: []\n", 2, "'task' is not a valid attribute for a Play"),
        ("hosts: all\n", 1, "A playbook must be a list of plays"),
        ("- tasks: []\n", 1, "'hosts' is required"),
        ("", 0, "Empty playbook"),
    ],
)
def test_a_mistake_is_told_with_its_line(project: Project, text: str, line: int, said: str) -> None:
    problem = project.refuse(text)
    assert (problem.file, problem.line) == (project.playbook, line)
    assert said in problem.message
    assert "\n" not in problem.message


def test_a_mistake_in_another_file_names_that_file(project: Project) -> None:
    tasks = project.image / "tasks.yml"
    tasks.write_text("- name: fine\n  ansible.builtin.debug:\n- name: not\n  ansible.builtin.debug:\n  wehn: x\n")
    problem = project.refuse(HEAD + "    - import_tasks: tasks.yml\n")
    assert (problem.file, problem.line) == (tasks, 3)


def test_a_playbook_that_is_missing_is_told(project: Project) -> None:
    play = project.play("")
    play.playbook.unlink()
    with pytest.raises(DefinitionError, match="1 problem") as caught:
        check_syntax(play)
    assert "could not be found" in caught.value.detail


def test_plays_for_others_only_are_refused(project: Project) -> None:
    text = "- name: x\n  hosts: localhost\n  tasks: []\n- hosts: 'all:!all'\n  tasks: []\n- hosts: [web, db]\n"
    check_syntax(project.play(text))
    problem = project.refuse(text, host="lxc-build")
    assert problem == Problem(project.playbook, 2, "no play is for the build guest, and there is no other host")
    assert problem.accepted == "hosts: all"


def test_the_users_inventory_is_out_of_reach(project: Project) -> None:
    (project.root / "hosts.yml").write_text("all: {hosts: {web: {}}}\n")
    (project.root / "ansible.cfg").write_text("[defaults]\ninventory = hosts.yml\n")
    project.refuse("- hosts: web\n  tasks: []\n", host="lxc-build")


def test_the_guests_own_name_is_as_good_as_all(project: Project) -> None:
    check_syntax(project.play("- hosts: lxc-build\n  tasks: []\n"), host="lxc-build")


def test_checks_may_run_at_the_same_time(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    problems: list[Problem] = []
    thread = threading.Thread(target=lambda: problems.append(other.refuse("- hosts: all\n  roles: [a]\n")))
    thread.start()
    problems.append(project.refuse("- hosts: all\n  roles: [b]\n"))
    thread.join()
    assert {problem.file for problem in problems} == {project.playbook, other.playbook}


OLDER = """ERROR! couldn't resolve module/action 'nope'. This often indicates a misspelling, missing collection, or \
incorrect module path.

The error appears to be in '/p/images/lxc/tasks.yml': line 7, column 5, but may
be elsewhere in the file depending on the exact syntax problem.

The offending line appears to be:

  tasks:
    - nope: x
      ^ here
"""


def test_older_versions_of_ansible_are_understood() -> None:
    play = Play(Path("/p/images/lxc/playbook.yml"), Path("/p"))
    problem = find_problem(play, OLDER)
    assert (problem.file, problem.line) == (Path("/p/images/lxc/tasks.yml"), 7)
    assert problem.message.startswith("couldn't resolve module/action 'nope'.")
    assert problem.message.endswith("incorrect module path.")


def test_a_crash_is_a_problem_too() -> None:
    play = Play(Path("/p/playbook.yml"), Path("/p"))
    assert find_problem(play, "Traceback\nKeyError: 'x'\n") == Problem(play.playbook, 0, "KeyError: 'x'")
    assert find_problem(play, "").message == "Ansible refuses it without a word"
