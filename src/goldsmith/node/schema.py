"""Parameters of API methods: which there are, of what type and form, and Proxmox's words for what is wrong.

`schema.json` beside this file holds the parameters of the methods we serve, as a Proxmox VE 8.4 node tells them. All
mistakes are reported at once. What passes is typed: `int`, `float`, `bool`, `str`, `list`. Absent ones stay absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.formats import check_format

Property = Mapping[str, Any]
_MISSING = "property is missing and it is not optional"
_UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
_NUMBERED = re.compile(r"(.*?)(0|[1-9]\d*)")
_NUMBER_LIMITS = {
    "net": 32, "mp": 256, "dev": 256, "unused": 256, "ide": 4, "scsi": 31, "virtio": 16, "sata": 6, "serial": 4,
    "usb": 14, "hostpci": 16, "parallel": 3, "numa": 8, "ipconfig": 32, "virtiofs": 10,
}  # fmt: skip
_TYPES = {"integer": r"[+-]?\d+", "boolean": r"[01]", "number": r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"}


@cache
def load_schema() -> dict[str, Any]:
    """Return the schema: `paths` by path and verb, `formats` by name."""
    schema: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text())
    return schema


def has_method(verb: str, path: str) -> bool:
    """Tell whether the schema describes a method."""
    return verb in load_schema()["paths"].get(path, {})


def may_use_token(verb: str, path: str) -> bool:
    """Tell whether a method can be called with an API token."""
    return bool(load_schema()["paths"][path][verb].get("allowtoken", True))


def check_parameters(verb: str, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method's parameters, verified and typed.

    :raises ParameterFault: all that is wrong with them.
    """
    properties: Mapping[str, Property] = load_schema()["paths"][path][verb]["parameters"]
    errors = {
        name: _MISSING
        for name, rule in properties.items()
        if not rule.get("optional") and not name.endswith("[n]") and given.get(name) is None
    }
    typed: dict[str, Any] = {}
    for name, value in given.items():
        rule = _find_rule(properties, name)
        if value is None:
            continue
        if rule is None:
            errors[name] = _UNKNOWN
            continue
        text, typed[name] = _check_value(name, rule, value)
        if text:
            errors[name] = text
    errors.update(_check_requirements(properties, typed))
    if errors:
        raise ParameterFault(errors)
    return typed


def _find_rule(properties: Mapping[str, Property], name: str) -> Property | None:
    """Return a parameter's rule; `net[n]` stands for net0, net1, ..."""
    if name in properties:
        return properties[name]
    match = _NUMBERED.fullmatch(name)
    if match is None or int(match[2]) >= _NUMBER_LIMITS.get(match[1], 0):
        return None
    return properties.get(f"{match[1]}[n]")


