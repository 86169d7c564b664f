"""What `goldsmith status` says of the version that a server runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from goldsmith.base.errors import VersionNotFound
from goldsmith.cli.plan import explain_base


def make(base: str, digest: str, head: str | None) -> tuple[Any, Any]:
    """A version that was built on one digest, in a repository whose base is now at another."""

    class Repository:
        def get_version(self, reference: str) -> object:
            assert reference == "base:stable"
            if head is None:
                raise VersionNotFound("no version 'base:stable'")
            return cast("Any", Named(digest=head))

    class Named(SimpleNamespace):
        def __str__(self) -> str:
            return "base:20261128.2"

    version = SimpleNamespace(name="web", base_digest=digest)
    image = SimpleNamespace(name="web", variables=SimpleNamespace(base_image=base))
    yard = SimpleNamespace(places=[SimpleNamespace(known=[image])])
    return SimpleNamespace(version=version, repository=Repository()), yard


@pytest.mark.parametrize(
    ("base", "digest", "head", "said"),
    [
        ("image:base:stable", "sha256:1", "sha256:2", "its base is outdated: base:20261128.2 is there"),
        ("image:base:stable", "sha256:1", "sha256:1", ""),
        ("image:base:stable", "sha256:1", None, ""),
        ("image:base:stable", "", "sha256:2", ""),
        ("debian-12-standard", "sha256:1", "sha256:2", ""),
    ],
)
def test_an_outdated_base_is_told(base: str, digest: str, head: str | None, said: str) -> None:
    stored, yard = make(base, digest, head)
    assert explain_base(stored, yard) == said
