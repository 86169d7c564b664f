"""An image's stages: what its layers name, or the parts of its playbook."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

from goldsmith.definition.layers import LayerDefinition
from goldsmith.provision.play import Play
from goldsmith.provision.stages import list_stages, render_apps
from goldsmith.provision.syntax import check_syntax

HEAD = "- hosts: all\n  tasks:\n"
DAY = 86400


@pytest.fixture
def play(tmp_path: Path) -> Play:
    image = tmp_path / "images" / "lxc"
    image.mkdir(parents=True)
    (image / "playbook.yml").write_text(HEAD + "    - apt: {name: git}\n    - ping:\n")
    return Play(image / "playbook.yml", tmp_path, {"word": "a", "other": "a"})


def test_a_playbook_is_divided_where_it_can_be(play: Play) -> None:
    packages, rest = list_stages(play, (), DAY)
    assert (packages.name, packages.installs_packages, packages.refresh_after) == ("packages", True, DAY)
    assert (rest.name, rest.installs_packages, rest.refresh_after) == ("playbook", False, None)
    assert [stage.play.variables for stage in (packages, rest)] == [play.variables, play.variables]


def test_one_that_cannot_is_one_stage_and_run_as_it_is(play: Play) -> None:
    play.playbook.write_text(HEAD + "    - ping:\n")
    (stage,) = list_stages(play, (), DAY)
    assert (stage.name, stage.play, stage.refresh_after) == ("playbook", play, None)


def test_layers_are_stages_in_their_order(play: Play) -> None:
    layers = (
        LayerDefinition("tools", apps=("curl", "git")),
        LayerDefinition("web", role="acme.web", variables={"word": "b"}),
        LayerDefinition("last", PurePosixPath("sub/last.yml"), refresh_after=DAY),
        LayerDefinition("own", apps=("vim",), refresh_after=2 * DAY),
    )
    tools, web, last, own = list_stages(play, layers, 7 * DAY)
    assert [stage.name for stage in (tools, web, last, own)] == ["tools", "web", "last", "own"]
    assert [stage.refresh_after for stage in (tools, web, last, own)] == [7 * DAY, None, DAY, 2 * DAY]
    assert [stage.installs_packages for stage in (tools, web, last, own)] == [True, False, False, True]
    assert web.play.variables == {"word": "b", "other": "a"}
    assert json.loads(web.play.text)[0]["roles"] == ["acme.web"]
    assert (last.play.playbook, last.play.text) == (play.playbook.parent / "sub" / "last.yml", "")


@pytest.mark.slow
def test_ansible_takes_what_is_rendered(play: Play) -> None:
    role = play.project / "roles" / "web" / "tasks"
    role.mkdir(parents=True)
    (role / "main.yml").write_text("- ansible.builtin.ping:\n")
    layers = (LayerDefinition("tools", apps=("curl", "g++")), LayerDefinition("web", role="web"))
    for stage in list_stages(play, layers):
        check_syntax(stage.play, host="guest")


def test_names_of_packages_stay_what_they_are() -> None:
    (rendered,) = json.loads(render_apps(["g++", "yes", "1.0"]))
    assert [next(iter(task.values())) for task in rendered["tasks"]] == ["Install packages"] * 2
    assert rendered["tasks"][0]["ansible.builtin.apt"]["name"] == ["g++", "yes", "1.0"]
