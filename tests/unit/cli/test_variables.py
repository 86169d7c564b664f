from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from goldsmith.base.errors import UsageError
from goldsmith.cli.variables import choose_variables, variables
from goldsmith.definition.variables import KNOWN


def test_every_variable_is_explained() -> None:
    said = CliRunner().invoke(variables, []).output
    assert [line for line in said.splitlines() if line and not line.startswith(" ")] == list(KNOWN)


def test_a_named_one_is_shown_with_its_form_and_an_example() -> None:
    said = CliRunner().invoke(variables, ["temp_disk_size"]).output
    assert said.startswith("temp_disk_size\n")
    assert "accepted  <storage>:<size in GiB>" in said
    assert "temp_disk_size: local:8" in said


def test_as_json_it_is_data() -> None:
    (one,) = json.loads(CliRunner().invoke(variables, ["--json", "template_password"]).output)
    assert (one["name"], one["secret"]) == ("template_password", True)


def test_an_unknown_one_is_named() -> None:
    with pytest.raises(UsageError, match="knows no variable temp_vmdi"):
        choose_variables(("temp_vmdi",))
