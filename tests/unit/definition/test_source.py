"""YAML is read as Ansible reads it, and every mistake has its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.errors import DefinitionError
from goldsmith.definition.source import UnsafeText, VaultText, load_source, parse_document, parse_source

FILE = Path("/project/images/lxc/vars.yml")

READINGS: list[tuple[str, Any]] = [
    ("yes", True),
    ("Off", False),
    ("y", "y"),
    ("0755", 493),
    ("0o755", "0o755"),
    ("12:30", 750),
    ("1e3", "1e3"),
    ("1.5", 1.5),
    ("~", None),
    ("", None),
    ("2024-01-02", "2024-01-02"),
    ("2024-13-45", "2024-13-45"),
    ("'900'", "900"),
    ("!!str 900", "900"),
    ("local:8", "local:8"),
    ("[a, 1, {b: c}]", ["a", 1, {"b": "c"}]),
    ("{80: http, no: x}", {"80": "http", "False": "x"}),
    ("!vault |\n    $ANSIBLE_VAULT;1.1;AES256\n    6162", VaultText("$ANSIBLE_VAULT;1.1;AES256\n6162")),
    ("!unsafe '{{ a }}'", UnsafeText("{{ a }}")),
    ("!unsafe [a, {b: c, d: 1}]", [UnsafeText("a"), {"b": UnsafeText("c"), "d": 1}]),
]


@pytest.mark.parametrize(("text", "value"), READINGS)
def test_a_value_is_what_ansible_makes_of_it(text: str, value: Any) -> None:
    read = parse_source(f"name: {text}", FILE).values["name"]
    assert (read, type(read)) == (value, type(value))


def test_ansible_reads_plain_values_the_same_way() -> None:
    """Dates aside, which Ansible makes date objects of and writes as the same text."""
    from ansible.parsing.utils.yaml import from_yaml  # type: ignore[import-untyped]

    for text, value in READINGS:
        if "!" not in text and "2024" not in text and "80" not in text:
            assert from_yaml(f"name: {text}")["name"] == value


def test_lines_of_names_are_known() -> None:
    source = parse_source("---\n# what\na: 1\n\nb:\n  - c\n  - d: 2\n", FILE)
    assert source.lines == {"a": 3, "b": 5}
    assert str(source.problem("b", "is wrong", "a number")) == f"{FILE}:5: is wrong (accepted: a number)"
    assert source.line("c") == 0


def test_lines_of_nested_values_are_known() -> None:
    document = parse_document("a:\n  - b\n  - c:\n      d: 1\n", FILE)
    assert document.lines == {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "c"): 3, ("a", 1, "c", "d"): 4}


@pytest.mark.parametrize(
    "text",
    [
        "base: &base {x: 1, y: 2}\nc: &c {<<: *base, y: 3}\nd: *c\n<<: *base\n",
        "base: &base {x: 1}\nc: &c {<<: *base, x: 3}\nd: {<<: [*c, *base], z: 4}\n",
        "a: &a\n  <<: *a\n",
    ],
)
def test_anchors_merge_and_repeat_as_in_ansible(text: str) -> None:
    from ansible.parsing.utils.yaml import from_yaml

    assert parse_source(text, FILE).values == from_yaml(text)


@pytest.mark.parametrize("text", ["", "---\n", "# nothing yet\n", "\ufeff# with a byte order mark\n"])
def test_an_empty_file_is_an_empty_mapping(text: str, tmp_path: Path) -> None:
    file = tmp_path / "vars.yml"
    file.write_text(text, encoding="utf-8")
    assert load_source(file).values == {}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [\n", 3, "is not YAML"),
        ("a: 1\n\tb: 2\n", 2, "is not YAML"),
        ("a: b: c\n", 1, "is not YAML: mapping values are not allowed in this context"),
        ("a: 'b\n", 2, "is not YAML"),
        ("a: *nowhere\n", 1, "is not YAML: found undefined alias"),
        ("a: \x07\n", 1, "is not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "is not YAML"),
        ("- a\n", 1, "is not a list of `name: value` lines"),
        ("just text\n", 1, "is not a list of `name: value` lines"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' was given on line 1 already"),
        ("x:\n  a: 1\n  a: 3\n", 3, "'a' was given on line 2 already"),
        ("a: 1\n2: 3\n", 2, "the name '2' is no text"),
        ("on: 3\n", 1, "the name 'on' is no text"),
        ("a: 1\n? [b]\n: 3\n", 2, "is no text"),
        ("a: &a [1, *a]\n", 1, "holds itself"),
        ("a:\n  <<: 1\n", 2, "`<<` merges something that is no mapping"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "the tag !!python/object/apply:os.system is not known here"),
        ("a: !secret b\n", 1, "the tag !secret is not known here"),
        ("a: !!binary aGk=\n", 1, "the tag !!binary is not known here"),
        ("a: !!set {b}\n", 1, "the tag !!set is not known here"),
        ("a: !!int b\n", 1, "'b' is no int"),
        ("a: !!bool maybe\n", 1, "'maybe' is no bool"),
        ("a:\n  - .inf\n", 2, "'.inf' is not a finite number"),
        ("a: " + "[" * 5000 + "\n", 0, ""),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_source(text, FILE)
    problem = caught.value.problems[0]
    assert message in problem.message
    assert problem.line == line or not line


def test_several_unusable_values_are_refused_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_source("a: !x 1\nb: 2\nc: {d: !y 1, e: .nan}\n", FILE)
    assert [problem.line for problem in caught.value.problems] == [1, 3, 3]


def test_a_file_that_is_not_text_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "vars.yml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(DefinitionError) as caught:
        load_source(file)
    assert str(caught.value.problems[0]) == f"{file}:2: is not UTF-8 text"


@pytest.mark.parametrize(("make", "message"), [(lambda _: None, "does not exist"), (Path.mkdir, "cannot be read")])
def test_a_file_that_cannot_be_read_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "vars.yml"
    make(file)
    with pytest.raises(DefinitionError) as caught:
        load_source(file)
    assert message in str(caught.value.problems[0])
