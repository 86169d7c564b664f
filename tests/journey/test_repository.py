"""The life of versions, from the command line: built, tested, promoted, pushed, pulled, compared, revoked, pruned."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goldsmith.artifacts.repository import open_repository
from tests.contract.registry import RealRegistry
from tests.contract.test_registry_access import HASH, PASSWORD, make_certificate
from tests.journey.conftest import Journey
from tests.lxc.images import SMALL
from tests.unit.artifacts.making import put

pytestmark = pytest.mark.root

MARKED = """
- hosts: all
  gather_facts: false
  tasks:
    - name: A mark that differs from version to version
      ansible.builtin.raw: "echo {{ mark }} >/etc/mark"
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RealRegistry]:
    """One that asks for a password, and has a certificate that nobody knows."""
    users = tmp_path / "htpasswd"
    users.write_text(f"jane:{HASH}\n")
    certificate, key, _ = make_certificate(tmp_path, "registry")
    made = RealRegistry(
        tmp_path / "guarded",
        tls={"certificate": str(certificate), "key": str(key)},
        auth={"htpasswd": {"realm": "test", "path": str(users)}},
    )
    made.start()
    yield made
    made.kill()


def ask(journey: Journey, *words: str) -> Any:
    return json.loads(journey.goldsmith("images", *words, "--json").stdout)


def build(journey: Journey, mark: str, variables: str = "") -> str:
    """Build and test; return the version's name."""
    journey.write_image(MARKED, f"mark: {mark}\n{variables}", name="web")
    return journey.goldsmith("build", "--test", "web").stdout.splitlines()[0]


def test_the_life_of_two_versions(journey: Journey, registry: RealRegistry, tmp_path: Path) -> None:
    old = build(journey, "one")
    journey.goldsmith("images", "promote", "web", "stable")
    bom = json.loads(journey.goldsmith("images", "sbom", "web:stable").stdout)
    assert "systemd" in {part["name"] for part in bom["components"]}
    assert all("distro=debian-12" in part["purl"] for part in bom["components"])
    assert json.loads(journey.goldsmith("images", "provenance", old).stdout)["subject"][0]["name"] == old

    repository = open_repository(journey.project / "repository")
    kinds = {entry.artifact_type for entry in repository.list_referrers(repository.get_version(old))}
    assert {"application/vnd.cyclonedx+json", "application/vnd.in-toto+json"} < kinds

    there, other = f"oci://{registry.host}/golden", str(tmp_path / "other")
    journey.goldsmith("images", "push", "web:stable", there, "--channel", "stable")
    new = build(journey, "two")
    plan = ask(journey, "push", new, there)
    assert plan["sent"]["size"] < plan["present"]["size"] / 4  # only what differs goes over the line
    pulled = journey.goldsmith("images", "pull", "web:stable", there, "--repository", other, "--channel", "tried")
    assert pulled.stdout == f"{old}\n"
    shown = ask(journey, "show", "web:tried", "--repository", other)
    here = ask(journey, "show", "web:stable")
    assert (shown["digest"], shown["state"], shown["record"]) == (here["digest"], "passed", here["record"])
    journey.goldsmith("images", "verify", "--repository", other)
    journey.goldsmith("images", "verify", "web", "--repository", there)

    said = journey.goldsmith("images", "diff", old, new, "--files").stdout
    assert '  ~ mark: "one" -> "two"\n' in said
    assert "  ~ etc/mark  (content)\n" in said
    assert "packages: no difference\n" in said

    journey.goldsmith("images", "revoke", "web:stable", "--reason", "holds a key")
    refused = journey.goldsmith("images", "promote", old, "candidate", code=8).stderr
    assert re.search(rf"error: {old} was revoked by .*: holds a key", refused)
    journey.goldsmith("images", "prune", "--keep-last", "1", "--yes")
    assert {one["version"] for one in ask(journey, "list")["images"]} == {old, new}  # stable names it still
    journey.goldsmith("images", "promote", new, "stable")
    journey.goldsmith("images", "prune", "--keep-last", "1", "--yes")
    assert [one["version"] for one in ask(journey, "list")["images"]] == [new]
    journey.goldsmith("images", "verify")
    journey.goldsmith("images", "export", "web:stable", str(tmp_path))
    assert journey.find_leftovers() == []


def test_images_are_built_into_a_registry(journey: Journey, registry: RealRegistry, tmp_path: Path) -> None:
    there = f"oci://{registry.host}/golden"
    version = build(journey, "one", f"repository: {there}\n")
    (told,) = ask(journey)["images"]
    assert (told["version"], told["state"], told["repository"]) == (version, "passed", there)
    assert not (journey.project / "repository").exists()
    journey.goldsmith("images", "promote", "web", "stable")
    path = journey.goldsmith("images", "export", "web:stable", str(tmp_path)).stdout.strip()
    assert Path(path).stat().st_size > told["size"]
    assert "is up to date" in journey.goldsmith("build", "web").stderr
    done = journey.goldsmith("images", "prune", "--dry-run")
    assert "stable names it" in done.stdout
    refused = journey.goldsmith("images", "demote", "web:stable", code=8).stderr  # Debian's registry cannot
    assert "hint: promote another version to that channel" in refused
    assert journey.find_leftovers() == []


def test_a_login_and_an_authority_come_from_the_environment(journey: Journey, guarded: RealRegistry) -> None:
    version = put(open_repository(journey.project / "repository"), "lxc")
    push = ("images", "push", "lxc", f"oci://{guarded.host}/golden")
    assert "certificate" in journey.goldsmith(*push, code=8).stderr
    journey.secrets["GOLDSMITH_REGISTRY_CA_FILE"] = guarded.tls["certificate"]
    assert "error: " in journey.goldsmith(*push, code=8).stderr
    journey.secrets |= {"GOLDSMITH_REGISTRY_USER": "jane", "GOLDSMITH_REGISTRY_PASSWORD": "no-" + PASSWORD}
    wrong = journey.goldsmith(*push, code=8)
    assert "no-" + PASSWORD not in wrong.stdout + wrong.stderr
    journey.secrets["GOLDSMITH_REGISTRY_PASSWORD"] = PASSWORD
    done = journey.goldsmith(*push, "--verbose")
    assert done.stdout == f"{version}\n"
    assert PASSWORD not in done.stderr
    assert PASSWORD not in journey.goldsmith(*push, "--json").stdout


def test_a_push_that_is_interrupted_ends_soon_and_goes_on(journey: Journey, registry: RealRegistry) -> None:
    journey.write_image(SMALL)
    version = journey.goldsmith("build", "lxc").stdout.splitlines()[0]
    there = f"oci://{registry.host}/golden"
    started = journey.start("images", "push", "lxc", there)
    started.await_text("blobs, ")
    started.send(signal.SIGINT)
    code = started.wait(seconds=30)
    assert "Traceback" not in started.output
    if code == 130:
        assert "interrupted by SIGINT" in started.output
        assert ask(journey, "list", "lxc", "--repository", there) == {"images": []}
    assert journey.goldsmith("images", "push", "lxc", there).stdout == f"{version}\n"
    journey.goldsmith("images", "verify", "lxc", "--repository", there)
    assert journey.list_processes() == []
