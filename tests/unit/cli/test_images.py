"""`goldsmith images`, each command through the entry point, on versions made for it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from goldsmith.artifacts.channels import set_channel
from goldsmith.artifacts.record import Package
from goldsmith.artifacts.repository import NewVersion, Repository, Version, open_repository
from goldsmith.artifacts.sbom import attach_sbom
from goldsmith.artifacts.verdicts import TestState, put_verdict
from goldsmith.cli.images import COMMANDS
from goldsmith.cli.main import run
from tests.unit.artifacts.making import make_record, put, small_tar
from tests.unit.cli.running import GOLDSMITH, goldsmith, make_environment

Said = pytest.CaptureFixture[str]
HEAVY = ("requests", "cyclonedx", "rich", "aiohttp", "proxmoxer", "ansible_runner")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    write_image(folder)
    monkeypatch.chdir(folder)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def repository(project: Path) -> Repository:
    return open_repository(project / "repository")


def write_image(project: Path, text: str = "", name: str = "lxc") -> None:
    folder = project / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vars.yml").write_text(text)
    (folder / "playbook.yml").write_text("- hosts: all\n")


def judge(repository: Repository, version: Version, state: TestState = TestState.PASSED) -> Version:
    summary = "3 passed" if state is TestState.PASSED else "1 failed: no-failed-units"
    put_verdict(repository, version, state=state, summary=summary, document=b"{}", junit="<x/>", html="<p/>")
    return version


def put_old(repository: Repository, days: int, name: str = "lxc", **changes: Any) -> Version:
    """Put a version that was built so many days ago."""
    finished = datetime.now(UTC) - timedelta(days=days)
    return put(repository, name, f"{name} {days}".encode(), record=make_record(finished=finished), **changes)


def document(said: Said) -> Any:
    return json.loads(said.readouterr().out)


def damage(repository: Repository, digest: str) -> None:
    """Flip one bit of a blob."""
    blob = repository.path / "blobs/sha256" / digest.removeprefix("sha256:")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(bytes(content))


def make_key(folder: Path, name: str = "id_ed25519") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "jane@ops", "-f", str(folder / name)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder / name


def allow(file: Path, key: Path, who: str = "jane@ops") -> None:
    kind, public, *_ = key.with_suffix(".pub").read_text().split()
    file.write_text(f'{who} namespaces="goldsmith" {kind} {public}\n')


# the group


def test_the_list_of_commands_has_the_first_sentence_of_their_own_help() -> None:
    for name, lazy in COMMANDS.items():
        command = lazy.load()
        assert command.name == name
        assert (command.help or "").splitlines()[0] == lazy.help


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_takes_json_and_has_help(name: str, capsys: Said) -> None:
    assert run(["images", name, "--json", "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: goldsmith images {name}")


def test_looking_at_a_directory_imports_nothing_that_takes_long(project: Path, repository: Repository) -> None:
    put(repository, "lxc")
    code = (
        "import sys; from goldsmith.cli.main import run; run(['images', 'show', 'lxc']); "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project,
        env=make_environment(project.parent),
    )  # fmt: skip
    assert done.stdout.startswith("version")
    assert done.stderr.strip() == "[]"


def test_a_wrong_command_is_told_with_what_was_meant(project: Path, capsys: Said) -> None:
    assert run(["images", "promot", "lxc", "stable"]) == 2
    assert "there is no command 'promot'; did you mean 'promote'?" in capsys.readouterr().err


# list, show


def test_versions_of_one_image_are_listed(repository: Repository, capsys: Said) -> None:
    version = put(repository, "lxc")
    put(repository, "web")
    assert run(["images", "list", "lxc", "--json"]) == 0
    assert [one["version"] for one in document(capsys)["images"]] == [str(version)]
    assert run(["images", "list", "nonsense"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "there is no version of nonsense\n")


def test_channels_revocations_and_what_is_built_on_them_are_listed(repository: Repository, capsys: Said) -> None:
    base = judge(repository, put(repository, "base"))
    record = make_record(base_name=f"image:{base}", base_digest=base.digest)
    judge(repository, put(repository, "lxc", record=record))
    sound = judge(repository, put(repository, "lxc", b"2"))
    for channel in ("stable", "candidate"):
        assert run(["images", "promote", str(sound), channel]) == 0
    assert run(["images", "revoke", "base", "--reason", "holds a key"]) == 0
    capsys.readouterr()
    assert run(["images"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[1:3] for row in rows] == [["revoked", "-"], ["revoked", "-"], ["passed", "candidate,stable"]]
    for command in (["images", "show", "lxc:20261123.1"], ["images", "list", "lxc"]):
        assert run([*command, "--json"]) == 0
        told = document(capsys)
        told = told.get("images", [told])[0]
        assert re.fullmatch(r"lxc:\S+ is built on base:\S+, which was revoked by .* holds a key", told["revoked"])
    assert run(["images", "show", "lxc:stable"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^version +{sound}$", shown, re.MULTILINE)
    assert re.search(r"^channels +candidate, stable$", shown, re.MULTILINE)
    assert re.search(r"^signed +no$", shown, re.MULTILINE)


def test_one_repository_that_cannot_be_read_hides_no_other(project: Path, repository: Repository, capsys: Said) -> None:
    sound = put(repository, "lxc")
    other = open_repository(project / "other")
    torn = put(other, "web")
    damage(other, torn.digest)
    write_image(project, f"repository: {project / 'other'}\n", "web")
    assert run(["images"]) == 8
    said = capsys.readouterr()
    assert str(sound) in said.out
    assert f"blob {torn.digest} is damaged" in said.err


class Closed(BaseHTTPRequestHandler):
    """A registry that tells nobody what it holds; it holds nothing."""

    def do_GET(self) -> None:
        asked.append(self.path)
        self.send_response(200 if self.path == "/v2/" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


asked: list[str] = []


@pytest.fixture
def closed() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"oci://127.0.0.1:{server.server_port}/golden"
        server.shutdown()
        thread.join()


def test_a_registry_without_a_catalogue_is_asked_for_the_projects_images(
    project: Path, closed: str, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("GOLDSMITH_REGISTRY_PLAIN_HTTP", "1")
    asked.clear()
    assert run(["images", "list", "--repository", closed, "--json"]) == 0
    assert document(capsys) == {"images": []}
    assert [path.partition("?")[0] for path in asked if "tags" in path] == ["/v2/golden/lxc/tags/list"] * 2
    monkeypatch.chdir(project.parent)
    assert run(["images", "list", "--repository", closed]) == 8
    said = capsys.readouterr()
    assert f"error: {closed} does not tell what it holds" in said.err
    assert "hint: name the image" in said.err
    assert run(["images", "list", "lxc", "--repository", closed]) == 0


# promote, channels, demote


def test_a_version_that_has_passed_is_promoted_and_moved_on(repository: Repository, capsys: Said) -> None:
    first, second = (judge(repository, put(repository, "lxc", content)) for content in (b"1", b"2"))
    assert run(["images", "promote", str(first), "stable"]) == 0
    assert capsys.readouterr().err == f"lxc:stable is {first} from now on\n"
    assert run(["images", "promote", "lxc", "stable"]) == 0
    assert capsys.readouterr().err == f"lxc:stable is {second} from now on (before: {first.tag})\n"
    assert run(["images", "promote", "lxc:stable", "candidate", "--json"]) == 0
    told = document(capsys)
    assert (told["channel"], told["version"], told["before"]) == ("lxc:candidate", str(second), None)
    assert run(["images", "channels"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["lxc:candidate", str(second)], ["lxc:stable", str(second)]]
    assert run(["images", "demote", "lxc:candidate"]) == 0
    assert run(["images", "channels", "--json"]) == 0
    (left,) = document(capsys)["channels"]
    assert (left["channel"], left["version"], left["digest"]) == ("lxc:stable", str(second), second.digest)


@pytest.mark.parametrize(
    ("state", "said"),
    [(None, "has not been tested"), (TestState.FAILED, "has failed its tests: 1 failed: no-failed-units")],
)
def test_what_has_not_passed_is_not_promoted_but_by_an_override(
    repository: Repository, state: TestState | None, said: str, capsys: Said
) -> None:
    version = put(repository, "lxc")
    if state is not None:
        judge(repository, version, state)
    assert run(["images", "promote", "lxc", "stable"]) == 8
    assert f"error: {version} {said}" in capsys.readouterr().err
    assert run(["images", "channels", "--json"]) == 0
    assert document(capsys) == {"channels": []}
    assert run(["images", "promote", "lxc", "stable", "--override", "  "]) == 2
    assert run(["images", "promote", "lxc", "stable", "--override", "the mirror was down"]) == 0
    capsys.readouterr()
    assert run(["images", "show", "lxc:stable", "--json"]) == 0
    told = document(capsys)
    assert (told["override"]["reason"], told["channels"]) == ("the mirror was down", ["stable"])


def test_an_override_that_is_not_needed_is_not_recorded(repository: Repository, capsys: Said) -> None:
    judge(repository, put(repository, "lxc"))
    assert run(["images", "promote", "lxc", "stable", "--override", "to be sure"]) == 0
    assert "no override is needed" in capsys.readouterr().err
    assert run(["images", "show", "lxc", "--json"]) == 0
    assert document(capsys)["override"] is None


def test_nothing_is_recorded_when_the_channel_cannot_be(repository: Repository, capsys: Said) -> None:
    put(repository, "lxc")
    assert run(["images", "promote", "lxc", "20261123.1", "--override", "why not"]) == 2
    assert "is no name for a channel" in capsys.readouterr().err
    assert run(["images", "show", "lxc", "--json"]) == 0
    assert document(capsys)["override"] is None


@pytest.mark.parametrize("reference", ["lxc", "lxc:none", "lxc:Stable"])
def test_what_is_no_channel_is_not_forgotten(repository: Repository, reference: str, capsys: Said) -> None:
    put(repository, "lxc")
    assert run(["images", "demote", reference]) != 0
    assert "error: " in capsys.readouterr().err


# revoke


def test_a_revoked_version_is_refused_with_all_that_is_built_on_it(repository: Repository, capsys: Said) -> None:
    base = judge(repository, put(repository, "base"))
    set_channel(repository, "stable", base)
    record = make_record(base_name=f"image:{base}", base_digest=base.digest)
    child = judge(repository, put(repository, "lxc", record=record))
    assert run(["images", "revoke", "base"]) == 2
    capsys.readouterr()
    assert run(["images", "revoke", "base:stable", "--reason", "holds a\nkey"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"{base} is revoked: holds a key",
        f"built on it, and refused as well: {child}",
        f"base:stable names {base} still; promote a sound version to it",
    ]
    assert run(["images", "promote", "lxc", "stable", "--override", "anyway"]) == 8
    assert f"error: {child} is built on {base}, which was revoked by " in capsys.readouterr().err
    assert run(["images", "revoke", "base", "--reason", "again", "--json"]) == 0
    told = document(capsys)
    assert (told["version"], told["built_on_it"], told["channels"]) == (str(base), [str(child)], ["base:stable"])


# diff


def make_two(repository: Repository) -> tuple[Version, Version]:
    old = put(repository, "lxc", b"1")
    packages = (Package("git", "1:2.40", "amd64"), Package("vim", "2:9.0", "amd64"))
    record = make_record(packages=packages, variables={"apps": ["git"], "template_uid": 1000})
    return old, put(repository, "lxc", b"three", record=record)


def test_two_versions_are_compared(repository: Repository, capsys: Said) -> None:
    old, new = make_two(repository)
    assert run(["images", "diff", str(old), "lxc", "--files"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == f"{old} -> {new}"
    assert re.fullmatch(r"size: \d+ B -> \d+ B; 1 of 1 layers are new \(\d+ B\)", lines[1])
    assert lines[2:] == [
        "packages: 3",
        "  + vim:amd64 2:9.0",
        "  - adduser:all 3.134",
        "  ~ git:amd64 1:2.39.5-0+deb12u2 -> 1:2.40",
        "variables: 2",
        '  ~ apps: ["git", "vim"] -> ["git"]',
        '  - nested: {"none": null, "on": true}',
        "inputs: no difference",
        "files: 1",
        "  ~ etc/hostname  (content; +4 B)",
    ]


def test_files_of_which_only_the_time_differs_are_named_when_asked_for(repository: Repository, capsys: Said) -> None:
    """Two builds of the same: what is the same but for its time drowns nothing else."""
    with repository.open_writer() as writer:
        for time in (1_700_000_000.5, 1_800_000_000):
            layers = writer.add_layers(io.BytesIO(small_tar(("./etc/hostname", b"1"), mtime=time)))
            writer.put(NewVersion(name="lxc", layers=layers, record=make_record()))
    old, new = repository.list_versions("lxc")
    assert run(["images", "diff", str(old), str(new), "--files"]) == 0
    told = "files of which only the time differs: 1"
    assert capsys.readouterr().out.splitlines()[-2:] == ["files: no difference", f"{told} (--times names them)"]
    assert run(["images", "diff", str(old), str(new), "--files", "--times"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [told, "  ~ etc/hostname  (time)"]
    assert run(["images", "diff", str(old), str(new), "--files", "--json"]) == 0
    (change,) = document(capsys)["files"]
    assert (change["what"], change["before"]["time"], change["after"]["time"]) == (
        ["time"], "1700000000.5", "1800000000"
    )  # fmt: skip


def test_two_versions_are_compared_in_json(repository: Repository, capsys: Said) -> None:
    old, new = make_two(repository)
    assert run(["images", "diff", str(old), str(new), "--json"]) == 0
    told = document(capsys)
    assert [change["name"] for change in told["packages"]["upgraded"]] == ["git"]
    assert "files" not in told
    assert run(["images", "diff", str(old), str(new), "--files", "--json"]) == 0
    (change,) = document(capsys)["files"]
    assert (change["path"], change["what"]) == ("etc/hostname", ["content"])


def test_versions_of_two_repositories_are_compared(project: Path, repository: Repository, capsys: Said) -> None:
    old = put(repository, "lxc")
    write_image(project, f"repository: {project / 'other'}\n", "web")
    put(open_repository(project / "other"), "web")
    assert run(["images", "diff", str(old), "web", "--files"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "files: no difference"


def test_a_damaged_layer_is_not_compared(repository: Repository, capsys: Said) -> None:
    old, new = make_two(repository)
    damage(repository, new.layers[0].digest)
    assert run(["images", "diff", str(old), str(new), "--files"]) == 8
    assert new.layers[0].digest in capsys.readouterr().err


# sign, sbom, provenance


def test_a_version_is_signed_and_the_signature_is_checked(project: Path, repository: Repository, capsys: Said) -> None:
    version = put(repository, "lxc")
    assert run(["images", "sign", "lxc"]) == 2
    assert "you have no SSH key" in capsys.readouterr().err
    key = make_key(project.parent / ".ssh")
    assert run(["images", "sign", "lxc"]) == 0
    assert capsys.readouterr().err == f"{version} is signed with {key}\n"
    assert show_signed(capsys)["state"] == "unchecked"
    allow(project / "allowed_signers", make_key(project.parent, "other"))
    assert show_signed(capsys)["state"] == "invalid"
    assert run(["images", "sign", "lxc", "--json"]) == 0
    assert "does not allow" in document(capsys)["warning"]
    allow(project / "allowed_signers", key)
    signed = show_signed(capsys)
    assert (signed["state"], signed["signer"]) == ("valid", "jane@ops")
    assert run(["images", "show", "lxc"]) == 0
    assert re.search(r"^signed +by jane@ops, .*, with SHA256:", capsys.readouterr().out, re.MULTILINE)
    assert run(["images"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[3] == "yes"


def show_signed(said: Said) -> Any:
    said.readouterr()
    assert run(["images", "show", "lxc", "--json"]) == 0
    return document(said)["signed"]


def test_a_key_is_named_by_option_or_environment(
    project: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    put(repository, "lxc")
    key = make_key(project.parent, "mine")
    assert run(["images", "sign", "lxc", "--key", str(key)]) == 0
    monkeypatch.setenv("GOLDSMITH_SIGNING_KEY", str(key))
    assert run(["images", "sign", "lxc", "--json"]) == 0
    told = document(capsys)
    assert told["key"] == str(key)
    assert len(told["attached"]) == 1  # the record, and not the first signature


def test_a_key_that_cannot_sign_is_refused(project: Path, repository: Repository, capsys: Said) -> None:
    put(repository, "lxc")
    wrong = project / "no-key"
    wrong.write_text("nonsense\n")
    assert run(["images", "sign", "lxc", "--key", str(wrong)]) == 8
    assert f"error: {wrong} cannot sign" in capsys.readouterr().err


def test_where_a_signature_is_required_nothing_else_is_promoted(
    project: Path, repository: Repository, capsys: Said
) -> None:
    version = judge(repository, put(repository, "lxc"))
    write_image(project, "require_signature: true\nsigners_file: inventory/signers\n")
    assert run(["images", "promote", "lxc", "stable"]) == 8
    assert f"error: {version} is not signed" in capsys.readouterr().err
    key = make_key(project.parent / ".ssh")
    (project / "inventory").mkdir()
    allow(project / "inventory/signers", key)
    assert run(["images", "sign", "lxc"]) == 0
    assert run(["images", "promote", "lxc", "stable"]) == 0


def test_a_signature_is_required_wherever_a_version_lies(project: Path, repository: Repository, capsys: Said) -> None:
    judge(repository, put(repository, "lxc"))
    write_image(project, f"require_signature: true\nrepository: {project / 'other'}\n")
    for command in (["promote", "lxc"], ["push", "lxc", str(project / "third"), "--channel"], ["pull", "lxc",
                    "repository", "--channel"]):  # fmt: skip
        assert run(["images", *command, "stable"]) == 8
        assert "is not signed" in capsys.readouterr().err


def test_documents_are_printed_as_they_are_stored_or_made_now(repository: Repository, capsys: Said) -> None:
    version = put(repository, "lxc")
    assert run(["images", "sbom", "lxc"]) == 0
    made = capsys.readouterr().out
    bom = json.loads(made)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert {part["name"] for part in bom["components"]} == {"git", "adduser"}
    assert not repository.list_attached(version, "application/vnd.cyclonedx+json")
    attach_sbom(repository, version)
    assert run(["images", "sbom", "lxc", "--json"]) == 0
    assert capsys.readouterr().out == made
    assert run(["images", "provenance", "lxc"]) == 0
    statement = document(capsys)
    assert statement["subject"][0]["digest"]["sha256"] == version.digest.removeprefix("sha256:")


# push, pull


def test_a_version_goes_to_another_repository_and_comes_back(
    project: Path, repository: Repository, capsys: Said
) -> None:
    version = judge(repository, put(repository, "lxc"))
    other = project.parent / "other"
    assert run(["images", "push", "lxc", str(other), "--channel", "stable"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{version}\n"
    assert re.search(rf"push {version} to {other}: \d+ blobs, ", said.err)
    assert run(["images", "push", "lxc", str(other), "--json"]) == 0
    told = document(capsys)
    assert told["sent"] == {"blobs": 0, "size": 0, "attached": 0}
    assert told["digest"] == version.digest
    assert run(["images", "show", "lxc:stable", "--repository", str(other), "--json"]) == 0
    assert document(capsys)["state"] == "passed"
    write_image(project, f"repository: {project / 'third'}\n")
    assert run(["images", "pull", "lxc:stable", str(other), "--json"]) == 0
    assert document(capsys)["to"] == str(project / "third")
    assert open_repository(project / "third").get_version("lxc").digest == version.digest


def test_a_version_is_not_promoted_there_untested(project: Path, repository: Repository, capsys: Said) -> None:
    put(repository, "lxc")
    assert run(["images", "push", "lxc", str(project / "other"), "--channel", "stable"]) == 8
    assert "has not been tested" in capsys.readouterr().err


def test_a_damaged_blob_is_not_pushed_and_is_mended_by_a_pull(
    project: Path, repository: Repository, capsys: Said
) -> None:
    version = put(repository, "lxc")
    other = project.parent / "other"
    assert run(["images", "push", "lxc", str(other)]) == 0
    damage(repository, version.layers[0].digest)
    assert run(["images", "push", "lxc", str(project.parent / "new")]) == 8
    assert version.layers[0].digest in capsys.readouterr().err
    assert run(["images", "verify"]) == 8
    assert run(["images", "pull", str(version), str(other)]) == 0
    assert run(["images", "verify"]) == 0


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_repository_is_not_copied_to_itself(project: Path, repository: Repository, verb: str, capsys: Said) -> None:
    put(repository, "lxc")
    assert run(["images", verb, "lxc", "repository/../repository"]) == 2
    assert "hint: another one: --repository" in capsys.readouterr().err


def test_a_password_in_a_place_is_refused_and_not_shown(repository: Repository, capsys: Said) -> None:
    put(repository, "lxc")
    for command in (["push", "lxc", "oci://ops:hunter2@registry.example.org/golden"], ["list"]):
        extra = ["--repository", "oci://ops:hunter2@registry.example.org/golden"] if command == ["list"] else []
        assert run(["images", *command, *extra]) == 2
        said = capsys.readouterr()
        assert "the place of a registry holds no login" in said.err
        assert "hunter2" not in said.err + said.out


def test_two_versions_of_one_name_are_told_apart(project: Path, repository: Repository, capsys: Said) -> None:
    put(repository, "lxc")
    put(open_repository(project / "other"), "lxc", b"another")
    assert run(["images", "push", "lxc", str(project / "other")]) == 8
    assert "has another lxc:20261123.1" in capsys.readouterr().err


# verify


def test_everything_is_read_back(project: Path, repository: Repository, capsys: Said) -> None:
    sound, torn = put(repository, "lxc"), put(repository, "web")
    assert run(["images", "verify"]) == 0
    assert capsys.readouterr().out == f"ok {project / 'repository'}\n"
    assert run(["images", "verify", "lxc", "web"]) == 0
    assert capsys.readouterr().out == f"ok {sound}\nok {torn}\n"


@pytest.mark.parametrize("named", [True, False])
def test_what_is_damaged_is_named(repository: Repository, named: bool, capsys: Said) -> None:
    sound = put(repository, "lxc")
    torn = judge(repository, put(repository, "web", b"2"))
    (attached,) = repository.list_attached(torn, "application/vnd.goldsmith.verdict.v1+json")
    hit = [torn.config.digest, attached.parts[1].digest]
    for digest in hit:
        damage(repository, digest)
    words = ["lxc", "web"] if named else []
    assert run(["images", "verify", *words]) == 8
    said = capsys.readouterr()
    assert said.out == (f"ok {sound}\n" if named else "")
    for digest in hit:
        assert f"blob {digest} is damaged" in said.err
    assert run(["images", "verify", *words, "--json"]) == 8
    told = document(capsys)["verified"]
    assert sorted(len(one["problems"]) for one in told) == ([0, 2] if named else [2])


def test_a_missing_manifest_is_named(repository: Repository, capsys: Said) -> None:
    version = put(repository, "lxc")
    (repository.path / "blobs/sha256" / version.digest.removeprefix("sha256:")).unlink()
    assert run(["images", "verify", "lxc"]) == 8
    assert version.digest in capsys.readouterr().err


def test_no_repository_is_not_a_sound_one(project: Path, repository: Repository, capsys: Said) -> None:
    assert run(["images", "verify", "--repository", "nowhere"]) == 8
    assert "there is no repository" in capsys.readouterr().err
    put(repository, "lxc")
    (repository.path / "index.json").unlink()
    assert run(["images", "verify"]) == 8
    assert "index.json is missing" in capsys.readouterr().err


# prune


@pytest.fixture
def several(repository: Repository) -> list[Version]:
    """Five versions of an image: 50, 40, .. days old; the oldest is `stable`, the next one revoked."""
    versions = [put_old(repository, days) for days in (50, 40, 30, 20, 10)]
    set_channel(repository, "stable", judge(repository, versions[0]))
    assert run(["images", "revoke", str(versions[1]), "--reason", "holds a key"]) == 0
    return versions


def plan_of(said: Said) -> dict[str, tuple[bool, str]]:
    (told,) = document(said)["repositories"]
    return {step["version"]: (step["goes"], step["reason"]) for step in told["versions"]}


def test_what_would_go_is_said_with_reasons(several: list[Version], repository: Repository, capsys: Said) -> None:
    capsys.readouterr()
    assert run(["images", "prune", "--keep-last", "1", "--older-than", "3w", "--dry-run"]) == 0
    said = capsys.readouterr()
    rows = [line.split(None, 2) for line in said.out.splitlines()[1:]]
    where = str(repository.path)
    assert [(name, verb, why.replace(where, "").strip()) for name, verb, why in rows] == [
        (str(several[0]), "stays", "stable names it"),
        (str(several[1]), "goes", "revoked, and unused"),
        (str(several[2]), "goes", "older, and unused"),
        (str(several[3]), "stays", "younger than 21 days"),
        (str(several[4]), "stays", "the newest"),
    ]
    assert re.search(r": 2 versions would go, \d+ B of layers$", said.err.strip())
    assert len(repository.list_versions()) == 5


def test_what_goes_is_gone_and_the_rest_is_whole(several: list[Version], repository: Repository, capsys: Said) -> None:
    capsys.readouterr()
    assert run(["images", "prune", "--keep-last", "2", "--yes", "--in-use", str(several[2]), "--json"]) == 0
    (told,) = document(capsys)["repositories"]
    assert told["removed"] == [str(several[1])]
    assert told["freed"] > 0
    assert [step["reason"] for step in told["versions"] if step["version"] == str(several[2])] == ["a server uses it"]
    assert [version.tag for version in repository.list_versions()] == [
        version.tag for version in several if version != several[1]
    ]
    assert run(["images", "verify"]) == 0
    capsys.readouterr()
    assert run(["images", "prune", "--yes"]) == 0
    assert "nothing is to be removed" in capsys.readouterr().err


def test_only_named_images_are_pruned(several: list[Version], repository: Repository, capsys: Said) -> None:
    for days in (9, 8):
        put_old(repository, days, "web")
    capsys.readouterr()
    assert run(["images", "prune", "web", "--keep-last", "1", "--yes", "--json"]) == 0
    plan = plan_of(capsys)
    assert sum(goes for goes, _ in plan.values()) == 1
    assert plan[str(several[2])] == (False, "of lxc, which is not named")
    assert len(repository.list_versions("lxc")) == 5


def test_nobody_is_asked_nothing_goes(several: list[Version], project: Path, repository: Repository) -> None:
    done = goldsmith("images", "prune", home=project.parent, cwd=project)
    assert done.returncode == 2
    assert "hint: --yes is the answer" in done.stderr
    assert str(several[1]) in done.stdout
    done = goldsmith("images", "prune", "--json", home=project.parent, cwd=project)
    assert (done.returncode, json.loads(done.stdout)["event"]) == (2, "error")
    assert len(repository.list_versions()) == 5


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 3), (b"n\n", 2, 5), (b"\n", 2, 5)])
def test_somebody_is_asked(
    several: list[Version], project: Path, repository: Repository, answer: bytes, code: int, left: int
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    done = subprocess.run(
        [*GOLDSMITH, "images", "prune", "--keep-last", "2"], stdin=theirs, capture_output=True, text=True, check=False,
        cwd=project, env=make_environment(project.parent), timeout=60,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "Remove 2 versions and what belongs to them, at least " in done.stderr
    assert len(repository.list_versions()) == left


@pytest.mark.parametrize("options", [["--keep-last", "0"], ["--older-than", "5h"], ["--older-than", "old"]])
def test_a_policy_that_makes_no_sense_is_refused(several: list[Version], options: list[str], capsys: Said) -> None:
    assert run(["images", "prune", "--yes", *options]) == 2


def test_a_version_in_use_that_is_not_there_stops_all(several: list[Version], repository: Repository) -> None:
    assert run(["images", "prune", "--yes", "--in-use", "lxc:20000101.1"]) == 8
    assert len(repository.list_versions()) == 5
