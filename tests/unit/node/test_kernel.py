"""Limits of the kernel, raised and never lowered, in a tree like /proc/sys."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from goldsmith.node.kernel import LEAST, SYSCTLS, ensure_limits


def make_tree(root: Path, value: str) -> None:
    for name in LEAST:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)


def read_tree(root: Path) -> dict[str, int]:
    return {name: int((root / name).read_text()) for name in LEAST}


def test_low_limits_are_raised(tmp_path: Path) -> None:
    make_tree(tmp_path, "128\n")
    ensure_limits(tmp_path)
    assert read_tree(tmp_path) == LEAST


def test_high_limits_stay(tmp_path: Path) -> None:
    make_tree(tmp_path, f"{1 << 30}\n")
    ensure_limits(tmp_path)
    assert set(read_tree(tmp_path).values()) == {1 << 30}


def test_a_refusal_is_logged_with_the_line_that_helps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ensure_limits(tmp_path / "nothing")
    assert "sysctl fs.inotify.max_user_instances=65536" in caplog.text


def test_this_kernel_has_each_of_them() -> None:
    assert all((SYSCTLS / name).exists() for name in LEAST)
