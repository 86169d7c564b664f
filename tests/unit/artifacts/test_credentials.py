"""Logins are found where podman, skopeo and docker keep them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from goldsmith.artifacts.credentials import Credentials, find_credentials, list_files
from goldsmith.base.errors import RepositoryError
from goldsmith.base.secrets import Secret

HOST = "registry.example.org:5000"


def login(user: str, password: str = "of-this-test") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(file: Path, value: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
    return file


def find(home: Path, environment: Mapping[str, str] | None = None, path: str = "team/images") -> Credentials | None:
    return find_credentials(HOST, path, environment or {}, home)


def test_nobody_is_somebody(tmp_path: Path) -> None:
    assert find(tmp_path) is None


def test_the_environment_comes_first(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {HOST: login("file")}})
    found = find(tmp_path, {"GOLDSMITH_REGISTRY_USER": "jane", "GOLDSMITH_REGISTRY_PASSWORD": "of-this-test"})
    assert found == Credentials("jane", Secret("of-this-test"))
    assert "of-this-test" not in repr(found)


def test_the_narrowest_login_counts(tmp_path: Path) -> None:
    logins = {HOST: login("host"), f"{HOST}/team": login("team"), f"{HOST}/other/images": login("other")}
    write(tmp_path / ".config/containers/auth.json", {"auths": logins})
    assert find(tmp_path) == Credentials("team", Secret("of-this-test"))
    assert find(tmp_path, path="") == Credentials("host", Secret("of-this-test"))
    assert find_credentials("else.example.org", "team", {}, tmp_path) is None


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}/v1/", f"https://{HOST}", f"http://{HOST}/v2/"])
def test_logins_of_docker_are_found(tmp_path: Path, key: str) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {key: login("jane", "with:colon")}})
    assert find(tmp_path) == Credentials("jane", Secret("with:colon"))


def test_where_logins_are_looked_for(tmp_path: Path) -> None:
    assert list_files({}, tmp_path) == [tmp_path / ".config/containers/auth.json", tmp_path / ".docker/config.json"]
    named = {"XDG_RUNTIME_DIR": "/run/user/1", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}
    assert [str(file) for file in list_files(named, tmp_path)] == [
        "/run/user/1/containers/auth.json", "/c/containers/auth.json", "/d/config.json"
    ]  # fmt: skip
    assert list_files({**named, "REGISTRY_AUTH_FILE": "/a.json"}, tmp_path) == [Path("/a.json")]


def test_an_identity_token_is_found(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {HOST: {"auth": "", "identitytoken": "of-this-test"}}})
    found = find(tmp_path)
    assert found is not None
    assert found.identity_token == Secret("of-this-test")


@pytest.mark.parametrize("entry", [{}, {"auth": "!!"}, {"auth": "bm9jb2xvbg=="}, "text", None])
def test_what_is_no_login_is_passed_over(tmp_path: Path, entry: object) -> None:
    write(tmp_path / ".config/containers/auth.json", {"auths": {HOST: entry}})
    write(tmp_path / ".docker/config.json", {"auths": {HOST: login("jane")}})
    assert find(tmp_path) == Credentials("jane", Secret("of-this-test"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".docker/config.json"
    file.parent.mkdir()
    file.write_text("{")
    with pytest.raises(RepositoryError, match=str(file)):
        find(tmp_path)


def test_a_credential_helper_that_is_not_installed_knows_nothing(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", {"credsStore": "that-nobody-has", "auths": {HOST: login("jane")}})
    assert find(tmp_path) is None
