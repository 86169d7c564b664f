"""The size of the disk that a backup is restored into."""

from __future__ import annotations

import pytest

from goldsmith.fleet.actions.restore import GIB, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * GIB),
        ("512M", GIB // 2),
        ("1T", 1024 * GIB),
        ("1536M", 3 * GIB // 2),
        ("0T", 0),
        ("", None),
        ("x", None),
    ],
)
def test_a_size_as_a_configuration_has_it(text: str, size: int | None) -> None:
    assert parse_size(text) == size
