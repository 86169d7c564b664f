"""Ansible itself says which files it opens; every one of them in the project must have been counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from goldsmith.base.process import Argument, build_environment, run
from goldsmith.provision.inputs import Inputs, find_inputs
from goldsmith.provision.play import Play

IMAGE = "images/lxc"
WATCH = """
import os, sys
def _watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = os.path.abspath(os.fsdecode(arguments[0]))
        if name.startswith(os.environ["WATCHED"] + "/") and os.path.isfile(name):
            fd = os.open(os.environ["WATCHED"] + ".log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, (name + chr(10)).encode())
            os.close(fd)
sys.addaudithook(_watch)
"""
FILES = {
    "files/plain": "1", "files/deep/er/page": "1", "files/conf/a.conf": "1", "files/go.sh": "#!/bin/sh\nexit 0\n",
    "files/parts/1": "1", "files/parts/2": "2", "files/table.csv": "k,v\n", "files/some.ini": "[s]\nk=v\n",
    "files/ansible.csv": "k\tv\n", "bare": "1", "templates/a.j2": "{% include 'b.j2' %}{% import 'c.j2' as c %}",
    "templates/b.j2": "{{ lookup('file', '../../../assets/asset_one') }}",
    "templates/c.j2": "{% macro m() %}{% endmacro %}",
    "templates/odd_one.j2": "1", "vars/settings/one.yml": "one: 1", "vars/Debian.yml": "a: 1", "loose.yml": "b: 1",
    "tasks/more.yml": "- import_tasks: evenmore.yml\n", "tasks/evenmore.yml": "- ping:\n", "group_vars/all.yml": "c: 1",
    "host_vars/guest.yml": "d: 1", "filter_plugins/f.py": "class FilterModule:\n    def filters(self): return {}\n",
    "library/gadget.py": "#!/usr/bin/python\nprint('{\"changed\": false}')\n",
    "roles/near/tasks/main.yml": "- copy: {src: own, dest: '{{ out }}/own'}\n- include_vars: extra.yml\n"
                                 "- template: {src: n.j2, dest: '{{ out }}/'}\n",
    "roles/near/files/own": "1", "roles/near/vars/extra.yml": "e: 1", "roles/near/templates/n.j2": "1",
    "roles/near/meta/main.yml": "dependencies: [far]", "roles/near/defaults/main.yml": "f: 1",
    "roles/near/meta/argument_specs.yml": "argument_specs: {main: {options: {}}}",
    "roles/near/handlers/main.yml": "- {name: h, ping: }\n", "roles/near/tasks/extra.yml": "- script: tool.sh\n",
    "roles/near/files/tool.sh": "#!/bin/sh\n", "../common/data": "1", "../../assets/asset_one": "1",
    "../common/tasks.yml": "- copy: {src: ../common/data, dest: '{{ out }}/'}\n",
    "../../roles/far/tasks/main.yml": "- include_tasks: sub/x.yml\n",
    "../../roles/far/tasks/sub/x.yml": "- ping:\n",
    "../../collections/ansible_collections/acme/tools/MANIFEST.json": "{\"collection_info\": {\"version\": \"1.0.0\"}}",
    "../../collections/ansible_collections/acme/tools/roles/site/tasks/main.yml":
        "- debug: {msg: \"{{ lookup('file', 'hidden') }}\"}\n",
    "../../collections/ansible_collections/acme/tools/roles/site/files/hidden": "1",
    "other.yml": "- hosts: all\n  gather_facts: false\n  vars_files: [loose.yml]\n  tasks: [{ping: }]\n",
    "unused": "1", "files/unused": "1",
}  # fmt: skip
NAMED = [
    "copy: {src: plain, dest: '{{ out }}/a'}",
    "copy: {src: deep/, dest: '{{ out }}/'}",
    "copy: {src: bare, dest: '{{ out }}/'}",
    "debug: {msg: \"{{ lookup('file', 'deep/er/page') }}\"}",
    "template: {src: a.j2, dest: '{{ out }}/a'}",
    "debug: {msg: \"{{ lookup('ansible.builtin.template', 'a.j2') }}\"}",
    "script: go.sh --now",
    "assemble: {src: parts, remote_src: false, dest: '{{ out }}/a'}",
    "debug: {msg: \"{{ lookup('csvfile', 'k file=table.csv delimiter=,') }}\"}",
    "debug: {msg: \"{{ lookup('csvfile', 'k') }}\"}",
    "debug: {msg: \"{{ lookup('ini', 'k', section='s', file='some.ini') }}\"}",
    "debug: {msg: '{{ item }}'}\n      with_file: [plain, ../common/data]",
    "include_vars: loose.yml",
    "include_vars: {dir: vars/settings}",
    "import_tasks: tasks/more.yml",
    "include_tasks: {file: tasks/more.yml, apply: {tags: x}}",
    "copy: {src: '{{ playbook_dir }}/../../assets/asset_one', dest: '{{ out }}/'}",
    "import_role: name=near tasks_from=extra",
    "import_role: {name: acme.tools.site}",
    "gadget:",
    "action: copy src=plain dest={{out}}/a",
    "debug: {msg: \"{{ lookup('unvault', 'plain') }}\"}",
    "copy: {dest: '{{ out }}/a'}\n      module_defaults: {copy: {src: plain}}",
    "debug: {var: lazy}",
]
"""What a text names as it is."""
COMPOSED = [
    "include_tasks: 'tasks/{{ kind }}.yml'",
    "copy: src=files/ dest={{out}}/",
    "copy: {src: '{{ item }}', dest: '{{ out }}/'}\n      loop: [plain, bare]",
    "copy: {src: '{{ item }}', dest: '{{ out }}/'}\n      with_fileglob: ['conf/*.conf']",
    "debug: {msg: \"{{ lookup('file', q('fileglob', 'conf/*')[0]) }}\"}",
    "template: {src: 'odd_{{ one }}.j2', dest: '{{ out }}/a'}\n      vars: {one: one}",
    "include_vars: '{{ item }}'\n      with_first_found: [{files: [no.yml, Debian.yml], paths: [vars]}]",
    "include_vars: {file: \"{{ lookup('first_found', ['no.yml', 'loose.yml'], paths=['vars', '.']) }}\"}",
    "import_tasks: ../common/tasks.yml",
    "include_role: {name: near}",
    "include_role: {name: '{{ kind_of }}r'}\n      vars: {kind_of: nea}",
    "copy: {src: '{{ named }}', dest: '{{ out }}/'}",
]
"""What is put together."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "project" / IMAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "out").mkdir()
    return tmp_path


def list_opened(root: Path, playbook: Path, variables: list[Argument]) -> set[Path]:
    """What Ansible and the modules that it runs open in the project."""
    project = root / "project"
    given = {
        "PYTHONPATH": str(root / "watch"), "WATCHED": str(project), "ANSIBLE_HOME": str(root / "home"),
        "ANSIBLE_ROLES_PATH": str(project / "roles"), "ANSIBLE_COLLECTIONS_PATH": str(project / "collections"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    argv: list[Argument] = [sys.executable, "-P", "-m", "ansible", "playbook", "-c", "local", "-i", "guest,"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}"]
    run([*argv, *variables, playbook], env=build_environment(given), cwd=project, timeout=240)
    return {Path(line) for line in Path(f"{project}.log").read_text().splitlines()}


def check(root: Path, tasks: list[str], head: str) -> Inputs:
    project = root / "project"
    text = "".join(f"    - {task}\n" for task in tasks)
    playbook = project / IMAGE / "playbook.yml"
    playbook.write_text(f"- {head}\n  gather_facts: false\n  tasks:\n{text}- import_playbook: other.yml\n")
    variables = {
        "out": f"{root}/out",
        "kind": "more",
        "lazy": "{{ lookup('file', 'plain') }}",
        "named": "../common/data",
    }
    opened = list_opened(root, playbook, ["-e", f"@{_write_variables(root, variables)}"])
    inputs = find_inputs(Play(playbook, project, variables))
    counted = {path.resolve() for path in inputs.files.values()} | {playbook}
    collections = project / "collections"
    missing = [str(path.relative_to(project)) for path in sorted(opened) if path.resolve() not in counted
               and not (path.is_relative_to(collections) and inputs.collections)]  # fmt: skip
    assert missing == []
    assert len(opened) > 20
    return inputs


def _write_variables(root: Path, variables: dict[str, str]) -> Path:
    file = root / "variables.yml"
    file.write_text("".join(f'{name}: "{value}"\n' for name, value in variables.items()))
    return file


@pytest.mark.slow
def test_every_file_that_ansible_opens_by_name_was_counted(root: Path) -> None:
    inputs = check(root, NAMED, "hosts: all\n  vars_files: [loose.yml]")
    assert inputs.whole == ""
    assert not [name for name in inputs.files if "unused" in name]


@pytest.mark.slow
def test_every_file_that_ansible_opens_by_a_composed_name_was_counted(root: Path) -> None:
    check(root, COMPOSED, "hosts: all\n  roles: [{role: near}]")
