"""Each kind of input in turn is changed, and must be seen by the layers that can read it; what is none, by no layer."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goldsmith.base.digest import Digest
from goldsmith.base.secrets import Secret
from goldsmith.build.cache import keys as module
from goldsmith.build.cache.keys import compare_inputs, describe_keys, find_changes, make_keys, parse_keys
from goldsmith.definition.layers import LayerDefinition
from goldsmith.definition.source import UnsafeText, VaultText
from goldsmith.provision.stages import list_stages
from tests.unit.build.cache.projects import IMAGE, PLAYBOOK, Project

ONE, TWO, THREE = f"{IMAGE}/one.yml", f"{IMAGE}/two.yml", f"{IMAGE}/three.yml"
VAULT = "$ANSIBLE_VAULT;1.1;AES256\n{}\n"
COLLECTION = "collections/ansible_collections/acme/tools"


def write_layers(project: Project, second: str = "", third: str = "") -> None:
    """Three layers: nothing is read by the first, and by the others what the texts say."""
    task = "    - command: {cmd: 'true'}\n"
    texts = {ONE: task, TWO: second or task, THREE: third or task}
    project.write({name: f"- hosts: all\n  tasks:\n{text}" for name, text in texts.items()})
    project.layers = tuple(LayerDefinition(name, PurePosixPath(f"{name}.yml")) for name in ("one", "two", "three"))


def task(text: str) -> str:
    return f"    - {text}\n"


# What the second of three layers reads, by what is changed of it: tasks, files, the file that is changed.
READ: dict[str, tuple[str, dict[str, str], str]] = {
    "file": (task("copy: {src: motd, dest: /etc/motd}"), {"files/motd": "a"}, "files/motd"),
    "free form": (task("copy: src=motd dest=/etc/motd"), {"files/motd": "a"}, "files/motd"),
    "folder": (task("copy: {src: files/, dest: /opt}"), {"files/deep/er/motd": "a"}, "files/deep/er/motd"),
    "free-form folder": (task("copy: src=site/ dest=/opt"), {"files/site/er/motd": "a"}, "files/site/er/motd"),
    "git in a folder": (task("copy: {src: app, dest: /opt}"), {"files/app/.git/HEAD": "a"}, "files/app/.git/HEAD"),
    "template": (task("template: {src: a.j2, dest: /a}"), {"templates/a.j2": "a"}, "templates/a.j2"),
    "included template": (
        task("template: {src: a.j2, dest: /a}"),
        {
            "templates/a.j2": "{% include 'b.j2' %}", "templates/b.j2": "{%+ import 'deepest' as c +%}",
            "templates/deepest": "a",
        },
        "templates/deepest",
    ),
    "composed include": (
        task("template: {src: a.j2, dest: /a}"),
        {"templates/a.j2": "{%- include x ~ '.j2' %}", "templates/b.j2": "a"},
        "templates/b.j2",
    ),
    "own marks": (
        task("template: {src: a.j2, dest: /a, block_start_string: '[%'}"),
        {"templates/a.j2": "[% include x %]", "templates/b.j2": "a"},
        "templates/b.j2",
    ),
    "marks in a template": (
        task("template: {src: a.j2, dest: /a}"),
        {"templates/a.j2": "#jinja2: block_start_string:'[%'\n[% include x %]", "templates/b.j2": "a"},
        "templates/b.j2",
    ),
    "tasks": (task("include_tasks: more.yml"), {"tasks/more.yml": "- ping:\n"}, "tasks/more.yml"),
    "tasks by file": (
        task("ansible.builtin.include_tasks: {file: more.yml, apply: {tags: x}}"),
        {"more.yml": "- ping:\n"},
        "more.yml",
    ),
    "role task": (task("include_role: {name: web}"), {"roles/web/tasks/main.yml": "[]"}, "roles/web/tasks/main.yml"),
    "role task without an extension": (
        task("import_role: {name: web}"), {"roles/web/tasks/main": "[]"}, "roles/web/tasks/main",
    ),
    "tasks_from": (
        task("import_role: {name: web, tasks_from: extra}"),
        {"roles/web/tasks/extra.yml": "[]"},
        "roles/web/tasks/extra.yml",
    ),
    "role handler": (
        task("import_role: name=web"), {"roles/web/handlers/main.yml": "[]"}, "roles/web/handlers/main.yml",
    ),
    "role default": (task("import_role: name=web"), {"roles/web/defaults/main.yml": "a: 1"},
                     "roles/web/defaults/main.yml"),
    "role specs": (task("import_role: name=web"), {"roles/web/meta/argument_specs.yml": "a: 1"},
                   "roles/web/meta/argument_specs.yml"),
    "role file": (task("import_role: name=web"), {"roles/web/files/x/y": "a"}, "roles/web/files/x/y"),
    "role dependency": (
        task("import_role: {name: web}"),
        {"roles/web/meta/main.yml": "dependencies: [{role: base}]", "roles/base/tasks/main.yml": "[]"},
        "roles/base/tasks/main.yml",
    ),
    "composed role": (
        task("include_role: {name: 'app_{{ kind }}'}"), {"roles/app_x/tasks/main.yml": "[]"},
        "roles/app_x/tasks/main.yml",
    ),
    "composed role, free form": (
        task("include_role: name=app_{{kind}}"), {"roles/app_x/tasks/main.yml": "[]"}, "roles/app_x/tasks/main.yml",
    ),
    "vars folder": (task("include_vars: {dir: settings}"), {"vars/settings/a.yml": "a: 1"}, "vars/settings/a.yml"),
    "vars folder, free form": (task("include_vars: dir=settings"), {"vars/settings/a.yml": "a: 1"},
                               "vars/settings/a.yml"),
    "first found": (
        task("include_vars: '{{ item }}'\n      with_first_found: [{files: [a.yml], paths: [vars]}]"),
        {"vars/a.yml": "a: 1"},
        "vars/a.yml",
    ),
    "fileglob loop": (
        task("copy: {src: '{{ item }}', dest: /}\n      with_fileglob: 'conf/*.conf'"), {"files/conf/a.conf": "a"},
        "files/conf/a.conf",
    ),
    "fileglob lookup": (
        task("debug: {msg: \"{{ lookup('fileglob', '*.conf') }}\"}"), {"files/a.conf": "a"}, "files/a.conf",
    ),
    "file lookup": (task("debug: {msg: \"{{ lookup('file', 'a.txt') }}\"}"), {"files/a.txt": "a"}, "files/a.txt"),
    "composed lookup": (
        task("debug: {msg: \"{{ lookup('file', 'x', name ~ '.txt') }}\"}"), {"files/a.txt": "a"}, "files/a.txt",
    ),
    "q": (task("debug: {msg: \"{{ q('ansible.builtin.template', 'a.txt') }}\"}"), {"templates/a.txt": "a"},
          "templates/a.txt"),
    "default of ini": (
        task("debug: {msg: \"{{ lookup('ini', 'a', section='b') }}\"}"), {"files/ansible.ini": "a"},
        "files/ansible.ini",
    ),
    "item": (task("copy: {src: '{{ item }}', dest: /}\n      loop: [a]"), {"files/b": "a"}, "files/b"),
    "script": (task("script: go.sh --now"), {"files/go.sh": "a"}, "files/go.sh"),
    "script by cmd": (task("script: {cmd: 'go.sh --now'}"), {"files/go.sh": "a"}, "files/go.sh"),
    "assemble": (task("assemble: {src: parts, dest: /a}"), {"files/parts/1": "a"}, "files/parts/1"),
    "unarchive": (task("unarchive: {src: a.tgz, dest: /}"), {"files/a.tgz": "\0a"}, "files/a.tgz"),
    "upwards": (task("copy: {src: ../shared/asset, dest: /}"), {"../shared/asset": "a"}, "../shared/asset"),
    "upwards from playbook_dir": (
        task("copy: {src: '{{ playbook_dir }}/../../assets/asset', dest: /}"), {"../../assets/asset": "a"},
        "../../assets/asset",
    ),
    "upwards from a template": (
        task("template: {src: a.j2, dest: /}"),
        {"templates/a.j2": "{{ lookup('file', '../../../assets/asset') }}", "../../assets/asset": "a"},
        "../../assets/asset",
    ),
    "encrypted tasks": (task("include_tasks: x.yml"), {"tasks/x.yml": VAULT.format("6162")}, "tasks/x.yml"),
    "no UTF-8": (task("copy: {src: odd, dest: /}"), {"files/odd": "a"}, "files/odd"),
    "README that is copied": (task("copy: {src: README.md, dest: /}"), {"README.md": "a"}, "README.md"),
    "tests that are copied": (task("copy: {src: tests/, dest: /}"), {"tests/data": "a"}, "tests/data"),
    "all of the folder": (task("copy: {src: '{{ playbook_dir }}/', dest: /}"), {"tests/a": "a"}, "tests/a"),
    "vars.yml as a file": (task("include_vars: {file: vars.yml, name: x}"), {"vars.yml": "a: 1"}, "vars.yml"),
    "its own playbook": (task("debug: {msg: \"{{ lookup('file', 'two.yml') }} x\"}"), {}, "two.yml"),
    "synchronize": (task("ansible.posix.synchronize: {src: site, dest: /}"), {"files/site/page": "a"},
                    "files/site/page"),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_what_a_layer_reads_is_in_its_key(project: Project, case: str) -> None:
    tasks, files, changed = READ[case]
    write_layers(project, second=tasks)
    project.write({f"{IMAGE}/{name}": text for name, text in files.items()})
    path = project.root / IMAGE / changed

    def change() -> None:
        path.write_bytes(path.read_bytes() + b"# \xff")

    assert project.find_first_changed(change) == 1


@pytest.mark.parametrize("case", [case for case in READ if READ[case][1]])
def test_the_mode_of_what_a_layer_reads_is_in_its_key(project: Project, case: str) -> None:
    tasks, files, changed = READ[case]
    write_layers(project, second=tasks)
    project.write({f"{IMAGE}/{name}": text for name, text in files.items()})
    assert project.find_first_changed(lambda: (project.root / IMAGE / changed).chmod(0o755)) == 1


# What Ansible takes by itself counts for every layer.
BY_ITSELF = {
    "library/thing.py": "pass",
    "filter_plugins/thing.py": "pass",
    "module_utils/thing.py": "pass",
    "group_vars/all.yml": "a: 1",
    "group_vars/all/vault.yml": VAULT.format("6162"),
    "host_vars/lxc.yml": "a: 1",
    "../../ansible.cfg": "[defaults]\n",
    "../../requirements.yml": "roles: []\n",
    "../../library/thing.py": "pass",
}


@pytest.mark.parametrize("name", BY_ITSELF)
def test_what_ansible_takes_by_itself_is_in_every_key(project: Project, name: str) -> None:
    write_layers(project)
    project.write({f"{IMAGE}/{name}": BY_ITSELF[name]})
    text = "roles: [x]\n" if "requirements" in name else BY_ITSELF[name] + "# changed"
    assert project.find_first_changed(lambda: project.write({f"{IMAGE}/{name}": text})) == 0


def test_what_appears_in_a_better_place_is_in_the_key(project: Project) -> None:
    write_layers(project, second=task("import_role: name=web") + task("copy: {src: motd, dest: /}"))
    project.write({"roles/web/tasks/main.yml": "[]", f"{IMAGE}/motd": "a"})
    assert project.find_first_changed(lambda: project.write({f"{IMAGE}/files/motd": "b"})) == 1
    assert project.find_first_changed(lambda: project.write({f"{IMAGE}/roles/web/tasks/main.yml": "[]"})) == 1
    assert project.find_first_changed((project.root / IMAGE / "roles/web/files").mkdir) == 1


def test_links_count_with_what_they_lead_to(project: Project) -> None:
    write_layers(project, second=task("copy: {src: motd, dest: /}") + task("copy: {src: site, dest: /}"))
    project.write({"elsewhere/v1": "a", "elsewhere/v2": "a", "tree/deep/page": "a"})
    files = project.root / IMAGE / "files"
    files.mkdir()
    (files / "motd").symlink_to("../../../elsewhere/v1")
    (files / "site").symlink_to(project.root / "tree")
    assert project.find_first_changed(lambda: project.write({"elsewhere/v1": "b"})) == 1
    assert project.find_first_changed(lambda: project.write({"tree/deep/page": "b"})) == 1
    assert project.find_first_changed(lambda: project.write({"tree/new": "b"})) == 1

    def turn() -> None:
        (files / "motd").unlink()
        (files / "motd").symlink_to("../../../elsewhere/v2")

    assert project.find_first_changed(turn) == 1
    assert project.find_first_changed(lambda: project.write({"elsewhere/v1": "c"})) is None


def test_a_chain_of_links_counts_with_its_end(project: Project) -> None:
    write_layers(project, second=task("copy: {src: motd, dest: /}"))
    project.write({"far/end": "a", f"{IMAGE}/files/x": ""})
    (project.root / "far/middle").symlink_to("end")
    (project.root / IMAGE / "files/motd").symlink_to("../../../far/middle")
    assert project.find_first_changed(lambda: project.write({"far/end": "b"})) == 1


def test_absolute_paths_count_with_what_is_named_there(project: Project) -> None:
    away = project.root.parent / "away"
    write_layers(
        project,
        second=task(f"template: src={away}/a.j2 dest=/a")
        + task(f"debug: {{msg: \"{{{{ lookup('file', '{away}/f') }}}}\"}}"),
    )
    project.write({"../away/a.j2": "{{ greeting }}", "../away/f": "a"})
    project.variables = {"greeting": "hello"}
    assert project.find_first_changed(lambda: project.write({"../away/a.j2": "{{ greeting }}!"})) == 1
    assert project.find_first_changed(lambda: project.write({"../away/f": "b"})) == 1
    assert project.find_first_changed(lambda: project.variables.update(greeting="hi")) == 1


@pytest.mark.parametrize(
    "tasks",
    [
        "- copy: {{src: '{{{{ item.src }}}}', dest: /a}}\n      loop: [{{src: {away}/a}}]",
        "- copy: {{src: '{{{{ base }}}}/a', dest: /a}}\n      vars: {{base: {away}}}",
        "- copy: {{src: '{{{{ given }}}}', dest: /a}}",
        "- copy: {{src: '{{{{ outer }}}}', dest: /a}}\n      vars: {{outer: '{{{{ given }}}}'}}",
        "- copy: {{src: \"{{{{ '{away}/a' if x else 'b' }}}}\", dest: /a}}",
        "- copy: {{src: '{{{{ item }}}}', dest: /a}}\n      with_fileglob: ['{away}/*']",
        "- debug: {{msg: \"{{{{ lookup('csvfile', 'k file={away}/a delimiter=,') }}}}\"}}",
        "- debug: {{msg: \"{{{{ lookup('file', given) }}}}\"}}",
        "- script: {away}/a --all",
    ],
)
def test_absolute_paths_in_values_count(project: Project, tasks: str) -> None:
    away = project.root.parent / "away"
    write_layers(project, second=f"    {tasks.format(away=away)}\n")
    project.write({"../away/a": "a", f"{IMAGE}/files/other": "x"})
    project.variables = {"given": f"{away}/a"}
    assert project.find_first_changed(lambda: project.write({"../away/a": "b"})) == 1


# Variables


@pytest.mark.parametrize(
    ("tasks", "files", "name"),
    [
        ("debug: {msg: '{{ word }}'}", {}, "word"),
        ("debug: {var: word}", {}, "word"),
        ("command: 'true'\n      when: word", {}, "word"),
        ("template: {src: a.j2, dest: /}", {"templates/a.j2": "{{ word }}"}, "word"),
        (
            "template: {src: a.j2, dest: /}",
            {"templates/a.j2": "{% include 'b' %}", "templates/b": "{{ word }}"},
            "word",
        ),
        ("debug: {msg: '{{ through }}'}", {}, "word"),
        ("debug: {msg: \"{{ vars['wo' ~ 'rd'] }}\"}", {}, "word"),
        ("debug: {msg: \"{{ hostvars[inventory_hostname]['wo' ~ 'rd'] }}\"}", {}, "word"),
        ("debug: {msg: \"{{ lookup('vars', 'wo' ~ 'rd') }}\"}", {}, "word"),
        ("debug: {msg: \"{{ q('ansible.builtin.varnames', '^wo') }}\"}", {}, "word"),
        ("debug: {msg: x}\n      with_varnames: ['^wo']", {}, "word"),
        ("import_role: {name: web}", {"roles/web/tasks/main.yml": "- debug: {var: word}"}, "word"),
        ("import_role: {name: web}", {"roles/web/defaults/main.yml": "a: '{{ word }}'"}, "word"),
        ("include_tasks: x.yml", {"tasks/x.yml": VAULT.format("6162")}, "word"),
        ("include_tasks: x.yml", {"tasks/x.yml": "- debug: {msg: 1}\n  debug: {msg: 2}\n"}, "word"),
        ("ping:", {"group_vars/all.yml": "a: !vault x"}, "word"),
        ("ping:", {"filter_plugins/f.py": "name = 'word'"}, "word"),
        ("ping:", {}, "ansible_become_exe"),
        ("ping:", {}, "mitogen_task_isolation"),
        ("debug: {msg: '{{ inventory_hostname }}'}", {}, "template_name"),
        ("debug: {msg: '{{ ansible_facts.default_ipv4.address }}'}", {}, "temp_ip_address"),
    ],
)
def test_a_variable_that_a_layer_can_read_is_in_its_key(
    project: Project, tasks: str, files: dict[str, str], name: str
) -> None:
    write_layers(project, second=task(tasks))
    project.write({f"{IMAGE}/{file}": text for file, text in files.items()})
    project.variables = {"word": "a", "through": "{{ word }}", "other": "a", name: "a"}
    first = project.find_first_changed(lambda: project.variables.update({name: "b"}))
    assert first == (0 if name.startswith(("ansible_", "mitogen_")) or "ping" in tasks else 1)


def test_a_variable_that_nothing_names_is_in_no_key(project: Project) -> None:
    write_layers(project, second=task("debug: {var: word}") + task("user: {name: me, groups: [sudo]}"))
    project.variables = {"word": 1, "sword": 1, "template_name": "a", "temp_ip_address": "a"}
    for name in ("sword", "template_name", "temp_ip_address"):
        assert project.find_first_changed(partial(project.variables.update, {name: "b"})) is None


def test_a_layers_own_variables_are_in_its_key(project: Project) -> None:
    write_layers(project, third=task("debug: {var: word}"))
    project.variables = {"word": "a"}
    one, two, three = project.layers

    def change() -> None:
        project.layers = (one, two, LayerDefinition("three", three.playbook, variables={"word": "b"}))

    assert project.find_first_changed(change) == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.builds(Secret, st.text(max_size=3)) | st.builds(UnsafeText, st.text(max_size=3))
    | st.builds(VaultText, st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _shape(value: object) -> object:
    """What of a value is not to be confused with another's."""
    match value:
        case dict():
            return ("dict", [(key, _shape(item)) for key, item in value.items()])
        case list():
            return ("list", [_shape(item) for item in value])
        case Secret():
            return ("secret", value.reveal())
    return (type(value).__name__, repr(value))


