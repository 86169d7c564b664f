"""A project of its own for each test, and a home without anything installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.build.cache.projects import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("ANSIBLE_ROLES_PATH", "ANSIBLE_COLLECTIONS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Project(tmp_path / "project")
