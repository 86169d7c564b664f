"""What a stage reads past files and variables, so that it runs each time; and what is not taken for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.errors import DefinitionError
from goldsmith.base.secrets import Secret
from goldsmith.provision.inputs import Inputs, find_inputs
from goldsmith.provision.play import Play

IMAGE = "images/lxc"
VAULT = "$ANSIBLE_VAULT;1.1;AES256\n6162\n"


class Project:
    """A project with one image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / IMAGE).mkdir(parents=True)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def find(self, tasks: str, head: str = "hosts: all", **variables: Any) -> Inputs:
        self.write(f"{IMAGE}/playbook.yml", f"- {head}\n  tasks:\n    - {tasks}\n")
        return find_inputs(Play(self.root / IMAGE / "playbook.yml", self.root, variables))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Project(tmp_path / "project")


@pytest.mark.parametrize(
    "tasks",
    [
        "command: x\n      delegate_to: localhost",
        "command: x\n      delegate_to: '{{ somebody }}'",
        "block:\n        - command: x\n          delegate_to: localhost",
        "local_action: command x",
        "ansible.builtin.local_action: {module: command, cmd: x}",
        "command: x\n      connection: local",
        "command: x\n      connection: '{{ how }}'",
        "command: x\n      vars: {ansible_connection: local}",
        "command: x\n      vars: {ansible_host: 127.0.0.1}",
        "add_host: {name: x}",
        "fetch: {src: /a, dest: b}",
        "ansible.posix.synchronize: {src: /a, dest: b, mode: pull}",
        "action: '{{ what }} src=a'",
        "action: {module: '{{ what }}'}",
        "debug: {msg: \"{{ lookup('pipe', 'date') }}\"}",
        "debug: {msg: \"{{ lookup('ansible.builtin.pipe', 'date') }}\"}",
        "debug: {msg: \"{{ query('url', 'https://example.org') }}\"}",
        "debug: {msg: \"{{ q('lines', 'ls') }}\"}",
        "debug: {msg: \"{{ lookup('env', 'HOME') }}\"}",
        "debug: {msg: \"{{ lookup('password', '/dev/null') }}\"}",
        "debug: {msg: \"{{ lookup('config', 'DEFAULT_ROLES_PATH') }}\"}",
        "debug: {msg: \"{{ lookup('acme.tools.file', 'x') }}\"}",
        "debug: {msg: \"{{ lookup(which, 'x') }}\"}",
        "debug: {msg: \"{% set l = lookup %}{{ l('pipe', 'date') }}\"}",
        "debug: {msg: x}\n      with_lines: ls",
        "debug: {msg: x}\n      with_acme.tools.things: ls",
        "debug: {msg: x}\n      with_random_choice: [a, b]",
        "debug: {msg: x}\n      when: \"'/etc/x' is exists\"",
        "debug: {msg: x}\n      when: path is not ansible.builtin.file",
        "debug: {msg: \"{{ ['/a', '/b'] | select('exists') }}\"}",
        "debug: {msg: \"{{ files | selectattr('path', 'is_dir') }}\"}",
        "debug: {msg: \"{{ '/etc/*.conf' | fileglob }}\"}",
        "debug: {msg: \"{{ '$HOME' | expandvars }}\"}",
        "debug: {msg: \"{{ found | map('realpath') }}\"}",
        "debug: {msg: x}\n      vars: {here: \"lookup('pipe', 'date')\"}\n      when: here",
        "copy: {src: $HOME/x, dest: /a}",
        "copy: {src: '/srv/{{ x }}', dest: /a}",
        "copy: src=/srv/{{x}} dest=/a",
        "copy: {src: '../{{ x }}', dest: /a}",
        "copy: {src: '{{ playbook_dir }}/../{{ x }}', dest: /a}",
        "copy: {src: '../..', dest: /a}",
        "copy: {src: '{{ playbook_dir | dirname }}/x', dest: /a}",
        "copy: {src: '{{ top }}/x', dest: /a}\n      vars: {top: '{{ ansible_config_file | dirname }}'}",
        "copy: {src: '{{ item }}', dest: /a}\n      loop: ['/srv/{{ x }}']",
        "copy: {src: '{{ secret_file }}', dest: /a}",
        "copy: {src: '{{ far }}', dest: /a}",
        "include_tasks: secret.yml",
        "include_tasks: odd.yml",
        "include_tasks: strange",
        "template: {src: lookups.j2, dest: /a}",
        "template: {src: marks.j2, dest: /a}",
        "copy: {src: around, dest: /a}",
        "debug: {var: cold}",
    ],
)
def test_what_reads_more_than_files_and_variables_runs_each_time(project: Project, tasks: str) -> None:
    project.write(f"{IMAGE}/tasks/secret.yml", VAULT)
    project.write(f"{IMAGE}/odd.yml", "- name: a\n  name: b\n  command: x\n  delegate_to: localhost\n")
    project.write(f"{IMAGE}/tasks/strange", "- command: x\n  delegate_to: localhost\n")
    project.write(f"{IMAGE}/templates/lookups.j2", "{{ lookup('env', 'USER') }}")
    project.write(f"{IMAGE}/templates/marks.j2", "#jinja2: variable_start_string: '[['\n[[ lookup('env', 'USER') ]]")
    (project.root / IMAGE / "around").symlink_to("../..")
    variables: dict[str, Any] = {
        "secret_file": Secret("/srv/x"),
        "far": "/srv/{{ x }}",
        "cold": "{{ lookup('pipe', 'date') }}",
    }
    assert project.find(tasks, **variables).outside


