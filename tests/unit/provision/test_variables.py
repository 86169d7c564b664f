"""Variables as Ansible reads them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import yaml

from goldsmith.base.errors import ProvisionError
from goldsmith.base.secrets import Masker, Secret, find_secrets, list_disguises
from goldsmith.definition.source import UnsafeText, VaultText
from goldsmith.provision.variables import render_variables, split_variables


class Loader(yaml.SafeLoader):
    """YAML as Ansible understands it: `!unsafe` is a text that is no template."""


for tag in ("unsafe", "vault"):
    Loader.add_constructor(f"!{tag}", lambda loader, node: (node.tag, loader.construct_scalar(node)))


def read(text: str) -> Any:
    return yaml.load(text, Loader)


@pytest.mark.parametrize(
    "value",
    [
        "text", "", "yes", "1.0", "a: b # c", "line\nbreak\ttab", "ä 漢 🔑 \x7f\x85\ufeff\u2028", "{{ jinja }}",
        "!vault", 0, -3, 1.5, float("inf"), float("-inf"), True, None, datetime.date(2026, 1, 2),
        datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), [], {}, [1, ["a", {"b": [None]}]],
        {"a b": {"c": "🔑"}},
    ],
)  # fmt: skip
def test_a_value_comes_back_as_what_it_was(value: Any) -> None:
    assert read(render_variables({"name": value})) == {"name": value}


def test_a_secret_is_taken_literally_however_deep() -> None:
    text = render_variables({"a": Secret("x{{ y }}{#"), "b": [{"c": (Secret('"\\\n🔑'),)}]})
    assert read(text) == {"a": ("!unsafe", "x{{ y }}{#"), "b": [{"c": [("!unsafe", '"\\\n🔑')]}]}


def test_what_the_user_has_tagged_keeps_its_tag() -> None:
    text = render_variables({"a": UnsafeText("{{ x }}"), "b": [VaultText("$ANSIBLE_VAULT;1.1;AES256\n6162\n")]})
    assert read(text) == {"a": ("!unsafe", "{{ x }}"), "b": [("!vault", "$ANSIBLE_VAULT;1.1;AES256\n6162\n")]}


def test_no_variables_are_an_empty_mapping() -> None:
    assert read(render_variables({})) == {}


def test_what_yaml_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ProvisionError, match="the variable odd holds a object"):
        render_variables({"odd": [object()]})


def test_variables_of_the_connection_are_not_passed_on() -> None:
    ours = ["ansible_connection", "ansible_host", "ansible_port", "ansible_private_key_file", "ansible_ssh_common_args"]
    theirs = ["ansible_become_password", "ansible_python_interpreter", "ansible_remote_tmp", "ansible_hosts", "users"]
    given, left = split_variables(dict.fromkeys([*theirs, *ours], "x"))
    assert (list(given), left) == (theirs, ours)


def test_secrets_are_found_at_any_depth() -> None:
    secrets = [Secret("a"), Secret("b"), Secret("c")]
    assert find_secrets({"x": secrets[0], "y": [1, {"z": (secrets[1], "t")}], "s": secrets[2]}) == secrets


@pytest.mark.parametrize(
    "shown",
    [
        'pa"s\\w',
        'pa\\"s\\\\w',
        'pa\\\\\\"s\\\\\\\\w',
        "first-line\nsecond-line",
        "first-line\\nsecond-line",
        "second-line",
    ],
)
def test_a_secret_is_masked_in_the_forms_that_ansible_shows(shown: str) -> None:
    masker = Masker(list_disguises([Secret('pa"s\\w'), Secret("-----BEGIN-----\nfirst-line\nsecond-line\nab\n")]))
    masked = masker.mask(f"<{shown}>")
    assert "pa" not in masked
    assert "line" not in masked
    assert masker.mask("ab -----BEGIN-----") == "ab -----BEGIN-----"
