"""What tests of several folders use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goldsmith.cli.signals import HEARD

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


@pytest.fixture
def hear_signals() -> Iterator[None]:
    """Whatever started the tests may ignore SIGHUP (nohup) or SIGINT (a shell's `&`); what they start would, too."""
    before = {number: signal.getsignal(number) for number in HEARD}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
