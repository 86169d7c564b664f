"""What `layers` in vars.yml may say."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from goldsmith.definition.layers import LayerDefinition, Layers, read_period

LAYERS = TypeAdapter[tuple[LayerDefinition, ...]](Layers)


def refuse(value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        LAYERS.validate_python(value)
    return caught.value.errors()[0]["msg"]


def test_each_kind_of_layer_is_read() -> None:
    layers = LAYERS.validate_python(
        [
            {"name": "tools", "apps": ["curl", "git"], "refresh_after": "7d"},
            {"role": "web", "variables": {"port": 80}},
            {"playbook": "sub/accounts.yml"},
        ]
    )
    assert layers == (
        LayerDefinition("tools", apps=("curl", "git"), refresh_after=7 * 86400),
        LayerDefinition("web", role="web", variables={"port": 80}),
        LayerDefinition("accounts", playbook=PurePosixPath("sub/accounts.yml")),
    )
    assert LAYERS.validate_python(layers) == layers


def test_roles_of_one_author_have_names_of_their_own() -> None:
    layers = LAYERS.validate_python([{"role": "geerlingguy.docker"}, {"role": "geerlingguy.pip"}, {"role": "a.b.c"}])
    assert [layer.name for layer in layers] == ["geerlingguy.docker", "geerlingguy.pip", "a.b.c"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("tools", "is not a list of layers"),
        ([], "is not a list of layers"),
        (["tools"], "layer 1 is not a mapping"),
        ([{"apps": ["git"]}, {}], "layer 2 has none of playbook, role and apps"),
        ([{"apps": ["git"], "role": "b"}], "layer 1 has role and apps of playbook, role and apps; one is wanted"),
        ([{"rolle": "a"}], "'rolle', which no layer knows"),
        ([{"role": "web"}, {"role": "web"}], "web is there twice"),
        ([{"role": "web", "name": "No name"}], "'No name' is no name"),
        ([{"role": "../web"}], "'../web' is no name of a role"),
        ([{"role": 1}], "is no name"),
        ([{"playbook": "/etc/x.yml"}], "not a path relative to the image's folder"),
        ([{"playbook": " ", "name": "x"}], "not a path relative"),
        ([{"role": "web", "variables": ["a"]}], "variables is not a mapping"),
        ([{"role": "web", "variables": {"a-b": 1}}], "variables is not a mapping"),
        ([{"role": "web", "refresh_after": "soon"}], "a number with m, h, d or w"),
        ([{"apps": "x y;z"}], ""),
    ],
)
def test_what_is_wrong_is_told_with_the_layers_number(value: Any, said: str) -> None:
    assert said in refuse(value)


@given(st.integers(1, 10**6), st.sampled_from("mhdw"))
def test_a_period_is_read_in_seconds(number: int, unit: str) -> None:
    assert read_period(f"{number}{unit}") == number * {"m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]


@pytest.mark.parametrize("value", ["", "7", "7 d", "0d", "-1d", "7y", "d", 7, None, "7d\n", True])
def test_what_is_no_period_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a number with m, h, d or w"):
        read_period(value)