@given(st.tuples(VALUES, VALUES))
def test_different_values_never_have_one_digest(pair: tuple[object, object]) -> None:
    one, other = (module._describe_value("word", value, b"k") for value in pair)
    assert (one == other) == (_shape(pair[0]) == _shape(pair[1]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_of_variables_is_in_no_key(project: Project, order: list[str]) -> None:
    write_layers(project, second=task("debug: {msg: '{{ a }}{{ b }}{{ c }}{{ d }}'}"))
    project.variables = dict.fromkeys("abcd", 1)
    before = project.list_digests()
    project.variables = dict.fromkeys(order, 1)
    assert project.list_digests() == before


def test_a_secret_counts_and_cannot_be_guessed_from_the_record(project: Project) -> None:
    write_layers(project, second=task("debug: {msg: '{{ word }}{{ db_password }}{{ users }}'}"))
    project.write({f"{IMAGE}/two.yml": (project.root / TWO).read_text() + task("copy: {src: api_token, dest: /}")})
    project.write({f"{IMAGE}/files/api_token": "hush"})
    names = ("word", "db_password", "users")
    project.variables = {"word": Secret("hush"), "db_password": "hush", "users": [{"password": "hush"}]}
    stages = list_stages(project.play, project.layers)
    mine, theirs = (make_keys(stages, Digest("x"), secret)[1].inputs for secret in (b"mine", b"theirs"))
    secrets = {*(f"variable {name}" for name in names), f"file {IMAGE}/files/api_token"}
    assert {name for name in mine if mine[name] != theirs[name]} - {"the layer before"} == secrets
    assert "hush" not in json.dumps(describe_keys(project.keys(), [1] * len(stages)))
    for name, value in (("word", Secret("other")), ("db_password", "other"), ("users", [{"password": "other"}])):
        assert project.find_first_changed(partial(project.variables.update, {name: value})) == 1


def test_a_reason_never_shows_a_secret(project: Project) -> None:
    write_layers(project, second=task("copy: {src: '{{ word }}', dest: /}"))
    project.variables = {"word": Secret("/{{ lookup('pipe', 'hush') }}")}
    key = project.keys()[1]
    assert key.outside
    assert "hush" not in key.outside + json.dumps(describe_keys([key], [1]))


def test_a_record_says_when_each_layer_was_built(project: Project) -> None:
    keys = project.keys()
    since = list(range(len(keys)))
    recorded = describe_keys(keys, since)
    assert isinstance(recorded, list)
    assert [key.since for key in parse_keys(recorded)] == since
    older = json.loads(json.dumps(recorded).replace('"since"', '"later"'))
    assert [key.since for key in parse_keys(older)] == [None] * len(keys)
    assert parse_keys([{**older[0], "since": "yesterday"}]) == ()


# Neither file nor variable


def test_base_tools_strategy_and_revision_are_in_every_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layers(project)
    before = project.keys()
    other = project.keys(Digest("sha256:" + "2" * 64))
    assert not {key.key for key in before} & {key.key for key in other}
    for name in ("tool ansible-core", "tool mitogen", "tool python", "tool jinja2", "strategy"):
        assert all(name in key.inputs for key in before)
    assert project.find_first_changed(lambda: setattr(project, "strategy", "linear")) == 0
    assert project.find_first_changed(lambda: monkeypatch.setattr(module, "REVISION", 99)) == 0


def test_another_version_of_a_tool_is_told(project: Project) -> None:
    key = project.keys()[0]
    before = parse_keys(describe_keys([key], [1]))[0]
    inputs = {**before.inputs, "tool ansible-core": "1.0"}
    told = compare_inputs(key, type(key)(key.name, key.key, inputs))
    assert told == [f"tool ansible-core: 1.0 became {key.inputs['tool ansible-core']}"]


def test_what_has_changed_while_a_layer_was_made_is_found(project: Project) -> None:
    write_layers(project, second=task("copy: {src: motd, dest: /}"))
    project.write({f"{IMAGE}/files/motd": "a"})
    before = project.keys()
    assert find_changes(before, project.keys()) == []
    project.write({f"{IMAGE}/files/motd": "b"})
    assert find_changes(before, project.keys()) == [f"file {IMAGE}/files/motd has changed"]
    assert find_changes(before, project.keys()[:2]) == ["other layers are wanted"]


def write_collection(project: Project, place: str = COLLECTION, version: str = "1.0.0") -> None:
    manifest = {"collection_info": {"version": version, "dependencies": {"acme.base": "*"}}}
    project.write(
        {
            f"{place}/MANIFEST.json": json.dumps(manifest),
            f"{place}/plugins/modules/gadget.py": "pass",
            f"{place}/roles/site/tasks/main.yml": "- debug: {var: word}\n",
        }
    )


@pytest.mark.parametrize("place", ["", "../home/.ansible/"])
@pytest.mark.parametrize("used", ["acme.tools.gadget: {}", "gadget: {}", "import_role: {name: acme.tools.site}"])
def test_the_version_of_a_collection_that_is_used_counts(project: Project, used: str, place: str) -> None:
    write_layers(project, second=task(used))
    folder = place + COLLECTION
    write_collection(project, folder)
    write_collection(project, folder.replace("/tools", "/base").replace("base", "base"))
    project.variables = {"word": "a"}
    assert project.find_first_changed(lambda: write_collection(project, folder, "1.0.1")) == 1
    changed = f"{folder}/plugins/modules/gadget.py"
    assert project.find_first_changed(lambda: project.write({changed: "pass # changed"})) == 1
    needed = f"{folder.replace('/tools', '/base')}/plugins/modules/gadget.py"
    assert project.find_first_changed(lambda: project.write({needed: "pass # changed"})) == 1
    assert project.find_first_changed(lambda: project.variables.update(word="b")) == 1


def test_a_collection_that_nothing_uses_is_in_no_key(project: Project) -> None:
    write_layers(project)
    write_collection(project, "../home/.ansible/" + COLLECTION)
    changed = f"../home/.ansible/{COLLECTION}/plugins/modules/gadget.py"
    assert project.find_first_changed(lambda: project.write({changed: "pass # changed"})) is None


def test_a_version_that_requirements_want_is_in_every_key(project: Project) -> None:
    write_layers(project)
    text = "collections: [{name: acme.tools, version: %s}]\n"
    project.write({"requirements.yml": text % "1.0.0"})
    write_collection(project)
    assert project.find_first_changed(lambda: project.write({"requirements.yml": text % "1.0.1"})) == 0
    assert project.find_first_changed(lambda: write_collection(project, version="1.0.1")) == 0


@pytest.mark.parametrize("place", ["home", "environment", "ansible.cfg"])
def test_an_installed_role_counts_with_the_variables_that_it_reads(
    project: Project, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "../home/.ansible/roles" if place == "home" else "../installed"
    if place == "environment":
        monkeypatch.setenv("ANSIBLE_ROLES_PATH", str(project.root / folder))
    if place == "ansible.cfg":
        project.write({"ansible.cfg": "[defaults]\nroles_path = ../installed\n"})
    write_layers(project, second=task("import_role: {name: acme.web}"))
    project.write({f"{folder}/acme.web/tasks/main.yml": "- debug: {var: word}\n", f"{folder}/acme.db/x": "a"})
    project.write({f"{folder}/acme.web/meta/.galaxy_install_info": "today"})
    project.variables = {"word": "a"}
    assert project.find_first_changed(lambda: project.variables.update(word="b")) == 1
    assert project.find_first_changed(lambda: project.write({f"{folder}/acme.web/handlers/main.yml": "[]"})) == 1
    assert project.find_first_changed(lambda: project.write({f"{folder}/acme.db/x": "b"})) is None
    other = {f"{folder}/acme.web/meta/.galaxy_install_info": "tomorrow"}
    assert project.find_first_changed(lambda: project.write(other)) is None


def test_plugins_that_ansible_cfg_names_elsewhere_count(project: Project) -> None:
    project.write({"ansible.cfg": "[defaults]\nfilter_plugins = ../filters\n", "../filters/f.py": "pass"})
    assert project.find_first_changed(lambda: project.write({"../filters/f.py": "pass # changed"})) == 0


# The playbook


def test_only_what_a_playbook_says_counts(project: Project) -> None:
    write_layers(project, second=task("debug: {msg: a}"))
    text = (project.root / TWO).read_text()
    same = "# a comment\n\n" + text.replace("tasks:", "tasks:   # another\n") + "\n\n"
    assert project.find_first_changed(lambda: project.write({TWO: same})) is None
    assert project.find_first_changed(lambda: project.write({TWO: text.replace("msg: a", "msg: b")})) == 1
    assert project.find_first_changed(lambda: project.write({TWO: text.replace("msg: a", "msg: '1'")})) == 1
    assert project.find_first_changed(lambda: project.write({TWO: text.replace("msg: a", "msg: 1")})) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("2026-01-01", "'2026-01-01'"), ("{1: x}", "{'1': x}"), ("{yes: x}", "{'True': x}")]
)
def test_what_the_reader_takes_for_the_same_counts(project: Project, one: str, other: str) -> None:
    text = "    - debug:\n        msg:\n          {}\n"
    write_layers(project, second=text.format(one))
    changed = (project.root / TWO).read_text().replace(one, other)
    assert project.find_first_changed(lambda: project.write({TWO: changed})) == 1


def test_a_file_of_variables_of_a_play_counts(project: Project) -> None:
    write_layers(project)
    for name, use in (
        ("s.yml", "[s.yml]"),
        ("x.yml", "['{{ kind }}.yml']"),
        ("far/t.yml", "[[../../far/t.yml, s.yml]]"),
    ):
        file = name if name.startswith("far") else f"{IMAGE}/{name}"
        project.write({TWO: f"- hosts: all\n  vars_files: {use}\n  tasks: []\n", file: "a: 1"})
        assert project.find_first_changed(partial(project.write, {file: "a: 2"})) == 1


def test_an_imported_playbook_counts(project: Project) -> None:
    write_layers(project)
    project.write({TWO: "- import_playbook: more/other.yml\n", f"{IMAGE}/more/other.yml": "- hosts: all\n"})
    assert project.find_first_changed(lambda: project.write({f"{IMAGE}/more/other.yml": "- hosts: '*'\n"})) == 1


# Nothing that is irrelevant


@pytest.mark.parametrize(
    "name",
    [
        f"{IMAGE}/README.md", f"{IMAGE}/tests/test_it.py", f"{IMAGE}/vars.yml", "images/vm/playbook.yml",
        f"{IMAGE}/files/unused", "roles/unused/tasks/main.yml", "roles/web/README.md", "README.md", "docs/a.md",
        "inventory/hosts.yml", "inventory/group_vars/all.yml", "repository/index.json", "logs/a.log", ".git/HEAD",
    ],
)  # fmt: skip
def test_what_is_irrelevant_is_in_no_key(project: Project, name: str) -> None:
    write_layers(project, second=task("import_role: {name: web}"))
    project.write({name: "a", "roles/web/tasks/main.yml": "[]"})
    assert project.find_first_changed(lambda: project.write({name: "b"})) is None
    assert project.find_first_changed(lambda: (project.root / name).chmod(0o700)) is None
    assert project.find_first_changed(lambda: project.remove(name)) is None


def test_neither_times_nor_the_place_are_in_a_key(project: Project) -> None:
    write_layers(project, second=task("copy: {src: motd, dest: /}"))
    project.write({f"{IMAGE}/files/motd": "a"})
    before = project.list_digests()
    for path in [*project.root.rglob("*"), project.root]:
        os.utime(path, (1, 1))
    moved = project.root.with_name("moved")
    project.root.rename(moved)
    project.root = moved
    assert project.list_digests() == before


# Odd files


def test_large_and_odd_files_count(project: Project) -> None:
    write_layers(project, second=task("copy: {src: big/, dest: /}"))
    big = project.root / IMAGE / "files" / "big"
    big.mkdir(parents=True)
    with (big / "disk").open("wb") as file:
        file.truncate(200 << 20)
    (big / os.fsdecode(b"\xff\xfe")).write_text("a")
    (big / "odd link").symlink_to(os.fsdecode(b"\xff"))
    assert project.find_first_changed(lambda: (big / os.fsdecode(b"\xff\xfe")).write_text("b")) == 1

    def change() -> None:
        with (big / "disk").open("r+b") as file:
            file.seek(150 << 20)
            file.write(b"x")

    assert project.find_first_changed(change) == 1


def test_a_template_too_large_to_read_counts_with_all_variables(project: Project) -> None:
    write_layers(project, second=task("template: {src: big.j2, dest: /}"))
    project.write({f"{IMAGE}/templates/big.j2": "x\n" * (3 << 20) + "{{ word }}"})
    project.variables = {"word": "a"}
    assert project.find_first_changed(lambda: project.variables.update(word="b")) == 1


def test_a_playbook_in_parts_has_a_key_for_each(project: Project) -> None:
    text = "- hosts: all\n  tasks:\n    - apt: {{name: {}}}\n    - debug: {{msg: {}}}\n"
    project.write({PLAYBOOK: text.format("git", "a")})
    assert project.find_first_changed(lambda: project.write({PLAYBOOK: text.format("git", "b")})) == 1
    assert project.find_first_changed(lambda: project.write({PLAYBOOK: text.format("vim", "b")})) == 0


def test_how_a_guest_is_sealed_is_in_the_last_key_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layers(project)

    def change() -> None:
        own = module.read_script
        monkeypatch.setattr(module, "read_script", lambda name: name if name == "seal.sh" else own(name))

    assert project.find_first_changed(change) == len(project.keys()) - 1
