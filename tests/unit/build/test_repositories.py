"""Where versions are stored, as people name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.base.errors import UsageError
from goldsmith.build.repositories import CA_FILE, PLAIN_HTTP, open_image_repository, open_location, read_options
from tests.unit.build.making import make_image


def test_a_directory_and_a_registry_are_opened(tmp_path: Path) -> None:
    assert open_location(str(tmp_path)).path == tmp_path
    there = open_location("oci://registry.example.org:5000/golden/")
    assert there.location == "oci://registry.example.org:5000/golden"
    assert not there.is_local
    named = make_image(repository="oci://registry.example.org/golden")
    assert open_image_repository(named).location == "oci://registry.example.org/golden"
    assert open_image_repository(make_image()).location == "/project/repository"


def test_the_environment_says_how_registries_are_talked_to(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    options = read_options({CA_FILE: str(ca_file), PLAIN_HTTP: "1"})
    assert (options.ca_file, options.plain_http) == (ca_file, True)
    options = read_options({PLAIN_HTTP: "no"})
    assert (options.ca_file, options.plain_http) == (None, False)


@pytest.mark.parametrize(
    ("environment", "said"),
    [({CA_FILE: "/not/there.pem"}, "there is no file /not/there.pem"), ({PLAIN_HTTP: "maybe"}, "is neither 1 nor 0")],
)
def test_nonsense_in_the_environment_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_options(environment)


def test_a_login_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="holds no login") as caught:
        open_location("oci://ops:hunter2@registry.example.org/golden")
    assert "hunter2" not in caught.value.message + caught.value.hint
