"""Running the real command: in a process of its own, as a person does, or in ours where only the outcome matters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

GOLDSMITH = (sys.executable, "-m", "goldsmith.cli.main")


def make_environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which nothing of the tester's own counts: no home, no colors, no node but one in `home`."""
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
    own = {"HOME": str(home), "GOLDSMITH_NODE_STATE": str(home / "node"), "TERM": "dumb"}
    return {**passed, **own, **(more or {})}


def goldsmith(
    *arguments: str | Path, home: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command line and return what it said."""
    return subprocess.run(
        [*GOLDSMITH, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
        cwd=cwd or home, env=make_environment(home, env), stdin=subprocess.DEVNULL,
    )  # fmt: skip
