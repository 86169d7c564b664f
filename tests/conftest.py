"""What tests of several folders use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.registry import RealRegistry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """Debian's docker-registry, running."""
    from tests.contract.registry import RealRegistry  # not for tests that want none

    made = RealRegistry(tmp_path / "registry")
    made.start()
    yield made
    made.kill()
