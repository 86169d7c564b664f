"""A setting for tests of the proxy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.provision.downloads.store import Store
from tests.unit.provision.downloads.mirrors import Mirror, Setting, open_mirror


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with tempfile.TemporaryDirectory(prefix="gs-") as folder, open_mirror(Mirror()) as mirror:  # short, for sockets
        yield Setting(mirror, Store(tmp_path / "store"), Path(folder))
