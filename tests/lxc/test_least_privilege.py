"""A build, a second one from kept layers, and a test, as a user who was granted just what `goldsmith doctor` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from goldsmith.build.doctor.examine import examine
from goldsmith.build.facts import Site
from goldsmith.pve.calls import find_call
from goldsmith.pve.door import Door
from goldsmith.verify.outcome import Outcome
from tests.lxc.guests import RunningNode
from tests.lxc.images import Workshop
from tests.lxc.limited import grant, open_limited
from tests.lxc.trials import Trials

pytestmark = pytest.mark.root

LAYERED = """
layers: [{name: one, playbook: one.yml}, {name: two, playbook: two.yml}]
hygiene_skip: {}
"""
LAYER = "- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.raw: 'echo %s > /opt/%s'}]\n"


@pytest.fixture
def site(node: RunningNode) -> Iterator[Site]:
    with open_limited(node) as site:
        yield site


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Every call that is made of the API: method and path."""
    seen: set[tuple[str, str]] = set()
    request = Door._request

    def note(self: Door, verb: str, path: str, params: Mapping[str, Any]) -> object:
        seen.add((verb, path))
        return request(self, verb, path, params)

    monkeypatch.setattr(Door, "_request", note)
    return seen


def test_what_doctor_prints_is_enough(
    node: RunningNode, site: Site, called: set[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    workshop = Workshop(tmp_path_factory.mktemp("project"), site)
    workshop.write_image("[]", LAYERED)
    for layer in ("one", "two"):
        (workshop.directory / f"{layer}.yml").write_text(LAYER % ("x", layer))
    image = workshop.load()
    before = examine(image, site)
    assert [finding for finding in before if finding.level == "error"]
    grant(node, next(finding.hint for finding in before if "pveum" in finding.hint).splitlines())
    assert [finding for finding in examine(image, site) if finding.level != "ok"] == []

    first = workshop.build()
    (workshop.directory / "two.yml").write_text(LAYER % ("changed", "two"))
    assert workshop.build().version.digest != first.version.digest
    (tested,) = Trials(workshop).test(first.version)
    assert [one for one in tested.verdict.outcomes if isinstance(one, Outcome) and one.state == "error"] == []
    assert workshop.find_leftovers() == []
    unknown = {(verb, path) for verb, path in called if find_call(verb, path) is None}
    assert unknown == set()
    assert ("POST", f"/nodes/{node.settings.name}/vzdump") in called
