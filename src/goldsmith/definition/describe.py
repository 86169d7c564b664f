"""The known variables as a person and an editor read them: made of the models, so that nothing is written twice.

`python -m goldsmith.definition.describe DIRECTORY` writes `variables.md` and `vars.schema.json` there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from goldsmith.base.files import write_atomic
from goldsmith.definition.declare import accepted
from goldsmith.definition.server import ServerVariables
from goldsmith.definition.servers_intro import SERVERS_INTRODUCTION
from goldsmith.definition.variables import KNOWN, SECRETS, Variables
from goldsmith.definition.variables_intro import INTRODUCTION

PAGE, SERVERS_PAGE, SCHEMA = "variables.md", "servers.md", "vars.schema.json"
REWRITE = "python -m goldsmith.definition.describe docs"
TEMPLATE: Mapping[str, Any] = {"type": "string", "pattern": r"\{[{%]", "description": "a Jinja template"}
"""What an editor must accept for every variable."""

FORM_KEYS = (
    "type", "enum", "pattern", "minimum", "maximum", "minLength", "items", "properties", "additionalProperties",
)  # fmt: skip
"""What JSON Schema says about a value's form."""


@dataclass(frozen=True)
class VariableDescription:
    """A known variable in words."""

    name: str
    meaning: str
    accepted: str
    default: str
    """As shown to a person: a value, or what happens without one."""
    examples: tuple[str, ...]
    """As they stand in vars.yml, `name: value`."""
    secret: bool


def describe_variables(model: type[BaseModel] = Variables) -> list[VariableDescription]:
    """Return every known variable of images (or of another model), in the order of the model."""
    return [_describe(name, model) for name in model.model_fields]


def _describe(name: str, model: type[BaseModel] = Variables) -> VariableDescription:
    field = model.model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    default = str(extra.get("otherwise") or ("" if field.default is None else f"`{_render_value(field.default)}`"))
    return VariableDescription(
        name=name,
        meaning=field.description or "",
        accepted=accepted(model, name),
        default=default or "none",
        examples=tuple(f"{name}: {_render_value(example)}" for example in field.examples or ()),
        secret=name in SECRETS,
    )


def _render_value(value: Any) -> str:
    """Render a default or example as it stands after `name: ` in YAML (all of them are plain there)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_render_value(item)}" for name, item in value.items()) + "}"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def render_json_schema() -> str:
    """Render the JSON Schema of vars.yml (draft 2020-12), with which editors complete and check it."""
    made = Variables.model_json_schema(mode="validation")["properties"]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vars.yml of a goldsmith image",
        "description": "Variables that goldsmith knows; all others go to the playbook.",
        "type": "object",
        "properties": {name: _render_property(name, made[name]) for name in KNOWN},
        "additionalProperties": True,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _render_property(name: str, made: Mapping[str, Any]) -> dict[str, Any]:
    described = _describe(name)
    form = {key: made[key] for key in FORM_KEYS if key in made}
    forms = [dict(part) for part in made.get("anyOf", [form]) if part != {"type": "null"}]
    shown = {key: made[key] for key in ("default", "examples") if made.get(key) not in (None, [])}
    return {
        "description": f"{described.meaning}\nAccepted: {described.accepted}\nDefault: {described.default}",
        **shown,
        "anyOf": [*forms, {"type": "null"}, dict(TEMPLATE)],
    }


def render_variables_page() -> str:
    """Render the page about all variables of images (Markdown)."""
    return _render_page(INTRODUCTION, describe_variables())


def render_servers_page() -> str:
    """Render the page about all variables of servers (Markdown)."""
    return _render_page(SERVERS_INTRODUCTION, describe_variables(ServerVariables))


def _render_page(introduction: str, described: list[VariableDescription]) -> str:
    table = [f"| [{one.name}](#{one.name}) | {one.default} |" for one in described]
    parts = [introduction, "## All variables\n", "| variable | default |\n| --- | --- |\n" + "\n".join(table) + "\n"]
    return "\n".join([*parts, *(_render_section(one) for one in described)])


def _render_section(one: VariableDescription) -> str:
    lines = [
        f"### {one.name}\n",
        f"{one.meaning}\n",
        f"- Form: {one.accepted.replace('<', '&lt;')}",
        f"- Default: {one.default}",
    ]
    if one.secret:
        lines.append(f"- Secret: never shown or stored; the environment variable `{one.name.upper()}` wins")
    if one.examples:
        lines += ["", "```yaml", "\n# or\n".join(one.examples), "```"]
    return "\n".join(lines) + "\n"


def write_descriptions(directory: Path) -> None:
    """Write the pages and the schema into a directory."""
    write_atomic(directory / PAGE, render_variables_page())
    write_atomic(directory / SERVERS_PAGE, render_servers_page())
    write_atomic(directory / SCHEMA, render_json_schema())


if __name__ == "__main__":
    write_descriptions(Path(sys.argv[1]))
