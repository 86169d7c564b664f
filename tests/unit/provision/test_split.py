"""A playbook in two parts is the whole: same plays, tasks and lines, by our reading and by Ansible's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from goldsmith.base.errors import DefinitionError
from goldsmith.definition.source import parse_document
from goldsmith.provision.split import split_playbook
from tests.unit.provision.running import run_ansible

HEAD = "- hosts: all\n  become: true\n  tasks:\n"
APT = "    - name: Tools\n      apt: {name: git}\n"
OTHER = "    - name: Other\n      command: 'true'\n"


def split(tmp_path: Path, text: str) -> tuple[str, ...]:
    file = tmp_path / "playbook.yml"
    file.write_text(text)
    return split_playbook(file)


def check_whole(text: str, parts: tuple[str, ...]) -> None:
    """The parts have exactly the plays and tasks of the whole, in order, each at its line."""
    file = Path("playbook.yml")
    whole = parse_document(text, file)
    read = [parse_document(part, file) for part in parts]
    flat = [[(play, number, task) for number, play in enumerate(one.value) for task in play["tasks"]]
            for one in (whole, *read)]  # fmt: skip
    tasks = [task for play, _, task in flat[0]]
    assert [task for part in flat[1:] for _, _, task in part] == tasks
    heads = [{key: value for key, value in play.items() if key != "tasks"} for play in whole.value]
    told = [{key: value for key, value in play.items() if key != "tasks"} for one in read for play in one.value]
    assert told in (heads, [heads[0], *heads])
    at = {(repr(task), line) for one in read for task, line in _list_lines(one)}
    assert at == {(repr(task), line) for task, line in _list_lines(whole)}


def _list_lines(document: object) -> list[tuple[object, int]]:
    lines, plays = document.lines, document.value  # type: ignore[attr-defined]
    return [(task, lines[number, "tasks", place]) for number, play in enumerate(plays)
            for place, task in enumerate(play["tasks"])]  # fmt: skip


def test_what_installs_first_is_a_part_of_its_own(tmp_path: Path) -> None:
    text = f"---\n# a comment\n{HEAD}\n{APT}\n    # why\n{APT}{OTHER}{APT}  tags: [x]\n"
    parts = split(tmp_path, text)
    assert len(parts) == 2
    check_whole(text, parts)
    assert [part.count("apt:") for part in parts] == [2, 1]
    assert "tags: [x]" in parts[0]
    assert "tags: [x]" in parts[1]


TASKS = st.lists(
    st.sampled_from(
        [
            APT, OTHER, "    - package: name=vim\n", "    -\n      apt: {name: x}\n", "\n    # comment\n    - ping:\n",
            "    - name: >-\n        folded\n\n        text\n      apt:\n        name:\n        - a\n\n        - b\n",
            "    - name: |+\n        - hosts: none\n\n      apt: {name: y}\n", "    - {name: Flow, apt: {name: z}}\n",
            "    - apt: {name: w,\n        state: latest}\n      when: x\n",
            "    - apt: {name: a}\n      register: r\n",
            "    - apt: {name: a}\n      notify: h\n", "    - block:\n        - apt: {name: a}\n",
            "    - apt: &anchor {name: a}\n", "    - apt: *anchor\n", "    - apt: {name: a}\n      vars: &a.b {x: 1}\n",
            "    - pip: {name: 'x'}\n      vars: *a.b\n", "    - copy: {content: '*x &y', dest: /a}\n",
            "    - deb822_repository: {name: é\u2028ü}\n",
        ]
    ),
    max_size=6,
)  # fmt: skip
HEADS = st.sampled_from(
    [
        HEAD, "- hosts: all\n  tasks:\n", "- name: A play\n  hosts: all\n  vars: {a: 1}\n  tasks:\n",
        "- hosts: localhost\n  tasks:\n", "- hosts: all\n  gather_facts: false\n  tasks:\n",
        "- hosts: all\n  roles: [x]\n  tasks:\n", "-\n  hosts: all\n  tasks:\n",
        "- hosts: '*'\n  gather_facts: true\n  tasks:\n",
    ]
)  # fmt: skip
TAILS = st.sampled_from(["", "  tags: [x]\n", "  vars:\n    b: 2\n", "  handlers: []\n", "# end\n"])
BEGINNINGS = st.sampled_from(["", "---\n", "# comment\n", "%YAML 1.1\n---\n", "\n\n"])


def _join(parts: list[tuple[str, list[str], str]]) -> str:
    return "".join(head + "".join(tasks) + tail for head, tasks, tail in parts)


ANY_PLAY = st.tuples(HEADS, TASKS.filter(bool), TAILS)
INSTALLING = TASKS.map(
    lambda tasks: [APT, *(task for task in tasks if "apt: {name" in task and "register" not in task)]
)
DIVISIBLE_PLAY = st.tuples(
    st.sampled_from([HEAD, "-\n  hosts: all\n  tasks:\n", "- hosts: '*'\n  gather_facts: true\n  tasks:\n"]),
    st.builds(lambda first, rest: [*first, *rest], INSTALLING, TASKS),
    TAILS,
)
PLAYBOOKS = st.builds(
    lambda begin, first, later: begin + _join([first, *later]),
    BEGINNINGS,
    ANY_PLAY | DIVISIBLE_PLAY,
    st.lists(ANY_PLAY, max_size=2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@given(PLAYBOOKS)
@example(HEAD + APT + OTHER)
@example(HEAD + "    - name: |+\n        x\n\n\n      apt: {name: y}\n" + OTHER)
@example(HEAD + "    - apt: &a.b {name: x}\n    - command: {}\n      vars: *a.b\n")
@example(HEAD + APT + "- hosts: all\n  gather_facts: false\n  tasks:\n" + OTHER)
def test_two_parts_are_the_whole(tmp_path: Path, text: str) -> None:
    parts = split(tmp_path, text)
    if len(parts) == 1:
        assert parts == (text,)
        return
    check_whole(text, parts)
    first, second = (parse_document(part, Path("playbook.yml")).value for part in parts)
    assert len(first) == 1
    assert second[0]["hosts"] in ("all", "*")
    for task in first[0]["tasks"]:
        assert not {"register", "notify", "block", "delegate_to", "until"} & set(task)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + OTHER + APT,
        HEAD + APT,
        HEAD + APT + APT,
        HEAD + "    - apt: {name: a}\n      register: r\n" + OTHER,
        HEAD + "    - apt: {name: a}\n      notify: r\n" + OTHER,
        HEAD + "    - apt: {name: a}\n      delegate_to: b\n" + OTHER,
        HEAD + "    - apt: {name: a}\n      ignore_errors: true\n" + OTHER,
        HEAD + "    - apt: {name: a}\n      until: x\n" + OTHER,
        HEAD + "    - acme.tools.apt: {name: a}\n" + OTHER,
        HEAD.replace("all", "localhost") + APT + OTHER,
        HEAD.replace("all", "'{{ who }}'") + APT + OTHER,
        HEAD.replace("all", "[all]") + APT + OTHER,
        HEAD.replace("become: true", "roles: [x]") + APT + OTHER,
        HEAD.replace("become: true", "pre_tasks: []") + APT + OTHER,
        HEAD.replace("become: true", "handlers: []") + APT + OTHER,
        HEAD.replace("become: true", "collections: [acme.tools]") + APT + OTHER,
        HEAD.replace("become: true", "connection: local") + APT + OTHER,
        HEAD.replace("become: true", "serial: 1") + APT + OTHER,
        HEAD.replace("become: true", "vars_prompt: []") + APT + OTHER,
        HEAD + APT + OTHER + "- import_playbook: other.yml\n",
        "- import_playbook: other.yml\n" + HEAD + APT + OTHER,
        HEAD + APT + "    - debug: {msg: '{{ playbook_dir }}'}\n",
        HEAD + APT + "    - debug: {msg: '{{ ansible_play_hosts }}'}\n",
        "- {hosts: all, tasks: [{apt: {name: a}}, {ping: {}}]}\n",
        HEAD + APT + "- hosts: all\n  gather_facts: false\n  tasks:\n" + OTHER,
        HEAD + APT + "- hosts: all\n  gather_subset: [min]\n  tasks:\n" + OTHER,
        HEAD + APT + "- hosts: localhost\n  tasks:\n" + OTHER,
        HEAD.replace("become", "gather_facts") + APT + "- hosts: all\n  tasks:\n" + OTHER,
        "hosts: all\n",
        "[]\n",
        "",
        "- hosts: all\n  tasks: '{{ x }}'\n",
        "- hosts: [\n",
    ],
)
def test_what_is_not_safe_is_not_divided(tmp_path: Path, text: str) -> None:
    assert split(tmp_path, text) == (text,)


@pytest.mark.parametrize("second", ["hosts: all", "hosts: all\n  gather_facts: true"])
def test_a_play_that_only_installs_is_a_part(tmp_path: Path, second: str) -> None:
    text = f"---\n{HEAD}{APT}{APT}\n- {second}\n  tasks:\n{OTHER}"
    parts = split(tmp_path, text)
    assert len(parts) == 2
    check_whole(text, parts)


@pytest.mark.parametrize("folder", ["library", "action_plugins"])
def test_a_module_of_ones_own_is_no_installing(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "apt.py").touch()
    assert len(split(tmp_path, HEAD + APT + OTHER)) == 1


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "playbook.yml"
    with pytest.raises(DefinitionError):
        split_playbook(file)
    file.write_bytes(b"- hosts: \xff\n")
    with pytest.raises(DefinitionError):
        split_playbook(file)


def list_tasks(folder: Path, text: str) -> list[str]:
    """The tasks of a playbook as Ansible lists them."""
    file = folder / "listed.yml"
    file.write_text(text)
    done = run_ansible(file, "--list-tasks", home=folder)
    return re.findall(r"^      (\S.*?)\tTAGS", done.stdout, re.MULTILINE)


def run_all(folder: Path, texts: tuple[str, ...]) -> str:
    """What playbooks leave in a file, run one after the other on this machine."""
    result = folder / "result"
    result.unlink(missing_ok=True)
    for text in texts:
        (folder / "run.yml").write_text(text)
        run_ansible(folder / "run.yml", home=folder)
    return result.read_text()


@pytest.mark.slow
def test_ansible_finds_the_same_tasks_in_the_parts(tmp_path: Path) -> None:
    text = (
        f"---\n{HEAD}{APT}    - package:\n        name: vim\n      when: |\n        true\n{OTHER}"
        "    - block:\n        - name: In a block\n          ping:\n  vars:\n    a: 1\n"
        f"- hosts: all\n  tasks:\n{OTHER}{APT}"
    )
    parts = split(tmp_path, text)
    assert len(parts) == 2
    whole = list_tasks(tmp_path, text)
    assert len(whole) == 6
    assert [task for part in parts for task in list_tasks(tmp_path, part)] == whole


@pytest.mark.slow
def test_the_parts_do_what_the_whole_does(tmp_path: Path) -> None:
    """The installing is skipped, for it would change this machine; its order is Ansible's affair, see the lists."""
    say = f"    - shell: echo {{{{ word }}}} {{{{ n }}}} >> {tmp_path}/result\n      vars: {{n: %s}}\n"
    skipped = "    - apt: {name: git}\n      when: false\n"
    head = "- hosts: all\n  gather_facts: false\n  vars: {word: x}\n  tasks:\n"
    text = head + skipped + skipped + say % 1 + skipped + say % 2 + head + say % 3
    parts = split(tmp_path, text)
    assert len(parts) == 2
    assert run_all(tmp_path, parts) == run_all(tmp_path, (text,)) == "x 1\nx 2\nx 3\n"
