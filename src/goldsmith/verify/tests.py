"""The user's own tests as values: what there is, how it is divided among guests, and what a run is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldsmith.definition.image import Image

TESTS_FOLDER = "tests"
GOSS_FILE = "goss.yaml"


@dataclass(frozen=True)
class UserTests:
    """The tests of one image, and what they may know."""

    directory: Path
    """images/NAME/tests; it need not exist."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """For the fixture `variables`: plain values; `Secret`s (nested too) become files that only we can read."""
    test_timeout: float = 300.0
    """Seconds for one test, its fixtures included."""
    session_timeout: float = 3600.0
    """Seconds for all tests of one group."""

    @property
    def goss_file(self) -> Path:
        """The tests of goss, where there are some."""
        return self.directory / GOSS_FILE


@dataclass(frozen=True)
class TestGroup:
    """Tests that share a guest."""

    __test__ = False

    name: str
    """`shared`, or pytest's id of the destructive test, class or module."""
    tests: tuple[str, ...]
    destructive: bool = False
    """Whether the guest is not to be used for anything afterwards."""


def get_user_tests(image: Image, variables: Mapping[str, Any]) -> UserTests:
    """Return an image's own tests.

    :param variables: what its playbook is given too.
    """
    return UserTests(image.directory / TESTS_FOLDER, variables, image.variables.test_timeout)
