"""The choice of a strategy."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from goldsmith.provision.strategy import Strategy, choose_strategy, find_mitogen_plugins, supports_ansible
from goldsmith.provision.tools import find_version, read_tool_versions


def test_mitogen_is_used_where_it_is_installed() -> None:
    chosen = choose_strategy("mitogen_linear")
    assert chosen == Strategy("mitogen_linear", find_mitogen_plugins())
    assert chosen.plugins is not None
    assert (chosen.plugins / "mitogen_linear.py").is_file()


def test_another_strategy_is_used_as_it_is() -> None:
    assert choose_strategy("free") == Strategy("free")


def test_through_a_console_mitogen_has_no_way_and_that_is_no_fault() -> None:
    chosen = choose_strategy("mitogen_free", with_console=True)
    assert (chosen.name, chosen.plugins, chosen.is_fault) == ("linear", None, False)
    assert chosen.reason.startswith("mitogen needs ssh, and the guest is entered through its console: linear")
    assert choose_strategy("free", with_console=True) == Strategy("free")


def test_without_mitogen_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])  # no package is installed there
    chosen = choose_strategy("mitogen_linear")
    assert (chosen.name, chosen.plugins) == ("linear", None)
    assert chosen.reason == "mitogen is not installed: linear is used instead of mitogen_linear"


@pytest.mark.parametrize(
    ("ansible", "supported"),
    [
        ("2.9.27", False), ("2.16.3", True), ("2.19.14", True), ("2.21.0b1", True), ("2.22.0", False), ("3.0.0", False),
        ("", False),
    ],
)  # fmt: skip
def test_an_ansible_that_mitogen_does_not_know_is_not_patched(ansible: str, supported: bool) -> None:
    assert supports_ansible(ansible) is supported


def test_the_installed_ansible_is_one_that_mitogen_knows() -> None:
    assert supports_ansible(version("ansible-core"))


def test_versions_of_tools_are_those_installed() -> None:
    found = read_tool_versions()
    assert sorted(found) == ["ansible-core", "ansible-runner", "mitogen", "python"]
    assert found["ansible-runner"] == version("ansible-runner")
    assert find_version("no-such-package") == ""
