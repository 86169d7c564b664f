"""A build, a second one from kept layers, and a test, as a user who was granted just what `goldsmith doctor` prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from goldsmith.base.secrets import Secret
from goldsmith.build.cache import guests as cache
from goldsmith.build.doctor.examine import examine
from goldsmith.build.facts import Site
from goldsmith.pve.calls import find_call
from goldsmith.pve.client import open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.door import Door
from goldsmith.verify.outcome import Outcome
from tests.lxc.guests import RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.trials import Trials

pytestmark = pytest.mark.root

USER = "builder@pve"
LAYERED = """
layers: [{name: one, playbook: one.yml}, {name: two, playbook: two.yml}]
hygiene_skip: {}
"""
LAYER = "- hosts: all\n  gather_facts: false\n  tasks: [{ansible.builtin.raw: 'echo %s > /opt/%s'}]\n"


@pytest.fixture
def site(node: RunningNode) -> Iterator[Site]:
    """The node as somebody sees it who has been given a token and nothing else."""
    access = node.api.access
    access.users.post(userid=USER)
    made = access.users(USER).token("ci").post(privsep=1)
    with open_site(node) as by_root:
        connection = by_root.pve.connection
        theirs = Connection(
            connection.host, connection.port, user=USER, token_id="ci", token_secret=Secret(made["value"]),
            ca_file=connection.ca_file,
        )  # fmt: skip
        with open_pve(theirs) as pve:
            yield replace(by_root, pve=pve, node=pve.node(by_root.node.name))
        for guest in by_root.pve.list_guests():
            if cache.TAGS[1] in guest.tags:
                cache.drop_guest(by_root, guest.vmid)
    access.users(USER).delete()
    for role in access.roles.get():
        if role["roleid"].startswith("Goldsmith"):
            access.roles(role["roleid"]).delete()


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


def grant(node: RunningNode, commands: list[str]) -> None:
    """Do what `pveum` would."""
    access = node.api.access
    for command in commands:
        _, kind, verb, subject, *options = shlex.split(command)
        given = dict(zip(options[::2], options[1::2], strict=True))
        if (kind, verb) == ("role", "add"):
            access.roles.post(roleid=subject, privs=",".join(given["--privs"].split()))
        else:
            assert (kind, verb) == ("acl", "modify"), command
            access.acl.put(path=subject, roles=given.pop("--roles"), **{key[2:]: who for key, who in given.items()})


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
