"""The page and the schema are made of the models and are committed as made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.secrets import Secret
from goldsmith.definition.describe import (
    REWRITE,
    describe_variables,
    render_json_schema,
    render_servers_page,
    render_variables_page,
    write_descriptions,
)
from goldsmith.definition.server import ServerVariables
from goldsmith.definition.source import parse_source
from goldsmith.definition.variables import KNOWN, SECRETS, Variables

DOCS = Path(__file__).parents[3] / "docs"
PROPERTIES: dict[str, Any] = json.loads(render_json_schema())["properties"]


def test_the_committed_page_and_schema_are_up_to_date() -> None:
    pages = {"variables.md": render_variables_page(), "servers.md": render_servers_page()}
    for name, made in {**pages, "vars.schema.json": render_json_schema()}.items():
        assert (DOCS / name).read_text() == made, f"docs/{name} is old; write it anew: {REWRITE}"


def test_both_are_written_into_a_directory(tmp_path: Path) -> None:
    write_descriptions(tmp_path)
    assert (tmp_path / "variables.md").read_text() == render_variables_page()
    assert (tmp_path / "vars.schema.json").read_text() == render_json_schema()


def test_every_variable_is_described_in_full() -> None:
    described = describe_variables()
    assert tuple(one.name for one in described) == KNOWN
    for one in described:
        assert one.meaning.endswith("."), one.name
        assert one.accepted, one.name
        assert one.default, one.name
        assert one.examples or one.secret or one.name == "proxmox_fingerprint", one.name
    assert {one.name for one in described if one.secret} == SECRETS


def test_defaults_are_shown_as_a_person_writes_them() -> None:
    shown = {one.name: one.default for one in describe_variables()}
    assert shown["template_user"] == "`ops`"
    assert shown["force_reset_password"] == "`true`"
    assert shown["temp_vmid"] == "the first free one of proxmox_vmids"
    assert shown["proxmox_api_token_id"] == "none"


def test_every_example_on_the_page_is_accepted() -> None:
    for one in describe_variables():
        for example in one.examples:
            values = parse_source(example, Path("page")).values
            assert list(values) == [one.name]
            Variables.model_validate(values)


def test_every_variable_has_its_section_and_row() -> None:
    page = render_variables_page()
    for name in KNOWN:
        assert f"\n### {name}\n" in page
        assert f"\n| [{name}](#{name}) |" in page


def test_the_schema_lets_other_names_and_templates_pass() -> None:
    schema = json.loads(render_json_schema())
    assert schema["additionalProperties"] is True
    assert all({"type": "null"} in made["anyOf"] for made in PROPERTIES.values())
    assert all(
        any(part.get("description") == "a Jinja template" for part in made["anyOf"]) for made in PROPERTIES.values()
    )


def accepts(name: str, value: object) -> bool:
    """Judge a value by the few words of JSON Schema that ours uses."""
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "null": type(None)}
    return any(
        type(value) is kinds[form["type"]]
        and (not isinstance(value, str) or re.search(form.get("pattern", ""), value) is not None)
        and (not isinstance(value, int) or form.get("minimum", value) <= value <= form.get("maximum", value))
        for form in PROPERTIES[name]["anyOf"]
    )


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("temp_vmid", 900, True),
        ("temp_vmid", 9, False),
        ("temp_vmid", "nine", False),
        ("temp_vmid", "{{ lookup('env', 'VMID') }}", True),
        ("temp_disk_size", "local:8", True),
        ("temp_disk_size", "8", False),
        ("apps", ["git"], True),
        ("apps", "git", False),
        ("force_reset_password", True, True),
        ("template_name", "debian-12", True),
        ("template_name", "Debian", False),
        ("dump_dir", "relative", False),
        ("git_email", None, True),
    ],
)
def test_an_editor_judges_as_we_do(name: str, value: object, good: bool) -> None:
    assert accepts(name, value) is good


def test_the_schema_accepts_every_example_of_the_model() -> None:
    for name, field in Variables.model_fields.items():
        assert all(accepts(name, example) for example in field.examples or []), name


def test_no_secret_has_a_default() -> None:
    assert all(Variables.model_fields[name].default is None for name in SECRETS)
    assert Variables(template_password=Secret("geheim")).model_dump_json().count("geheim") == 0


def test_every_variable_of_servers_is_described_in_full() -> None:
    for one in describe_variables(ServerVariables):
        assert one.meaning.endswith("."), one.name
        assert one.accepted, one.name
        assert one.examples, one.name
        assert one.default, one.name