def _check_requirements(properties: Mapping[str, Property], given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is missing because of something else that is there."""
    rules = {name: _find_rule(properties, name) or {} for name in given}
    return {
        name: f"missing property - '{rule['requires']}' requires this property"
        for name, rule in rules.items()
        if "requires" in rule and rule["requires"] not in given
    }


def _check_value(name: str, rule: Property, value: Any) -> tuple[str, Any]:
    """Return what is wrong with a value (nothing when it is right), and the value typed."""
    if rule.get("type") == "array":
        items = value if isinstance(value, list) else [value]
        checked = [_check_value(name, rule["items"], item) for item in items]
        return next((text for text, _ in checked if text), ""), [item for _, item in checked]
    if isinstance(value, list | dict):
        return (
            f"type check ('{rule.get('type', 'string')}') failed - got "
            f"{'ARRAY' if isinstance(value, list) else 'HASH'}",
            None,
        )
    text = render_scalar(value)
    wrong = _check_scalar(name, rule, text)
    return wrong, None if wrong else _convert(rule, text)


def render_scalar(value: Any) -> str:
    """Return a JSON scalar as Perl would see it: true and false are 1 and 0."""
    if isinstance(value, bool):
        return str(int(value))
    return str(value)


def _convert(rule: Property, text: str) -> Any:
    match rule.get("type"):
        case "integer":
            return int(text)
        case "boolean":
            return text == "1"
        case "number":
            return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
        case _:
            return text


def _check_scalar(name: str, rule: Property, text: str) -> str:
    """Return the first thing that is wrong with a scalar, in the order in which PVE looks."""
    kind = rule.get("type", "string")
    if (pattern := _TYPES.get(kind)) and not re.fullmatch(pattern, text, re.ASCII):
        return f"type check ('{kind}') failed - got '{text}'"
    if "format" in rule and (wrong := _check_format(name, rule["format"], text)):
        return f"invalid format - {wrong}"
    if "pattern" in rule and not re.fullmatch(rule["pattern"], text):
        return "value does not match the regex pattern"
    if kind in ("integer", "number"):
        return _check_range(rule, float(text)) or _check_choice(rule, text)
    return _check_length(rule, text) or _check_choice(rule, text)


def _check_format(name: str, form: str | Mapping[str, Property], text: str) -> str:
    if isinstance(form, str) and form in load_schema()["formats"]:
        form = load_schema()["formats"][form]
    return check_format(form, text) if isinstance(form, str) else _check_property_string(name, form, text)


def _check_range(rule: Property, value: float) -> str:
    if "minimum" in rule and value < rule["minimum"]:
        return f"value must have a minimum value of {rule['minimum']}"
    if "maximum" in rule and value > rule["maximum"]:
        return f"value must have a maximum value of {rule['maximum']}"
    return ""


def _check_length(rule: Property, text: str) -> str:
    if "maxLength" in rule and len(text) > rule["maxLength"]:
        return f"value may only be {rule['maxLength']} characters long"
    if "minLength" in rule and len(text) < rule["minLength"]:
        return f"value must be at least {rule['minLength']} characters long"
    return ""


def _check_choice(rule: Property, text: str) -> str:
    if "enum" in rule and text not in [str(choice) for choice in rule["enum"]]:
        choices = ", ".join(str(choice) for choice in rule["enum"])
        return f"value '{text}' does not have a value in the enumeration '{choices}'"
    return ""


def _check_property_string(name: str, form: Mapping[str, Property], text: str) -> str:
    """Return what is wrong with `a=1,b=2`; errors inside are told by `net0.name`."""
    try:
        values = parse_property_string(form, text)
    except ApiFault as fault:
        return fault.reason + "\n"
    errors = {
        f"{name}.{key}": _MISSING
        for key, rule in form.items()
        if not rule.get("optional") and "alias" not in rule and key not in values
    }
    for key, value in values.items():
        rule = form.get(key)
        wrong = _UNKNOWN if rule is None else _check_scalar(f"{name}.{key}", rule, _as_flag(rule, value))
        if wrong:
            errors[f"{name}.{key}"] = wrong
    lines = "".join(f"{key}: {wrong.rstrip()}\n" for key, wrong in sorted(errors.items()))
    return f"format error\n{lines}" if errors else ""


def _as_flag(rule: Property, value: str) -> str:
    """Return `1` or `0` for the other words that property strings may use for flags."""
    if rule.get("type") != "boolean":
        return value
    return {"on": "1", "yes": "1", "true": "1", "off": "0", "no": "0", "false": "0"}.get(value.lower(), value)


def parse_property_string(form: Mapping[str, Property], text: str) -> dict[str, str]:
    """Parse a property string into its parts.

    :raises ApiFault: a key comes twice, or a value has none and none is the default.
    """
    default = next((key for key, rule in form.items() if rule.get("default_key")), "")
    values: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not part.strip():
            continue
        if not equals:
            if not default:
                raise ApiFault("value without key, but schema does not define a default key")
            key, value = default, part
        for name, meant in _resolve_alias(form, key.strip(), value.strip()).items():
            if name in values:
                raise ApiFault(f"duplicate key in comma-separated list property: {name}")
            values[name] = meant
    return values


def _resolve_alias(form: Mapping[str, Property], key: str, value: str) -> dict[str, str]:
    """Return what a part stands for: `virtio=BC:24:11:...` is `model=virtio,macaddr=BC:24:11:...`."""
    rule = form.get(key, {})
    model = {rule["keyAlias"]: key} if "keyAlias" in rule else {}
    return {**model, rule.get("alias", key): value}
