"""The commands, each through the entry point, on projects and nodes made for it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goldsmith.artifacts.repository import Version, open_repository
from goldsmith.artifacts.verdicts import TestState, put_verdict
from goldsmith.build.journal import Entry, Journal
from goldsmith.cli.init import list_skeleton
from goldsmith.cli.main import run
from goldsmith.cli.site import STATE_VARIABLE
from goldsmith.node import daemon
from goldsmith.node.client import find_node
from goldsmith.node.settings import NodeSettings
from tests.unit.artifacts.making import put
from tests.unit.cli.nodes import make_settings
from tests.unit.cli.running import goldsmith

Said = pytest.CaptureFixture[str]
PLAYBOOK = "- name: Nothing\n  hosts: all\n  tasks: []\n"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeSettings]:
    """Nothing of the tester's own counts, and the node that is meant is one without guests, which does not run."""
    made = make_settings(tmp_path / "node")
    made.state.mkdir()
    made.save()
    for name, value in {STATE_VARIABLE: made.state, "XDG_STATE_HOME": tmp_path, "HOME": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    yield made
    daemon.stop(made)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    write_image(folder, "lxc", "apps: [git]\n")
    monkeypatch.chdir(folder)
    return folder


def write_image(project: Path, name: str, text: str, playbook: str = PLAYBOOK) -> None:
    folder = project / "images" / name
    folder.mkdir(parents=True)
    (folder / "vars.yml").write_text(text)
    (folder / "playbook.yml").write_text(playbook)


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def document(said: Said) -> Any:
    return json.loads(said.readouterr().out)


# init


def test_a_new_project_is_valid_and_nothing_else_is_left_by_looking_at_it(tmp_path: Path, capsys: Said) -> None:
    new = tmp_path / "new"
    assert run(["init", str(new)]) == 0
    files = [name for name, _ in list_skeleton()]
    assert files == [
        ".gitignore", "Makefile", "README.md", "images/lxc/playbook.yml", "images/lxc/tests/test_image.py",
        "images/lxc/vars.yml", "inventory/hosts.yml", "requirements.yml",
    ]  # fmt: skip
    before = list_files(new)
    capsys.readouterr()
    assert run(["--project", str(new), "validate"]) == 0
    assert run(["build", "--check", "--project", str(new), "lxc"]) == 0
    assert capsys.readouterr().out.startswith(f"ok {new}/images/lxc\nok {new}/inventory/hosts.yml\n")
    assert list_files(new) == before


def test_nothing_is_overwritten(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "Makefile").write_text("mine")
    (tmp_path / "README.md").symlink_to("nowhere")
    assert run(["init", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert f"error: {tmp_path} has 2 of a new project's files already" in said.err
    assert (tmp_path / "Makefile").read_text() == "mine"
    assert not (tmp_path / "images").exists()


def test_init_in_json(tmp_path: Path, capsys: Said) -> None:
    assert run(["init", "--json", str(tmp_path / "new")]) == 0
    told = document(capsys)
    assert told["project"] == str(tmp_path / "new")
    assert all(Path(path).is_file() for path in told["files"])


# validate


def test_every_problem_of_every_file_is_listed(project: Path, capsys: Said) -> None:
    write_image(project, "bad", "temp_vmid: 5\ntemplate_uid: many\n")
    write_image(project, "worse", "", "- hosts: all\n  tasks:\n    - no_such_module_at_all: x\n")
    (project / "inventory").mkdir()
    (project / "inventory/hosts.yml").write_text("all:\n  hosts:\n    web1: {vmid: x}\n")
    assert run(["validate"]) == 2
    said = capsys.readouterr()
    assert said.out == "ok images/lxc\n"
    for place in (
        "inventory/hosts.yml:3",
        "images/bad/vars.yml:1",
        "images/bad/vars.yml:2",
        "images/worse/playbook.yml:3",
    ):
        assert f"  {place}: " in said.err
    assert said.err.startswith("error: 4 problems in what is configured\n")


def test_problems_in_json(project: Path, capsys: Said) -> None:
    write_image(project, "bad", "temp_vmid: 5\n")
    assert run(["validate", "--json"]) == 2
    told = document(capsys)
    assert told["valid"] == [str(project / "images/lxc")]
    (problem,) = told["problems"]
    assert problem == {
        "file": str(project / "images/bad/vars.yml"), "line": 1, "message": problem["message"],
        "accepted": "a whole number from 100 to 999999999",
    }  # fmt: skip


def test_a_playbook_that_is_not_for_the_build_guest_is_a_problem(project: Path, capsys: Said) -> None:
    write_image(project, "web", "", "- hosts: webservers\n  tasks: []\n")
    assert run(["validate", "web"]) == 2
    assert "images/web/playbook.yml:1: " in capsys.readouterr().err


def test_an_address_outside_the_embedded_network_is_found_without_the_node(project: Path, capsys: Said) -> None:
    write_image(project, "far", "temp_ip_address: 192.168.7.7/24\ntemp_gateway: 192.168.7.1\n")
    assert run(["validate", "far"]) == 2
    assert "is outside the embedded node's network" in capsys.readouterr().err


def test_a_project_without_images_says_so(tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "empty/images").mkdir(parents=True)
    assert run(["validate", "--project", str(tmp_path / "empty")]) == 2
    assert "has no image yet" in capsys.readouterr().err


# build --check


def test_a_plan_is_shown_and_nothing_is_changed(project: Path, settings: NodeSettings, capsys: Said) -> None:
    before = list_files(project)
    assert run(["build", "--check", "lxc"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "lxc on pve (embedded):"
    assert re.fullmatch(r"   1  base image debian-12-standard +from local, or the appliance index", lines[1])
    assert lines[-2].startswith("the node does not run: ")
    assert lines[-1] == "nothing was changed"
    assert said.err == ""
    assert find_node(settings.state) is None
    assert list_files(project) == before


def test_plans_in_json(project: Path, capsys: Said) -> None:
    write_image(project, "web", "temp_vmid: 950\n")
    assert run(["--json", "build", "--check", "--keep", "lxc", "images/web"]) == 0
    lxc, web = document(capsys)["plans"]
    assert (lxc["image"], lxc["node"], lxc["kind"], lxc["node_was_asked"]) == ("lxc", "pve", "embedded", False)
    assert lxc["steps"][-1] == {"step": "keep the build guest", "reason": "--keep"}
    assert web["steps"][1]["reason"].startswith("vmid 950, ")


def test_a_running_node_is_asked_and_not_swept(
    project: Path, settings: NodeSettings, tmp_path: Path, capsys: Said
) -> None:
    daemon.start(settings)
    template = settings.state / "storage/template/cache/debian-12-standard_12.0-1_amd64.tar.zst"
    template.touch()
    write_image(project, "exact", f"base_image: {template.name}\n")
    orphan = write_orphan(tmp_path, f"embedded:{settings.state}:pve")
    assert run(["build", "--check", "exact", "--json"]) == 0
    (plan,) = document(capsys)["plans"]
    assert plan["node_was_asked"] is True
    assert plan["steps"][0] == {"step": f"base image {template.name}", "reason": "local has it"}
    assert orphan.exists()


def test_nothing_is_begun_when_one_of_several_images_is_wrong(
    project: Path, settings: NodeSettings, capsys: Said
) -> None:
    write_image(project, "bad", "temp_vmid: 5\n")
    assert run(["build", "lxc", "bad"]) == 2
    said = capsys.readouterr()
    assert "images/bad/vars.yml:1: " in said.err
    assert said.out == ""
    assert not settings.state.joinpath("client").exists()


def test_a_wrong_playbook_ends_a_build_before_anything_is_made(
    project: Path, settings: NodeSettings, capsys: Said
) -> None:
    write_image(project, "worse", "", "- hosts: all\n  tasks:\n    - no_such_module_at_all: x\n")
    assert run(["build", "worse", "--json"]) == 2
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("error", 2)
    assert last["problems"][0]["file"] == str(project / "images/worse/playbook.yml")
    assert find_node(settings.state) is None
    assert list_files(project) == ["images", *[f"images/{name}" for name in (
        "lxc", "lxc/playbook.yml", "lxc/vars.yml", "worse", "worse/playbook.yml", "worse/vars.yml"
    )]]  # fmt: skip


def test_an_image_that_is_not_there_is_named_with_the_nearest(project: Path, capsys: Said) -> None:
    assert run(["build", "lcx"]) == 2
    assert "hint: did you mean images/lxc?" in capsys.readouterr().err


# images


@pytest.fixture
def version(project: Path) -> Version:
    return put(open_repository(project / "repository"), "lxc")


def test_versions_are_listed(version: Version, capsys: Said) -> None:
    assert run(["images"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["VERSION", "STATE", "CHANNELS", "SIGNED", "CREATED", "SIZE", "BASE", "PACKAGES"]
    assert line.split()[:4] == [version.reference, "untested", "-", "-"]
    assert line.split()[-2:] == ["local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst", "2"]


def test_versions_are_listed_in_json_by_either_name(version: Version, capsys: Said) -> None:
    for command in (["images", "--json"], ["--json", "images", "list"]):
        assert run(command) == 0
        (told,) = document(capsys)["images"]
        assert (told["version"], told["digest"], told["packages"]) == (version.reference, version.digest, 2)


def test_a_failed_version_may_be_used_when_somebody_says_why(version: Version, project: Path, capsys: Said) -> None:
    repository = open_repository(project / "repository")
    put_verdict(repository, version, state=TestState.FAILED, summary="1 failed: x", document=b"{}", junit="", html="")
    assert run(["images"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "failed"
    assert run(["images", "override", "lxc"]) == 2
    assert run(["images", "override", "lxc", "--reason", "the mirror was down"]) == 0
    assert "may be used from now on: the mirror was down" in capsys.readouterr().err
    assert run(["images", "show", "lxc"]) == 0
    shown = capsys.readouterr().out
    assert "1 failed: x" in shown
    assert re.search(r"override\s+by \S+@\S+, .*: the mirror was down", shown)
    assert run(["images", "--json"]) == 0
    (told,) = document(capsys)["images"]
    assert (told["state"], told["override"]["reason"]) == ("failed", "the mirror was down")


def test_reports_of_a_version_that_was_not_tested_are_none(version: Version, tmp_path: Path, capsys: Said) -> None:
    assert run(["images", "report", "lxc", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{version} has not been tested" in said
    assert f"hint: goldsmith test {version}" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lcx", "has no version 'lcx'"),
        ("web", "no version of web has been built yet"),
        ("lxc:20000101.1", "has no version"),
    ],
)
def test_a_version_that_is_not_there_cannot_be_tested(
    version: Version, project: Path, capsys: Said, word: str, said: str
) -> None:
    write_image(project, "web", "")
    assert run(["test", word]) == 8
    assert said in capsys.readouterr().err


def test_a_version_whose_image_is_gone_cannot_be_tested(project: Path, capsys: Said) -> None:
    other = put(open_repository(project / "repository"), "gone")
    assert run(["test", "gone"]) == 2
    assert f"is called 'gone', whose version {other} is" in capsys.readouterr().err


def test_without_versions_the_way_to_one_is_named(project: Path, capsys: Said) -> None:
    assert run(["images"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "goldsmith build IMAGE" in said.err


def test_a_repository_that_an_image_names_is_listed_too(project: Path, tmp_path: Path, capsys: Said) -> None:
    other = put(open_repository(tmp_path / "other"), "web")
    write_image(project, "web", f"repository: {tmp_path / 'other'}\n")
    write_image(project, "broken", "temp_vmid: 5\n")
    assert run(["images"]) == 0
    assert other.reference in capsys.readouterr().out


def test_a_version_is_shown_with_what_it_was_made_of(version: Version, capsys: Said) -> None:
    assert run(["images", "show", "lxc"]) == 0
    shown = capsys.readouterr().out
    for text in (
        version.digest,
        version.layers[0].digest,
        "git 1:2.39.5-0+deb12u2",
        'apps: ["git", "vim"]',
        "with changes",
    ):
        assert text in shown


def test_a_version_is_shown_in_json(version: Version, capsys: Said) -> None:
    assert run(["images", "show", version.reference, "--json"]) == 0
    told = document(capsys)
    assert told["layers"] == [{"digest": version.layers[0].digest, "size": version.layers[0].size}]
    assert told["record"]["variables"]["template_uid"] == 1000


@pytest.mark.parametrize("command", [["show", "lxd"], ["export", "lxd", "."]])
def test_an_unknown_version_is_told_with_what_comes_near(command: list[str], version: Version, capsys: Said) -> None:
    assert run(["images", *command]) == 8
    assert capsys.readouterr().err.splitlines()[-1].startswith("hint: near it: lxc")


def test_a_version_is_exported_and_never_over_a_file(version: Version, tmp_path: Path, capsys: Said) -> None:
    day = version.tag.partition(".")[0]
    for number in ("", ".2"):
        assert run(["images", "export", "lxc", str(tmp_path)]) == 0
        path = Path(capsys.readouterr().out.strip())
        assert path == tmp_path / f"lxc-{day}{number}.tar.zst"
        assert path.stat().st_size > version.size
    assert run(["images", "export", "lxc", str(tmp_path), "--json"]) == 0
    told = document(capsys)
    assert told["path"] == str(tmp_path / f"lxc-{day}.3.tar.zst")
    assert told["size"] == Path(told["path"]).stat().st_size


# node


def test_a_node_is_started_looked_at_and_stopped(settings: NodeSettings, capsys: Said) -> None:
    assert run(["node", "status"]) == 1
    assert capsys.readouterr().out == f"the embedded node on {settings.state} does not run\n"
    assert run(["node", "start"]) == 0
    address = find_node(settings.state)
    assert address is not None
    assert capsys.readouterr().out == f"the embedded node runs: https://127.0.0.1:{address.port}\n"
    assert run(["node", "status"]) == 0
    shown = capsys.readouterr().out
    assert address.fingerprint in shown
    assert "no guests" in shown
    assert run(["node", "stop"]) == 0
    assert run(["node", "stop"]) == 0
    assert capsys.readouterr().out == "the embedded node has stopped\nthe embedded node does not run\n"


def test_a_node_is_removed_only_by_who_says_so(settings: NodeSettings) -> None:
    home = settings.state.parent
    daemon.start(settings)
    asked = goldsmith("node", "remove", home=home)
    assert asked.returncode == 2
    assert asked.stderr.splitlines()[-1] == "hint: --yes is the answer"
    assert find_node(settings.state) is not None
    done = goldsmith("node", "remove", "--yes", home=home)
    assert done.stdout == f"the embedded node on {settings.state} is removed\n"
    assert not settings.state.exists()
    assert goldsmith("node", "remove", "--yes", home=home).returncode == 2


def test_a_node_in_json(settings: NodeSettings, capsys: Said) -> None:
    assert run(["node", "status", "--json"]) == 1
    assert document(capsys) == {"state": str(settings.state), "running": False}
    assert run(["node", "start", "--json"]) == 0
    started = document(capsys)
    assert run(["node", "status", "--json"]) == 0
    told = document(capsys)
    assert told["running"] is True
    assert told["address"] == started["address"]
    assert [storage["storage"] for storage in told["storages"]] == ["local", "plain"]
    assert run(["node", "stop", "--json"]) == 0
    assert document(capsys) == {"stopped": True, "running_guests": []}


def test_a_node_without_a_token_of_ours_shows_its_address_alone(settings: NodeSettings, capsys: Said) -> None:
    daemon.start(settings)
    (settings.state / f"client/{os.getuid()}.json").unlink()
    assert run(["node", "status"]) == 0
    assert "goldsmith node start gives you one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("network", "message"),
    [("10.1.0.1/16", "has network 10.86.0.1/16 already"), ("10.86.0.1/16", "")],
)
def test_the_network_of_a_node_stays_what_it_was(network: str, message: str, capsys: Said) -> None:
    assert run(["node", "start", "--network", network]) == (2 if message else 0)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("network", "message"), [("10.1.0.300/16", "10.1.0.300"), ("10.1.0.1/30", "no room for guests")]
)
def test_a_network_that_is_none_is_refused(
    network: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "new"))
    assert run(["node", "start", "--network", network]) == 2
    assert message in capsys.readouterr().err


def test_the_doctor_speaks_plainly(capsys: Said) -> None:
    code = run(["node", "doctor", "--json"])
    told = document(capsys)
    assert code == (0 if told["ready"] else 1)
    assert {finding["subject"] for finding in told["findings"]} >= {"root", "programs", "kernel", "disk"}
    assert run(["node", "doctor"]) == code
    assert "disk: " in capsys.readouterr().out


# clean


def write_orphan(state: Path, site: str, folder: str = "runs", build_id: str = "aaaa00000001") -> Path:
    """Write what a killed build (or one whose guest was kept) leaves."""
    directory = state / "goldsmith" / folder / build_id
    directory.mkdir(parents=True)
    Journal(directory, Entry(build_id, "build", site, "lxc", (900,))).write()
    return directory


def test_nothing_to_clean_starts_nothing(settings: NodeSettings, capsys: Said) -> None:
    assert run(["clean"]) == 0
    assert "nothing is left of earlier builds and tests" in capsys.readouterr().err
    assert not settings.state.joinpath("client").exists()


def test_what_a_killed_build_has_left_is_removed(settings: NodeSettings, tmp_path: Path) -> None:
    orphan = write_orphan(tmp_path, f"embedded:{settings.state}:pve")
    assert run(["clean"]) == 0
    assert not orphan.exists()
    assert find_node(settings.state) is None


def test_what_is_on_a_proxmox_that_nobody_names_waits(settings: NodeSettings, tmp_path: Path, capsys: Said) -> None:
    orphan = write_orphan(tmp_path, "proxmox:pve.example.com:8006:pve")
    assert run(["clean"]) == 0
    assert orphan.exists()
    assert "is on proxmox:pve.example.com:8006:pve: the next build or test there removes it" in capsys.readouterr().err


def test_guests_that_were_kept_are_listed_and_removed_when_named(
    settings: NodeSettings, tmp_path: Path, capsys: Said
) -> None:
    site = f"embedded:{settings.state}:pve"
    one, two, three = (write_orphan(tmp_path, site, "kept", f"bbbb0000000{n}") for n in (1, 2, 3))
    assert run(["clean"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["bbbb00000001", "lxc", "900", site]
    assert run(["clean", "bbbb00000001", "--json"]) == 0
    assert [path.exists() for path in (one, two, three)] == [False, True, True]
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["build_id"] for line in told if line["event"] == "kept"] == ["bbbb00000002", "bbbb00000003"]
    assert run(["clean", "nonsense"]) == 2
    assert "guests were kept of: bbbb00000002, bbbb00000003" in capsys.readouterr().err
    assert run(["clean", "--kept"]) == 0
    assert not two.exists()
    assert not three.exists()


# options


def test_options_may_stand_before_or_after_the_command(project: Path, capsys: Said) -> None:
    for command in (["--json", "images"], ["images", "--json"], ["images", "list", "--json"]):
        assert run(command) == 0
        assert document(capsys) == {"images": []}


def test_a_project_is_found_from_within_and_one_image_can_be_checked_alone(project: Path) -> None:
    write_image(project, "bad", "temp_vmid: 5\n")
    done = goldsmith("validate", "lxc", home=project.parent, cwd=project / "images")
    assert done.returncode == 0
    assert done.stdout == "ok lxc\n"


def test_secrets_do_not_show(project: Path, capsys: Said) -> None:
    write_image(project, "secret", "template_password: hunter2-hunter2\nhunter: hunter2-hunter2\n")
    assert run(["build", "--check", "secret"]) == 0
    assert "hunter2" not in "".join(capsys.readouterr())