@pytest.mark.parametrize(
    "head",
    [
        "hosts: localhost", "hosts: 127.0.0.1", "hosts: [all, localhost]", "hosts: '{{ who }}'",
        "hosts: 'all:localhost'",
        "hosts: all\n  connection: local", "hosts: all\n  vars: {ansible_connection: local}",
    ],
)  # fmt: skip
def test_a_play_for_this_machine_runs_each_time(project: Project, head: str) -> None:
    assert project.find("command: x", head).outside


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("filter_plugins/f.py", "def f(x): return open(x).read()"),
        ("lookup_plugins/file.py", "import subprocess"),
        ("action_plugins/copy.py", "self._find_needle('files', x)"),
        ("vars_plugins/v.py", "import os; os.environ"),
        ("group_vars/all.yml", "a: \"{{ lookup('pipe', 'date') }}\""),
        ("host_vars/lxc-build.yml", "ansible_connection: local"),
        ("../../collections/ansible_collections/acme/tools/plugins/filter/f.py", "open(x)"),
    ],
)
def test_what_ansible_takes_by_itself_is_looked_at(project: Project, name: str, text: str) -> None:
    project.write(f"{IMAGE}/{name}", text)
    assert project.find("debug: {msg: \"{{ 'x' | acme.tools.f }}\"}").outside


@pytest.mark.parametrize("key", ["acme.tools.gadget", "gadget"])
def test_a_collections_code_on_this_machine_runs_each_time(project: Project, key: str) -> None:
    folder = "collections/ansible_collections/acme/tools"
    project.write(f"{folder}/MANIFEST.json", "{}")
    project.write(f"{folder}/plugins/action/gadget.py", "pass")
    assert project.find(f"{key}: {{}}").outside
    assert not project.find("debug: {msg: acme.tools}").outside


@pytest.mark.parametrize(
    "tasks",
    [
        "apt: {name: git}",
        "file: {src: '/opt/app-{{ version }}', dest: /opt/app, state: link}",
        "file: src=/opt/app-{{ version }} dest=/opt/app state=link",
        "copy: {src: '/opt/{{ x }}', dest: /b, remote_src: true}",
        "copy: src=/opt/{{x}} dest=/b remote_src=yes",
        "unarchive: {src: 'https://example.org/{{ x }}.tgz', dest: /opt, remote_src: yes}",
        "template: {src: '{{ item.src }}', dest: '{{ item.dest }}'}\n      loop: [{src: a.j2, dest: '/etc/{{ x }}/a'}]",
        "template: {src: '{{ item }}', dest: /a}\n      loop: [a.j2, b.j2]",
        "command: {cmd: find / | realpath}",
        "shell: test -e x && cat x | fileglob",
        "debug: {msg: there is file and lookup of delegate_to}\n      name: What is file x",
        "debug: {msg: \"{{ lookup('file', 'a') }}{{ q('items', x) }}\"}",
        "debug: {msg: x}\n      with_items: [a]",
        "debug: {msg: x}\n      when: result is changed and x is defined and y is not failed",
        "file: {path: '{{ item }}', state: directory}\n      loop: ['/var/{{ x }}', /srv]",
        "shell: rsync src=/srv/{{ x }} dest=b",
        "command: cat ../x\n      args: {chdir: /opt}",
    ],
)
def test_what_only_the_guest_reads_is_left_to_it(project: Project, tasks: str) -> None:
    assert project.find(tasks).outside == ""


def test_a_link_of_the_guest_counts_nothing_here(project: Project) -> None:
    project.write(f"{IMAGE}/files/x", "")
    found = project.find("file: {src: /etc/hostname, dest: /opt/y, state: link}")
    assert (found.files, found.whole) == ({}, "")
    assert str(project.root) not in str(list(project.find("command: cat /etc/hostname").files))


def test_only_what_is_named_counts(project: Project) -> None:
    for name in ("motd", "motd.old", "issue", "deep/er/page"):
        project.write(f"{IMAGE}/files/{name}", "")
    assert list(project.find("copy: {src: motd, dest: /}").files) == [f"{IMAGE}/files/motd"]
    found = project.find("copy: {src: deep, dest: /}").files
    assert set(found) == {f"{IMAGE}/files/{name}" for name in ("deep", "deep/er", "deep/er/page")}


def test_the_reason_why_everything_counts_is_told(project: Project) -> None:
    assert project.find("copy: {src: '{{ x }}', dest: /}").whole == "a path is put together: src: {{ x }}"
    found = project.find("debug: {msg: \"{{ lookup('pipe', 'date') }}\"}")
    assert found.outside == "it reads more than files and variables: lookup('pipe', 'date') }}"


def test_a_large_folder_elsewhere_is_not_counted_but_read_each_time(project: Project) -> None:
    for number in range(2001):
        project.write(f"../away/{number}", "")
    found = project.find(f"copy: {{src: {project.root.parent}/away/, dest: /}}")
    assert "a large folder outside of the project" in found.outside
    assert not found.files


def test_links_in_a_circle_come_to_an_end(project: Project) -> None:
    folder = project.root / IMAGE / "files" / "ring"
    folder.mkdir(parents=True)
    (folder / "again").symlink_to("../ring")
    (folder / "self").symlink_to("self")
    (folder / "gone").symlink_to("nowhere")
    assert len(project.find("copy: {src: ring, dest: /}").files) == 4


def test_what_cannot_be_read_is_told(project: Project) -> None:
    with pytest.raises(DefinitionError) as caught:
        find_inputs(Play(project.root / IMAGE / "playbook.yml", project.root))
    (problem,) = caught.value.problems
    assert "cannot be read" in problem.message
